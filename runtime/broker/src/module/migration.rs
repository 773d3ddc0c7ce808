//! State on its way from one layout to another, as entries decide it.
//!
//! ```text
//!            Copying ──► ... ──► Migrating ──► ... ──► Done ──► the copy is the state: all tasks at once, with the release (Settle),
//!  chunk:    rows as they are    what the guest rewrites         or, where the release runs already, the task by itself
//! ```
//!
//! The copy is a full one, not the changes over the old rows: the old state has to stay whole, because `rollback --restore-state` may ask
//! for it, and reads of the new state should not have to look at two places for ever. Rows are copied raw, whatever bucket they are in,
//! so timers and the index of what expires move along.
//!
//! Guaranteed: a task whose state is on its way commits nothing, so the copy is never behind; a chunk is accepted only after the one that
//! it follows, from the owner of the task, for a release that may take over; until the last one the state is what it was. The state of
//! before is kept until the next migration, or until no release is kept that could read it.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{ids::Uuid, manifest::Manifest};

use super::{
    apply::{Applied, check_owner, committed, find},
    change::{Migrate, Outcome, Refused},
    durable::Task,
    event_time::EventTimes,
    marks::Marks,
    run::{Due, TaskKey},
    state_key,
};
use crate::{
    effect::{Changes, LogId, Table},
    entry::{CommittedOffset, Stamp},
    state::State,
    stored,
    topic::{Log, Topic},
};

stored! {
    /// How far a migration is.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Step {
        /// Rows are copied up to this one, see [`state_key::in_task`].
        Copying(Bytes) = 1,
        /// All are; the guest stopped at this cursor, or has not begun.
        Migrating(Option<Bytes>) = 2,
        /// All of the copy has the new layout.
        Done(()) = 3,
    }
}

stored! {
    /// A task's state on its way.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Migration {
        /// The release whose layout it gets.
        pub release: u32,
        /// Number of the copy: index of the entry that began it.
        pub copy: u64,
        /// Bytes of the copy when it is done, as [`Task::state_bytes`].
        pub state_bytes: u64,
        /// Chunks that are committed.
        pub chunks: u64,
        /// How far it is.
        pub step: Step,
    }
}

stored! {
    /// The last migration of a deployment.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Migrated {
        /// The layout that the state had.
        pub from: u32,
        /// Index of the entry that ended it, or of the first of those where tasks went by themselves.
        pub index: u64,
        /// When, milliseconds.
        pub at: i64,
    }
}

stored! {
    /// A task as it was before its state was migrated.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Kept {
        /// Layout of the state.
        pub layout: u32,
        /// Number of the state; `None` if there was none.
        pub state: Option<u64>,
        /// As in [`Task`].
        pub state_bytes: u64,
        /// As in [`Task`].
        pub event_time: EventTimes,
        /// As in [`Task`].
        pub due: Due,
        /// As in [`Task`].
        pub redriven: Marks,
        /// What was committed, or would have been read first: (topic, partition, offset).
        pub offsets: Vec<(Uuid, i32, i64)>,
    }
}

/// Applies a chunk.
pub(super) fn migrate(state: &mut State, at: Stamp, migrate: &Migrate, changes: &mut Changes) -> Applied {
    let (deployment, task) = check_owner(state, &migrate.owner)?;
    let release = deployment.release(migrate.release).ok_or(Refused::Fenced)?;
    let is_meant = deployment.allows(migrate.owner.task, migrate.release) && !task.fits(release.state_version);
    let own = task.migration.as_ref().filter(|own| own.release == migrate.release);
    let is_next =
        own.map_or(0, |own| own.chunks) == migrate.expected && own.is_none_or(|own| own.step != Step::Done(()));
    if !is_meant || !is_next {
        return Err(Refused::Fenced);
    }
    let (layout, from) = (release.state_version, task.layout.unwrap_or(0));
    let runs_already = task.release == migrate.release;
    let inputs = deployment.manifest().clone();
    let copy = own.map_or(at.index, |own| own.copy);
    let key = TaskKey {
        module: migrate.owner.module.clone(),
        deployment: copy,
        number: migrate.owner.task,
    };
    for (key, value) in state_key::rows(&key, &migrate.rows) {
        changes.put_raw(Table::ModuleState, key, value);
    }
    let offsets = offsets(state, &migrate.owner.module, &inputs, migrate.owner.task);
    let tasks = state.modules.tasks.get_mut(&migrate.owner.module);
    let task = tasks.and_then(|tasks| tasks.get_mut(&migrate.owner.task));
    let task = task.expect("the check found the task");
    if task.migration.as_ref().is_some_and(|other| other.copy != copy) {
        // For a release that runs, while another one takes over now.
        task.drop_copy(migrate.owner.task, changes);
    }
    let state_bytes = task.migration.as_ref().map_or(task.state_bytes, |own| own.state_bytes);
    task.migration = Some(Migration {
        release: migrate.release,
        copy,
        state_bytes: state_bytes.saturating_add_signed(migrate.growth),
        chunks: migrate.expected + 1,
        step: migrate.step.clone(),
    });
    let mut outcome = Outcome::Done;
    if migrate.step == Step::Done(()) && runs_already {
        task.adopt(migrate.owner.task, (from, layout), offsets, changes);
        task.generation = at.index;
        outcome = Outcome::Claimed(at.index);
    }
    task.save(&migrate.owner.module, migrate.owner.task, changes);
    if outcome != Outcome::Done {
        let deployment = find(state, &migrate.owner.module)?;
        if deployment.migrated.is_none() {
            deployment.migrated = Some(Migrated {
                from,
                index: at.index,
                at: at.time,
            });
            deployment.save(changes);
        }
    }
    Ok(outcome)
}

/// Makes the copies that are done the state of their tasks, all at once: the release takes over with this entry.
pub(super) fn adopt_all(state: &mut State, at: Stamp, module: &str, release: u32, changes: &mut Changes) {
    let Some(deployment) = state.modules.deployments.get_mut(module) else {
        return;
    };
    let (from, manifest) = (deployment.running().state_version, deployment.manifest().clone());
    let Some(layout) = deployment.release(release).map(|release| release.state_version) else {
        return;
    };
    deployment.migrated = Some(Migrated {
        from,
        index: at.index,
        at: at.time,
    });
    let numbers = state.modules.tasks.get(module).into_iter().flatten();
    let numbers: Vec<u32> = numbers.map(|(number, _)| *number).collect();
    for number in numbers {
        let offsets = offsets(state, module, &manifest, number);
        let tasks = state.modules.tasks.get_mut(module);
        let Some(task) = tasks.and_then(|tasks| tasks.get_mut(&number)) else {
            continue;
        };
        let is_done = |own: &Migration| own.release == release && own.step == Step::Done(());
        if task.layout.is_none() || task.migration.as_ref().is_some_and(is_done) {
            task.adopt(number, (from, layout), offsets, changes);
            task.release = release;
            task.generation = at.index;
        } else {
            // Nobody here owns it. What is kept of it is of an earlier migration.
            task.drop_kept(number, changes);
        }
        task.save(module, number, changes);
    }
}

/// Forgets copies that no release is there for any more, and what is kept that no release could read.
pub(super) fn forget_unused(state: &mut State, module: &str, changes: &mut Changes) {
    let Some(deployment) = state.modules.deployments.get_mut(module) else {
        return;
    };
    let layouts = deployment.releases.iter().map(|release| release.state_version);
    let layouts: BTreeSet<u32> = layouts.collect();
    deployment
        .migrated
        .take_if(|migrated| !layouts.contains(&migrated.from));
    let goes_on = |own: &Migration| {
        let taking_over = deployment.rollout.as_ref().map(|rollout| rollout.to);
        own.release == deployment.current || Some(own.release) == taking_over
    };
    for (number, task) in state.modules.tasks.get_mut(module).into_iter().flatten() {
        let has_copy = task.migration.as_ref().is_some_and(|own| !goes_on(own));
        let has_kept = task.kept.as_ref().is_some_and(|kept| !layouts.contains(&kept.layout));
        if has_copy {
            task.drop_copy(*number, changes);
        }
        if has_kept {
            task.drop_kept(*number, changes);
        }
        if has_copy || has_kept {
            task.save(module, *number, changes);
        }
    }
}

/// Makes state and offsets what they were before the migration away from this layout; when that was. Tasks that have the layout stay as
/// they are; a task that is younger than the migration begins where its inputs do.
pub(super) fn restore(
    state: &mut State,
    at: Stamp,
    module: &str,
    release: u32,
    changes: &mut Changes,
) -> Result<i64, Refused> {
    let deployment = find(state, module)?;
    let release = deployment
        .release(release)
        .ok_or(Refused::UnknownRelease(None))?
        .clone();
    let layout = release.state_version;
    let migrated = deployment.migrated.clone();
    let migrated = migrated.filter(|migrated| migrated.from == layout);
    let migrated = migrated.ok_or(Refused::NotKept(layout))?;
    let tasks = state.modules.tasks.get(module).into_iter().flatten();
    let is_lost = |task: &Task| match &task.kept {
        _ if task.fits(layout) => false,
        Some(kept) => kept.layout != layout,
        None => task.begun <= migrated.index,
    };
    if tasks.map(|(_, task)| task).any(is_lost) {
        return Err(Refused::NotKept(layout));
    }
    let mut offsets = Vec::new();
    for (number, task) in state.modules.tasks.get_mut(module).into_iter().flatten() {
        task.drop_copy(*number, changes);
        let is_kept = task.kept.as_ref().is_some_and(|kept| kept.layout == layout);
        if task.fits(layout) && !is_kept {
            task.save(module, *number, changes);
            continue;
        }
        match task.kept.take() {
            Some(kept) => {
                offsets.extend(&kept.offsets);
                task.restore(*number, kept, at.index, changes);
            }
            None => {
                for input in &release.manifest.input {
                    let topic = state.topics.get(&input.topic);
                    let partition = i32::try_from(*number).ok();
                    offsets.extend(partition.and_then(|partition| first(&state.logs, topic?, partition)));
                }
                task.begin_state(*number, at.index, changes);
            }
        }
        task.save(module, *number, changes);
    }
    let offsets: Vec<CommittedOffset> = offsets
        .into_iter()
        .map(|(topic, partition, offset)| committed(topic, partition, offset))
        .collect();
    state.commit_offsets(changes, at, module, &offsets);
    find(state, module)?.migrated = None;
    Ok(migrated.at)
}

impl Task {
    /// The copy, if there is one, becomes the state; what was is kept.
    fn adopt(
        &mut self,
        number: u32,
        (from, layout): (u32, u32),
        offsets: Vec<(Uuid, i32, i64)>,
        changes: &mut Changes,
    ) {
        self.drop_kept(number, changes);
        let migration = self.migration.take();
        self.kept = Some(Kept {
            layout: self.layout.unwrap_or(from),
            state: migration.as_ref().map(|_| self.state),
            state_bytes: self.state_bytes,
            event_time: self.event_time.clone(),
            due: self.due,
            redriven: self.redriven.clone(),
            offsets,
        });
        if let Some(Migration { copy, state_bytes, .. }) = migration {
            (self.state, self.state_bytes, self.layout) = (copy, state_bytes, Some(layout));
        }
    }

    fn restore(&mut self, number: u32, kept: Kept, index: u64, changes: &mut Changes) {
        self.begin_state(number, kept.state.unwrap_or(index), changes);
        self.layout = kept.state.map(|_| kept.layout);
        (self.state_bytes, self.event_time, self.due) = (kept.state_bytes, kept.event_time, kept.due);
        self.redriven = kept.redriven;
    }

    /// Forgets the state and goes on with another one.
    fn begin_state(&mut self, number: u32, state: u64, changes: &mut Changes) {
        clear(self.state, number, changes);
        (self.state, self.layout) = (state, None);
        (self.state_bytes, self.event_time, self.due) = Default::default();
    }

    /// Forgets the state, and whatever is made or kept of it.
    pub(super) fn reset_state(&mut self, number: u32, state: u64, changes: &mut Changes) {
        self.forget_state(number, changes);
        self.begin_state(number, state, changes);
    }

    /// Deletes all rows of all states of the task.
    pub(super) fn forget_state(&mut self, number: u32, changes: &mut Changes) {
        self.drop_copy(number, changes);
        self.drop_kept(number, changes);
        clear(self.state, number, changes);
    }

    /// Gives a migration up.
    pub(super) fn drop_copy(&mut self, number: u32, changes: &mut Changes) {
        if let Some(migration) = self.migration.take() {
            clear(migration.copy, number, changes);
        }
    }

    fn drop_kept(&mut self, number: u32, changes: &mut Changes) {
        if let Some(state) = self.kept.take().and_then(|kept| kept.state) {
            clear(state, number, changes);
        }
    }
}

/// Deletes a task's rows of a state, at leisure.
fn clear(state: u64, number: u32, changes: &mut Changes) {
    let key = TaskKey {
        module: String::new(),
        deployment: state,
        number,
    };
    changes.cleared.push((Table::ModuleState, state_key::task_prefix(&key)));
}

/// Where a task stands in its inputs.
fn offsets(state: &State, module: &str, manifest: &Manifest, number: u32) -> Vec<(Uuid, i32, i64)> {
    let place = |topic: &String| {
        let (topic, partition) = (state.topics.get(topic)?, i32::try_from(number).ok()?);
        let committed = state.offsets.get(module, &topic.id, partition);
        let committed = committed.map(|committed| (topic.id, partition, committed.offset));
        committed.or_else(|| first(&state.logs, topic, partition))
    };
    let inputs = manifest.input.iter();
    inputs.filter_map(|input| place(&input.topic)).collect()
}

/// The first offset that an input has.
fn first(logs: &BTreeMap<LogId, Log>, topic: &Topic, partition: i32) -> Option<(Uuid, i32, i64)> {
    Some((topic.id, partition, logs.get(&topic.log(partition)?)?.start))
}
