//! What is kept of modules: deployments and their tasks. Their own state is not here but in storage, where it may outgrow memory.
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{ids::Uuid, manifest::Manifest};

use super::{
    Version,
    change::Totals,
    event_time::EventTimes,
    marks::Marks,
    migration::{Kept, Migrated, Migration},
    run::{Due, TaskKey},
    view::View,
    window::Window,
};
use crate::{
    effect::{Changes, Row, Table},
    stored,
    stored::{Malformed, Stored, Writer},
    topic::Topics,
};

stored! {
    /// A module that somebody deployed.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Deployment {
        /// Its own number, never used again: index of the entry that created it.
        pub id: u64,
        /// Index of the entry that created, paused, resumed or rewound it last, or replaced what it reads or the layout of its state.
        pub incarnation: u64,
        /// Number of the state of tasks that begin with none: index of the entry that began it. State that is forgotten is never gone
        /// back to.
        pub state: u64,
        /// Versions that are kept, oldest first. Never empty.
        pub releases: Vec<Release>,
        /// Number of the release that runs, but for the tasks that were switched already.
        pub current: u32,
        /// Another release is taking over.
        pub rollout: Option<Rollout>,
        /// Why it is paused, if it is.
        pub paused: Option<String>,
        /// The last migration, as long as the state of before is kept.
        pub migrated: Option<Migrated>,
    }
}

stored! {
    /// One version of a deployment, as it was deployed.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Release {
        /// From 1, never used again within the deployment.
        pub number: u32,
        /// What it is and may do.
        pub manifest: Arc<Manifest>,
        /// SHA-256 of the component.
        pub digest: [u8; 32],
        /// Layout of the state that it reads and writes: what `migrator.state-version` says, 0 without that.
        pub state_version: u32,
        /// Time of the deploy, milliseconds.
        pub deployed_at: i64,
        /// Who deployed it.
        pub by: String,
        /// When it last became the one that runs, milliseconds.
        pub activated_at: Option<i64>,
        /// Why it was taken back before it ran everywhere.
        pub returned: Option<String>,
    }
}

stored! {
    /// A release that takes over, task by task.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rollout {
        /// Its number.
        pub to: u32,
        /// Only some tasks, for now.
        pub canary: Option<Canary>,
        /// When it began, milliseconds.
        pub since: i64,
    }
}

stored! {
    /// A release on trial.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Canary {
        /// Tasks that run it.
        pub tasks: Vec<u32>,
        /// It is taken back when more runs than this fail, or more records than this are given up.
        pub failures_max: u32,
        /// It is taken back when one of its tasks is further behind than this, in records; 0 does not look.
        pub lag_max: i64,
        /// It takes over everywhere when it has run for so long, milliseconds; 0 waits for `promote`.
        pub promote_after_ms: i64,
    }
}

impl Release {
    /// What the host calls it.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            module: self.manifest.name().into(),
            number: self.number,
            label: self.manifest.module.version.clone(),
            digest: self.digest,
        }
    }
}

impl Deployment {
    /// Name, which is also its consumer group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest().name()
    }

    /// The release that runs, but for tasks that were switched already.
    #[must_use]
    pub fn running(&self) -> &Release {
        self.release(self.current)
            .expect("the release that runs is never dropped")
    }

    /// What the running release is and may do.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.running().manifest
    }

    /// A release that is kept.
    #[must_use]
    pub fn release(&self, number: u32) -> Option<&Release> {
        self.releases.iter().find(|release| release.number == number)
    }

    /// The release that somebody means by its label or its number; the youngest of those with that label.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Option<&Release> {
        let labelled = |release: &&Release| release.manifest.module.version == wanted;
        let numbered = || wanted.parse().ok().and_then(|number| self.release(number));
        self.releases.iter().rev().find(labelled).or_else(numbered)
    }

    /// What the host calls the release that runs.
    #[must_use]
    pub fn version(&self) -> Version {
        self.running().version()
    }

    /// Whether this task may run this release now.
    #[must_use]
    pub fn allows(&self, task: u32, release: u32) -> bool {
        let taking_over = self.rollout.as_ref().is_some_and(|rollout| {
            let included = |canary: &Canary| canary.tasks.contains(&task);
            rollout.to == release && rollout.canary.as_ref().is_none_or(included)
        });
        release == self.current || taking_over
    }

    /// Whether a release can take over task by task: it reads what the running one reads.
    #[must_use]
    pub fn reads_the_same(&self, release: u32) -> bool {
        let Some(release) = self.release(release) else {
            return false;
        };
        let topics = |manifest: &Manifest| manifest.input.iter().map(|input| input.topic.clone()).collect();
        let (one, other): (Vec<String>, Vec<String>) = (topics(self.manifest()), topics(&release.manifest));
        one == other
    }

    /// The layout that the state has to get before the release that takes over can do so, if it has another.
    #[must_use]
    pub fn changes_layout(&self) -> Option<u32> {
        let rollout = self.rollout.as_ref().filter(|rollout| rollout.canary.is_none())?;
        let layout = self.release(rollout.to)?.state_version;
        (layout != self.running().state_version).then_some(layout)
    }

    pub(super) fn save(&self, changes: &mut Changes) {
        changes.put(Table::Module, Bytes::copy_from_slice(self.name().as_bytes()), self);
    }
}

stored! {
    /// One task of a deployment: partition `number` of every input.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Task {
        /// Index of the entry in which its owner took it, in which it was switched to another release, or in which its state was migrated.
        pub generation: u64,
        /// Release that it runs.
        pub release: u32,
        /// Member id of its owner.
        pub member: String,
        /// Sums over its life.
        pub totals: Totals,
        /// How its last records fared, when the manifest has `stop-if`.
        pub window: Window,
        /// Dead letters that were processed again.
        pub redriven: Marks,
        /// Index of the entry in which it was owned first.
        pub begun: u64,
        /// Number of its state; 0 until it is owned.
        pub state: u64,
        /// Layout of its state; `None` as long as nothing was written.
        pub layout: Option<u32>,
        /// Its state on the way to another layout. Until that is done, the task commits nothing.
        pub migration: Option<Migration>,
        /// Its state as of the last migration.
        pub kept: Option<Kept>,
        /// Bytes of its state, timers included: keys and values, and [`STATE_ROW_BYTES`](super::run::STATE_ROW_BYTES) for each row.
        pub state_bytes: u64,
        /// How far event time has come.
        pub event_time: EventTimes,
        /// When its timers are due.
        pub due: Due,
        /// How many times timers have fired.
        pub firings: u64,
    }
}

impl Task {
    /// Whether a release with this layout can go on with its state.
    #[must_use]
    pub fn fits(&self, layout: u32) -> bool {
        self.layout.is_none_or(|own| own == layout)
    }

    pub(super) fn save(&self, module: &str, number: u32, changes: &mut Changes) {
        changes.put(Table::Task, task_row(module, number), self);
    }
}

/// What is kept of modules, but for their own state and the rows of tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {
    pub(super) deployments: BTreeMap<String, Deployment>,
    pub(super) tasks: BTreeMap<String, BTreeMap<u32, Task>>,
    /// Tables, by topic.
    pub(super) views: BTreeMap<Uuid, View>,
}

impl Durable {
    /// The deployment of this name.
    #[must_use]
    pub fn get(&self, module: &str) -> Option<&Deployment> {
        self.deployments.get(module)
    }

    /// In order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }

    /// A task that was ever owned.
    #[must_use]
    pub fn task(&self, module: &str, number: u32) -> Option<&Task> {
        self.tasks.get(module)?.get(&number)
    }

    /// What the host calls a task of a deployment that exists.
    #[must_use]
    pub fn task_key(&self, deployment: &Deployment, number: u32) -> TaskKey {
        let module = deployment.name();
        let own = self.task(module, number).map(|task| task.state);
        TaskKey {
            module: module.into(),
            deployment: own.filter(|own| *own != 0).unwrap_or(deployment.state),
            number,
        }
    }

    /// Sums over all tasks of a deployment.
    #[must_use]
    pub fn totals(&self, module: &str) -> Totals {
        let mut totals = Totals::default();
        self.tasks
            .get(module)
            .into_iter()
            .flatten()
            .for_each(|(_, task)| totals.add(task.totals));
        totals
    }

    /// Bytes of state of all tasks of a deployment.
    #[must_use]
    pub fn state_bytes(&self, module: &str) -> u64 {
        let tasks = self.tasks.get(module).into_iter().flatten();
        tasks.map(|(_, task)| task.state_bytes).sum()
    }

    /// The table that is a view of a topic.
    #[must_use]
    pub fn view(&self, topics: &Topics, topic: &str) -> Option<&View> {
        self.views.get(&topics.get(topic)?.id)
    }

    pub(crate) fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
        if row.table == Table::View {
            let view = View::from_row(value)?;
            self.views.insert(view.id.topic, view);
            return Ok(());
        }
        if row.table == Table::Module {
            let deployment = Deployment::from_row(value)?;
            self.deployments.insert(deployment.name().into(), deployment);
            return Ok(());
        }
        let (module, number) = <(String, u32)>::from_row(&row.key)?;
        self.tasks
            .entry(module)
            .or_default()
            .insert(number, Task::from_row(value)?);
        Ok(())
    }
}

/// Key of a task's row.
pub(super) fn task_row(module: &str, number: u32) -> Bytes {
    let mut writer = Writer::default();
    writer.count(module.len());
    writer.put(module.as_bytes());
    number.store(&mut writer);
    writer.into_bytes()
}
