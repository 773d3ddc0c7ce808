//! Which release of a module runs, as entries decide it.
//!
//! ```text
//!             deploy                      switch, a task each                  settle
//!  current ───────────► rollout.to staged ───────────────────► every task there ──────► current
//!                          │      ▲                                  │
//!                          │      └── promote ── canary              │
//!                          └───────────────── rollback ◄─────────────┘   (a rollout to what ran before)
//! ```
//!
//! A release with another layout of the state takes over all tasks at once, when the state of each has it: see [`migration`].
//!
//! Guaranteed: each of these is one entry, so that after a crash each task runs one release that the deployment allows, from the
//! offsets and over the state that its last commit left. A release that is not allowed any more cannot commit: a batch that is with
//! it is refused whole and done again by the release that took over.
use alloc::string::String;

use super::{
    apply::{Applied, find, forget_failures},
    change::{Deploy, Outcome, Promote, Refused, Rollback, Settle, Switch},
    deploy_rules,
    durable::{Deployment, Release, Rollout},
    migration,
};
use crate::{
    effect::Changes,
    entry::Stamp,
    limits::{MODULES_MAX, RELEASES_KEPT},
    state::State,
};

pub(super) fn deploy(state: &mut State, at: Stamp, deploy: &Deploy, changes: &mut Changes) -> Applied {
    let name = deploy.manifest.name();
    let known = state.modules.deployments.get(name);
    if known.is_none() && MODULES_MAX <= state.modules.deployments.len() {
        return Err(Refused::TooManyModules);
    }
    let inputs = deploy.manifest.input.iter().map(|input| input.topic.as_str());
    let is_trial = deploy.canary.is_some() && known.is_some_and(|known| known.paused.is_none());
    let reads_other = |known: &Deployment| {
        let topics = known.manifest().input.iter().map(|input| input.topic.as_str());
        !topics.eq(inputs.clone())
    };
    if is_trial && known.is_some_and(reads_other) {
        return Err(Refused::CanaryReads);
    }
    let layout = known.map(|known| known.running().state_version);
    if let Some(layout) = layout.filter(|layout| is_trial && *layout != deploy.state_version) {
        return Err(Refused::CanaryLayout(layout, deploy.state_version));
    }
    deploy_rules::check(state, deploy)?;
    for new in &deploy.topics {
        if state.topics.get(&new.name).is_none() {
            // The core itself chose name and count, so what can be wrong is the bound on all partitions. What was created stays.
            state
                .create_topic(changes, new)
                .map_err(|code| Refused::Topic(new.name.clone(), code))?;
        }
    }
    let must_wait = must_wait(state, name, deploy.state_version);
    let Some(known) = state.modules.deployments.get_mut(name) else {
        let deployment = Deployment {
            id: at.index,
            incarnation: at.index,
            state: at.index,
            releases: [release(deploy, 1, at, Some(at.time))].into(),
            current: 1,
            rollout: None,
            paused: None,
            migrated: None,
        };
        deployment.save(changes);
        state.modules.deployments.insert(name.into(), deployment);
        return Ok(Outcome::Done);
    };
    let aim = known.rollout.as_ref().map_or(known.current, |rollout| rollout.to);
    let aimed = known.release(aim);
    let again = aimed.is_some_and(|aimed| aimed.digest == deploy.digest && aimed.manifest == deploy.manifest);
    let number = match again {
        true => aim,
        false => known.releases.last().map_or(1, |last| last.number + 1),
    };
    if !again {
        known.releases.push(release(deploy, number, at, None));
    }
    aim_at(known, number, (deploy.canary.is_some(), must_wait), at);
    if let Some(rollout) = &mut known.rollout {
        rollout.canary = deploy.canary.clone().filter(|_| is_trial);
    }
    forget_oldest(state, name);
    finish(state, name, changes)
}

fn release(deploy: &Deploy, number: u32, at: Stamp, activated_at: Option<i64>) -> Release {
    Release {
        number,
        manifest: deploy.manifest.clone(),
        digest: deploy.digest,
        state_version: deploy.state_version,
        deployed_at: at.time,
        by: deploy.by.clone(),
        activated_at,
        returned: None,
    }
}

/// Makes a release the one that is to run: at once while nothing runs, unless the state has to be migrated from a release that could
/// go on if that fails (`must_wait`); else by a rollout.
fn aim_at(deployment: &mut Deployment, number: u32, (is_trial, must_wait): (bool, bool), at: Stamp) {
    // Tasks that wait for their state to be migrated have to be told that they need not.
    let goes_elsewhere = deployment.rollout.as_ref().is_some_and(|rollout| rollout.to != number);
    let is_held = goes_elsewhere && deployment.changes_layout().is_some();
    let was_paused = deployment.paused.take().is_some();
    if is_held || was_paused {
        deployment.incarnation = at.index;
    }
    if was_paused && !must_wait {
        deployment.rollout = None;
        activate(deployment, number, at);
    } else if number != deployment.current || deployment.rollout.is_some() {
        let since = match &deployment.rollout {
            Some(rollout) if rollout.to == number && rollout.canary.is_some() == is_trial => rollout.since,
            _ => at.time,
        };
        deployment.rollout = Some(Rollout {
            to: number,
            canary: None,
            since,
        });
    }
}

/// Whether the state has to be migrated to this layout from that of the release that runs.
fn must_wait(state: &State, module: &str, layout: u32) -> bool {
    let running = state.modules.get(module).map(|known| known.running().state_version);
    let running_fits = running.is_some_and(|running| all_fit(state, module, running));
    running_fits && !all_fit(state, module, layout)
}

/// Whether every task's state has this layout.
fn all_fit(state: &State, module: &str, layout: u32) -> bool {
    let mut tasks = state.modules.tasks.get(module).into_iter().flatten();
    tasks.all(|(_, task)| task.fits(layout))
}

fn activate(deployment: &mut Deployment, number: u32, at: Stamp) {
    deployment.current = number;
    if let Some(release) = deployment.releases.iter_mut().find(|release| release.number == number) {
        release.activated_at = Some(at.time);
        release.returned = None;
    }
}

/// Forgets the oldest releases beyond the bound. What runs anywhere is kept.
fn forget_oldest(state: &mut State, module: &str) {
    let tasks = state.modules.tasks.get(module);
    let runs = |number: u32| tasks.is_some_and(|tasks| tasks.values().any(|task| task.release == number));
    let Some(deployment) = state.modules.deployments.get_mut(module) else {
        return;
    };
    let aim = deployment.rollout.as_ref().map(|rollout| rollout.to);
    while RELEASES_KEPT < deployment.releases.len() {
        let is_free = |release: &Release| {
            release.number != deployment.current && Some(release.number) != aim && !runs(release.number)
        };
        let Some(oldest) = deployment.releases.iter().position(is_free) else {
            return;
        };
        deployment.releases.remove(oldest);
    }
}

/// Another release begins with no failures; then the deployment is saved.
fn finish(state: &mut State, module: &str, changes: &mut Changes) -> Applied {
    forget_failures(state, module, changes);
    migration::forget_unused(state, module, changes);
    find(state, module)?.save(changes);
    Ok(Outcome::Done)
}

pub(super) fn switch(state: &mut State, at: Stamp, switch: &Switch, changes: &mut Changes) -> Applied {
    let deployment = find(state, &switch.module)?;
    let is_current = deployment.incarnation == switch.incarnation && deployment.paused.is_none();
    if !is_current || !deployment.allows(switch.task, switch.release) {
        return Err(Refused::Fenced);
    }
    let tasks = state.modules.tasks.get_mut(&switch.module);
    let task = tasks.and_then(|tasks| tasks.get_mut(&switch.task));
    let Some(task) = task.filter(|task| task.generation == switch.generation) else {
        return Err(Refused::Fenced);
    };
    task.generation = at.index;
    task.release = switch.release;
    if task.migration.as_ref().is_some_and(|own| own.release != switch.release) {
        task.drop_copy(switch.task, changes);
    }
    task.window.chunks.clear();
    task.save(&switch.module, switch.task, changes);
    Ok(Outcome::Claimed(at.index))
}

pub(super) fn settle(state: &mut State, at: Stamp, settle: &Settle, changes: &mut Changes) -> Applied {
    let deployment = find(state, &settle.module)?;
    let is_done = |rollout: &Rollout| rollout.to == settle.release && rollout.canary.is_none();
    let is_current = deployment.incarnation == settle.incarnation && deployment.paused.is_none();
    if !is_current || !deployment.rollout.as_ref().is_some_and(is_done) {
        return Err(Refused::Fenced);
    }
    let is_migrated = deployment.changes_layout().is_some();
    if is_migrated || !deployment.reads_the_same(settle.release) {
        deployment.incarnation = at.index;
    }
    if is_migrated {
        migration::adopt_all(state, at, &settle.module, settle.release, changes);
    }
    let deployment = find(state, &settle.module)?;
    deployment.rollout = None;
    if deployment.current != settle.release {
        activate(deployment, settle.release, at);
    }
    migration::forget_unused(state, &settle.module, changes);
    find(state, &settle.module)?.save(changes);
    Ok(Outcome::Done)
}

pub(super) fn rollback(state: &mut State, at: Stamp, rollback: &Rollback, changes: &mut Changes) -> Applied {
    let deployment = find(state, &rollback.module)?;
    let taking_over = deployment.rollout.as_ref().map(|rollout| rollout.to);
    if rollback.from.is_some() && (rollback.from != taking_over || deployment.paused.is_some()) {
        return Err(Refused::Fenced);
    }
    let in_rollout = taking_over.is_some_and(|to| to != deployment.current);
    let target = match &rollback.to {
        Some(wanted) => deployment.find(wanted),
        None if in_rollout => Some(deployment.running()),
        None => {
            let older = |release: &&Release| release.number < deployment.current;
            deployment.releases.iter().rev().find(older)
        }
    };
    let target = target.ok_or_else(|| Refused::UnknownRelease(rollback.to.clone()))?;
    let (number, layout) = (target.number, target.state_version);
    let mut outcome = Outcome::Done;
    match (all_fit(state, &rollback.module, layout), rollback.restore_state) {
        (true, true) => return Err(Refused::NothingToRestore),
        (false, true) => {
            let since = migration::restore(state, at, &rollback.module, number, changes)?;
            outcome = Outcome::Restored(since);
        }
        (_, false) => refuse_older(state, &rollback.module, layout)?,
    }
    let must_wait = must_wait(state, &rollback.module, layout);
    let deployment = find(state, &rollback.module)?;
    let left = taking_over.filter(|to| *to != number);
    if let Some(left) = deployment
        .releases
        .iter_mut()
        .find(|release| Some(release.number) == left)
    {
        left.returned = Some(rollback.reason.clone());
    }
    if rollback.restore_state {
        // What runs was made for the state that is forgotten: the release does not wait for it.
        deployment.paused = None;
        deployment.rollout = None;
        deployment.incarnation = at.index;
        activate(deployment, number, at);
    } else {
        aim_at(deployment, number, (false, must_wait), at);
    }
    finish(state, &rollback.module, changes)?;
    Ok(outcome)
}

/// Nobody migrates state to a layout older than its own, but what was before a migration may be kept.
fn refuse_older(state: &State, module: &str, layout: u32) -> Result<(), Refused> {
    let tasks = state.modules.tasks.get(module).into_iter().flatten();
    let newest = tasks.filter_map(|(_, task)| task.layout).max();
    let Some(newest) = newest.filter(|newest| layout < *newest) else {
        return Ok(());
    };
    let migrated = state.modules.get(module).and_then(|known| known.migrated.as_ref());
    let is_kept = migrated.is_some_and(|migrated| migrated.from == layout);
    Err(Refused::OlderLayout(layout, newest, is_kept))
}

pub(super) fn promote(state: &mut State, at: Stamp, promote: &Promote, changes: &mut Changes) -> Applied {
    let deployment = find(state, &promote.module)?;
    let is_meant = |rollout: &&mut Rollout| promote.release.is_none_or(|release| release == rollout.to);
    let trial = deployment.rollout.as_mut().filter(is_meant);
    let trial = trial.filter(|rollout| rollout.canary.is_some());
    let rollout = trial.ok_or(Refused::NoCanary)?;
    rollout.canary = None;
    rollout.since = at.time;
    deployment.save(changes);
    Ok(Outcome::Done)
}

/// What a refused release was called, for a message.
pub(super) fn wanted(release: Option<&String>) -> String {
    release.map_or_else(
        || String::from("before the one that runs"),
        |wanted| alloc::format!("{wanted:?}"),
    )
}
