//! A module as `status` and `list` show it: what is durable, and what this node is doing with it.
use alloc::{collections::BTreeSet, string::ToString, vec::Vec};
use tidemill_protocol::admin::{
    self, Counters, InputStatus, ModuleState, ModuleStatus, RolloutStatus, TableStatus, TaskStatus, VersionState,
    VersionStatus,
};

use super::{
    deployed::Deployed,
    durable::{Deployment, Release},
    edition::Load,
    fill::Fills,
};
use crate::state::State;

/// One deployment as it stands now.
pub(super) fn status(
    state: &State,
    now: i64,
    durable: &Deployment,
    soft: Option<&Deployed>,
    fills: &Fills,
) -> ModuleStatus {
    let edition = soft.and_then(|soft| soft.editions.get(&durable.current));
    let held_by = || edition.and_then(|edition| edition.held_by(state));
    let (module_state, reason) = match (&durable.paused, edition.map(|edition| &edition.load)) {
        (Some(reason), _) => (ModuleState::Paused, Some(reason.clone())),
        (None, Some(Load::Failed(reason))) => (ModuleState::Failed, Some(reason.clone())),
        (None, Some(Load::Ready)) if !soft.is_some_and(Deployed::is_ready) => (ModuleState::Staged, held_by()),
        (None, Some(Load::Ready)) => {
            let troubles = soft
                .into_iter()
                .flat_map(|soft| &soft.members)
                .filter_map(|member| member.error.as_ref());
            (ModuleState::Running, troubles.max().cloned().or_else(held_by))
        }
        (None, _) => (ModuleState::Staged, None),
    };
    let totals = state.modules.totals(durable.name());
    let tasks = tasks(state, now, durable, soft);
    let mut usage = admin::Usage::default();
    tasks.iter().for_each(|task| usage.add(&task.usage));
    ModuleStatus {
        module: durable.name().to_string(),
        version: durable.manifest().module.version.clone(),
        number: durable.current,
        digest: admin::Digest(durable.running().digest),
        state: module_state,
        rollout: rollout(state, durable, soft),
        reason,
        deployed_at: durable.running().deployed_at,
        dead_letter: durable.manifest().dead_letter.topic.clone(),
        counters: Counters {
            records_in: totals.records_in,
            records_out: totals.records_out,
            batches: totals.batches,
            given_up: totals.given_up,
            failures: soft.map_or(0, |soft| soft.failures),
            refused: soft.map_or(0, |soft| soft.refused),
        },
        usage,
        state_bytes: tasks.iter().map(|task| task.state_bytes).sum(),
        tables: tables(state, now, durable, fills),
        tasks,
    }
}

/// The tables of what runs and of what takes over.
fn tables(state: &State, now: i64, durable: &Deployment, fills: &Fills) -> Vec<TableStatus> {
    let taking_over = durable.rollout.as_ref().and_then(|rollout| durable.release(rollout.to));
    let releases = [Some(durable.running()), taking_over].into_iter().flatten();
    let named: BTreeSet<_> = releases.flat_map(|release| &release.manifest.tables).collect();
    let mut tables = Vec::with_capacity(named.len());
    for (name, topic) in named {
        if let Some(view) = state.modules.view(&state.topics, topic) {
            tables.push(TableStatus {
                name: name.clone(),
                topic: topic.clone(),
                behind: view.behind(state),
                behind_ms: fills.behind_ms(state, view, now),
                left_out: view.left_out,
            });
        }
    }
    tables
}

fn rollout(state: &State, durable: &Deployment, soft: Option<&Deployed>) -> Option<RolloutStatus> {
    let rollout = durable.rollout.as_ref()?;
    let release = durable.release(rollout.to)?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let canary = rollout.canary.as_ref().map(|canary| admin::Canary {
        tasks: count(canary.tasks.len()),
        failures_max: canary.failures_max,
        lag_max: canary.lag_max.unsigned_abs(),
        promote_after_ms: canary.promote_after_ms.unsigned_abs(),
    });
    let tasks = state.modules.tasks.get(durable.name()).into_iter().flatten();
    let switched = tasks.filter(|(_, task)| task.release == rollout.to).count();
    Some(RolloutStatus {
        version: release.manifest.module.version.clone(),
        number: release.number,
        since: rollout.since,
        tasks: count(switched),
        canary,
        failures: soft.map_or(0, |soft| soft.trial.failures),
    })
}

/// The releases that are kept, oldest first, each with what it grants beyond the one before.
pub(super) fn history(durable: &Deployment) -> Vec<VersionStatus> {
    let mut before: Option<&Release> = None;
    let mut history = Vec::with_capacity(durable.releases.len());
    for release in &durable.releases {
        let rollout = durable.rollout.as_ref().filter(|rollout| rollout.to == release.number);
        let state = match rollout {
            _ if release.number == durable.current => VersionState::Running,
            Some(rollout) if rollout.canary.is_some() => VersionState::Canary,
            Some(_) => VersionState::TakingOver,
            None => VersionState::Kept,
        };
        let changes = before.map_or_else(Vec::new, |before| release.manifest.changes_from(&before.manifest));
        before = Some(release);
        history.push(VersionStatus {
            number: release.number,
            version: release.manifest.module.version.clone(),
            digest: admin::Digest(release.digest),
            state_version: release.state_version,
            state,
            deployed_at: release.deployed_at,
            by: release.by.clone(),
            activated_at: release.activated_at,
            returned: release.returned.clone(),
            changes,
        });
    }
    history
}

fn tasks(state: &State, now: i64, durable: &Deployment, soft: Option<&Deployed>) -> Vec<TaskStatus> {
    let inputs = durable
        .manifest()
        .input
        .iter()
        .filter_map(|input| state.topics.get(&input.topic));
    let count = inputs.map(|topic| topic.partitions()).max().unwrap_or(0);
    (0..count)
        .map(|number| task(state, now, durable, soft, number))
        .collect()
}

fn task(state: &State, now: i64, durable: &Deployment, soft: Option<&Deployed>, number: u32) -> TaskStatus {
    let own = soft.and_then(|soft| soft.tasks.get(&number));
    let member = soft.and_then(|soft| soft.members.get(own?.member));
    let kept = state.modules.task(durable.name(), number);
    TaskStatus {
        number,
        phase: own.map_or(admin::Phase::Idle, |task| task.phase()),
        version: kept.map_or(0, |task| task.release),
        generation: kept.map_or(0, |task| task.generation),
        member: member.map(|member| member.id.clone()),
        attempt: own.map_or(1, |task| task.plan.attempt),
        last_error: own.and_then(|task| task.plan.last_error.clone()),
        inputs: inputs(state, durable, number),
        usage: soft
            .and_then(|soft| soft.usage.get(&number))
            .map_or_else(admin::Usage::default, |usage| usage.status(now)),
        state_bytes: kept.map_or(0, |task| task.state_bytes),
        watermark: kept.and_then(|task| task.event_time.watermark),
    }
}

fn inputs(state: &State, durable: &Deployment, number: u32) -> Vec<InputStatus> {
    let mut inputs = Vec::new();
    for input in &durable.manifest().input {
        let Some(topic) = state.topics.get(&input.topic) else {
            continue;
        };
        let Some((partition, log)) = i32::try_from(number)
            .ok()
            .and_then(|partition| Some((partition, topic.log(partition)?)))
        else {
            continue;
        };
        let Some(log) = state.logs.get(&log) else { continue };
        let committed = state
            .offsets
            .get(durable.name(), &topic.id, partition)
            .map(|committed| committed.offset);
        let position = committed.unwrap_or(log.start).max(log.start);
        let high_watermark = log.high_watermark();
        let lag = (high_watermark - position).max(0);
        inputs.push(InputStatus {
            topic: input.topic.clone(),
            position,
            high_watermark,
            lag,
        });
    }
    inputs
}
