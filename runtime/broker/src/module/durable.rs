//! What is kept of modules: deployments and their tasks. Their own state is not here but in storage, where it may outgrow memory.
use alloc::{collections::BTreeMap, string::String, sync::Arc};
use bytes::Bytes;
use tidemill_protocol::manifest::Manifest;

use super::{Version, change::Totals, run::TaskKey, window::Window};
use crate::{
    effect::{Changes, Row, Table},
    stored,
    stored::{Malformed, Stored, Writer},
};

stored! {
    /// A module that somebody deployed.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Deployment {
        /// Its own number, never used again: index of the entry that created it.
        pub id: u64,
        /// Index of the entry that deployed, paused or resumed it last.
        pub incarnation: u64,
        /// What it is and may do.
        pub manifest: Arc<Manifest>,
        /// SHA-256 of the component.
        pub digest: [u8; 32],
        /// Time of the last deploy, milliseconds.
        pub deployed_at: i64,
        /// Why it is paused, if it is.
        pub paused: Option<String>,
    }
}

impl Deployment {
    /// Name, which is also its consumer group.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.name()
    }

    /// What the host calls it.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            module: self.name().into(),
            label: self.manifest.module.version.clone(),
            digest: self.digest,
        }
    }

    /// What the host calls one of its tasks.
    #[must_use]
    pub fn task_key(&self, number: u32) -> TaskKey {
        TaskKey {
            module: self.name().into(),
            deployment: self.id,
            number,
        }
    }

    pub(super) fn save(&self, changes: &mut Changes) {
        changes.put(Table::Module, Bytes::copy_from_slice(self.name().as_bytes()), self);
    }
}

stored! {
    /// One task of a deployment: partition `number` of every input.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Task {
        /// Index of the entry in which its owner took it.
        pub generation: u64,
        /// Member id of its owner.
        pub member: String,
        /// Sums over its life.
        pub totals: Totals,
        /// How its last records fared, when the manifest has `stop-if`.
        pub window: Window,
    }
}

impl Task {
    pub(super) fn save(&self, module: &str, number: u32, changes: &mut Changes) {
        changes.put(Table::Task, task_row(module, number), self);
    }
}

/// What is kept of modules, but for their own state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {
    pub(super) deployments: BTreeMap<String, Deployment>,
    pub(super) tasks: BTreeMap<String, BTreeMap<u32, Task>>,
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

    pub(crate) fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
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
