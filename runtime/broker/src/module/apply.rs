//! Changes of modules taking effect.
//!
//! A [`Commit`] checks everything before it changes anything: deployment (`incarnation`), owner and release (`generation`, and the
//! group's own rule), every expected offset, every output log. Only if all of it holds are outputs appended, state written and
//! offsets committed, and all of that is one entry. So a batch that is committed twice, by a zombie or after an unknown outcome,
//! is refused the second time without a trace.
use alloc::{string::String, vec::Vec};

use tidemill_protocol::ids::Uuid;

use super::{
    change::{Change, Claim, Commit, Outcome, Owner, Pause, Refused},
    durable::{Deployment, Task, task_row},
    migration, releases, rewind,
    run::TaskKey,
    state_key, view,
};
use crate::{
    effect::{Changes, Table},
    entry::{CommittedOffset, Stamp},
    state::State,
};

/// What a change came to, or why it changed nothing.
pub(super) type Applied = Result<Outcome, Refused>;

/// Applies a change.
pub(crate) fn apply(state: &mut State, at: Stamp, change: &Change, changes: &mut Changes) -> Outcome {
    let applied = match change {
        Change::Deploy(deploy) => releases::deploy(state, at, deploy, changes),
        Change::Pause(pause) => self::pause(state, at, pause, changes),
        Change::Resume(module) => resume(state, at, module, changes),
        Change::Delete(module) => delete(state, at, module, changes),
        Change::Claim(claim) => self::claim(state, at, claim, changes),
        Change::Commit(commit) => self::commit(state, at, commit, changes),
        Change::Switch(switch) => releases::switch(state, at, switch, changes),
        Change::Settle(settle) => releases::settle(state, at, settle, changes),
        Change::Rollback(rollback) => releases::rollback(state, at, rollback, changes),
        Change::Promote(promote) => releases::promote(state, at, promote, changes),
        Change::Rewind(rewind) => rewind::apply(state, at, rewind, changes),
        Change::Fill(fill) => view::fill(state, fill, changes),
        Change::Migrate(migrate) => migration::migrate(state, at, migrate, changes),
    };
    applied.unwrap_or_else(Outcome::Refused)
}

fn pause(state: &mut State, at: Stamp, pause: &Pause, changes: &mut Changes) -> Applied {
    let deployment = find(state, &pause.module)?;
    if pause
        .incarnation
        .is_some_and(|incarnation| incarnation != deployment.incarnation)
    {
        return Err(Refused::Fenced);
    }
    deployment.incarnation = at.index;
    deployment.paused = Some(pause.reason.clone());
    deployment.save(changes);
    Ok(Outcome::Done)
}

fn resume(state: &mut State, at: Stamp, module: &str, changes: &mut Changes) -> Applied {
    let deployment = find(state, module)?;
    if deployment.paused.is_none() {
        return Ok(Outcome::Done);
    }
    deployment.incarnation = at.index;
    deployment.paused = None;
    deployment.save(changes);
    forget_failures(state, module, changes);
    Ok(Outcome::Done)
}

/// Whoever lets a module go on has seen the failures; they must not stop it again by themselves.
pub(super) fn forget_failures(state: &mut State, module: &str, changes: &mut Changes) {
    for (number, task) in state.modules.tasks.get_mut(module).into_iter().flatten() {
        if !task.window.chunks.is_empty() {
            task.window.chunks.clear();
            task.save(module, *number, changes);
        }
    }
}

fn delete(state: &mut State, at: Stamp, module: &str, changes: &mut Changes) -> Applied {
    let deployment = state.modules.deployments.remove(module).ok_or(Refused::UnknownModule)?;
    changes.delete(Table::Module, module.as_bytes().to_vec());
    for (number, mut task) in state.modules.tasks.remove(module).unwrap_or_default() {
        changes.delete(Table::Task, task_row(module, number));
        task.forget_state(number, changes);
    }
    // Offsets go with the state that they belong to: without it, going on from them would be neither a continuation nor a start.
    let topics = deployment
        .manifest()
        .input
        .iter()
        .filter_map(|input| state.topics.get(&input.topic));
    let topics: Vec<_> = topics.map(|topic| topic.id).collect();
    let offsets = state.offsets.of_group(module).map(|(place, _)| *place);
    let offsets: Vec<_> = offsets.filter(|(topic, _)| topics.contains(topic)).collect();
    state.delete_offsets(changes, at, module, &offsets);
    Ok(Outcome::Done)
}

fn claim(state: &mut State, at: Stamp, claim: &Claim, changes: &mut Changes) -> Applied {
    let deployment = find(state, &claim.module)?;
    let begins_with = deployment.state;
    let allowed = claim
        .tasks
        .iter()
        .all(|(task, release)| deployment.allows(*task, *release));
    if deployment.incarnation != claim.incarnation || deployment.paused.is_some() || !allowed {
        return Err(Refused::Fenced);
    }
    let allowed = state
        .groups
        .check_commit(&claim.module, &claim.member, None, claim.epoch);
    allowed.map_err(Refused::Member)?;
    let tasks = state.modules.tasks.entry(claim.module.clone()).or_default();
    for (number, release) in &claim.tasks {
        let task = tasks.entry(*number).or_default();
        if task.begun == 0 {
            (task.begun, task.state) = (at.index, begins_with);
        }
        task.generation = at.index;
        task.release = *release;
        task.member.clone_from(&claim.member);
        task.save(&claim.module, *number, changes);
    }
    let fresh = claim
        .starts
        .iter()
        .filter(|start| state.offsets.get(&claim.module, &start.0, start.1).is_none());
    let starts: Vec<_> = fresh
        .map(|&(topic, partition, offset)| committed(topic, partition, offset))
        .collect();
    if !starts.is_empty() {
        state.commit_offsets(changes, at, &claim.module, &starts);
    }
    Ok(Outcome::Claimed(at.index))
}

fn commit(state: &mut State, at: Stamp, commit: &Commit, changes: &mut Changes) -> Applied {
    let (deployment, task) = check_commit(state, commit)?;
    let release = deployment.release(task.release);
    let (layout, stop_if) = (
        release.map(|release| release.state_version),
        release.and_then(|release| release.manifest.dead_letter.stop_if),
    );
    let key = TaskKey {
        module: commit.owner.module.clone(),
        deployment: task.state,
        number: commit.owner.task,
    };
    for (log, batch) in &commit.outputs {
        state.append(changes, at, *log, batch.clone());
    }
    for (key, value) in state_key::rows(&key, &commit.state) {
        changes.put_raw(Table::ModuleState, key, value);
    }
    let offsets = commit
        .inputs
        .iter()
        .map(|input| committed(input.topic, input.partition, input.next));
    let offsets: Vec<_> = offsets.collect();
    if !offsets.is_empty() {
        state.commit_offsets(changes, at, &commit.owner.module, &offsets);
    }
    let letters_start = commit.redriven.as_ref().and_then(|letter| {
        let topic = state.topics.get_by_id(&letter.topic)?;
        state.logs.get(&topic.log(letter.partition)?).map(|log| log.start)
    });
    let tasks = state
        .modules
        .tasks
        .get_mut(&commit.owner.module)
        .expect("the check found the task");
    let task = tasks.get_mut(&commit.owner.task).expect("the check found the task");
    if !commit.state.is_empty() {
        task.layout = layout;
    }
    task.totals.add(commit.totals);
    task.state_bytes = task.state_bytes.saturating_add_signed(commit.state_growth);
    task.due = commit.due.unwrap_or(task.due);
    task.firings += u64::from(commit.firing.is_some());
    if let Some(event_time) = &commit.event_time {
        task.event_time.advance(event_time);
    }
    if let Some(letter) = &commit.redriven {
        task.redriven.add(letter);
        if let Some(start) = letters_start {
            task.redriven.forget_before(letter.topic, letter.partition, start);
        }
    }
    if let Some(stop_if) = stop_if {
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        task.window.add(
            stop_if.of_last,
            small(commit.totals.records_in),
            small(commit.totals.given_up),
        );
    }
    task.save(&commit.owner.module, commit.owner.task, changes);
    Ok(Outcome::Done)
}

/// The deployment and the task, if this is still who owns it: what it began is to be committed.
pub(super) fn check_owner<'a>(state: &'a State, owner: &Owner) -> Result<(&'a Deployment, &'a Task), Refused> {
    let deployment = state.modules.get(&owner.module).ok_or(Refused::UnknownModule)?;
    let task = state.modules.task(&owner.module, owner.task).ok_or(Refused::Fenced)?;
    let current = deployment.incarnation == owner.incarnation && deployment.paused.is_none();
    let current = current && deployment.allows(owner.task, task.release);
    if !current || task.generation != owner.generation || task.member != owner.member {
        return Err(Refused::Fenced);
    }
    let allowed = state
        .groups
        .check_commit(&owner.module, &owner.member, None, owner.epoch);
    allowed.map_err(Refused::Member)?;
    Ok((deployment, task))
}

fn check_commit<'a>(state: &'a State, commit: &Commit) -> Result<(&'a Deployment, &'a Task), Refused> {
    let (deployment, task) = check_owner(state, &commit.owner)?;
    let release = deployment.release(task.release);
    let fits = release.is_some_and(|release| task.fits(release.state_version));
    if !fits || task.migration.is_some() || commit.firing.is_some_and(|firing| firing != task.firings) {
        return Err(Refused::Fenced);
    }
    for input in &commit.inputs {
        let exists = state
            .topics
            .get_by_id(&input.topic)
            .is_some_and(|topic| topic.log(input.partition).is_some());
        let found = state
            .offsets
            .get(&commit.owner.module, &input.topic, input.partition)
            .map(|found| found.offset);
        if !exists || found != input.expected {
            return Err(Refused::Moved(input.topic, input.partition));
        }
    }
    if let Some(letter) = &commit.redriven {
        if task.redriven.contains(letter) {
            return Err(Refused::Moved(letter.topic, letter.partition));
        }
        if task.redriven.is_full() {
            return Err(Refused::TooManyGaps);
        }
    }
    match commit.outputs.iter().find(|(log, _)| !state.logs.contains_key(log)) {
        Some((log, _)) => Err(Refused::OutputGone(*log)),
        None => Ok((deployment, task)),
    }
}

pub(super) fn find<'a>(state: &'a mut State, module: &str) -> Result<&'a mut Deployment, Refused> {
    state.modules.deployments.get_mut(module).ok_or(Refused::UnknownModule)
}

pub(super) fn committed(topic: Uuid, partition: i32, offset: i64) -> CommittedOffset {
    CommittedOffset {
        topic,
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    }
}

#[cfg(test)]
mod tests;
