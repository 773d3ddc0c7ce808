//! A module as `status` and `list` show it: what is durable, and what this node is doing with it.
use alloc::{string::ToString, vec::Vec};
use tidemill_protocol::admin::{self, Counters, InputStatus, ModuleState, ModuleStatus, TaskStatus};

use super::{
    deployed::{Deployed, Load},
    durable::Deployment,
};
use crate::state::State;

/// One deployment as it stands now.
pub(super) fn status(state: &State, durable: &Deployment, soft: Option<&Deployed>) -> ModuleStatus {
    let (module_state, reason) = match (&durable.paused, soft.map(|soft| &soft.load)) {
        (Some(reason), _) => (ModuleState::Paused, Some(reason.clone())),
        (None, Some(Load::Failed(reason))) => (ModuleState::Failed, Some(reason.clone())),
        (None, Some(Load::Ready)) => {
            let troubles = soft
                .into_iter()
                .flat_map(|soft| &soft.members)
                .filter_map(|member| member.error.as_ref());
            (ModuleState::Running, troubles.max().cloned())
        }
        (None, _) => (ModuleState::Staged, None),
    };
    let totals = state.modules.totals(durable.name());
    ModuleStatus {
        module: durable.name().to_string(),
        version: durable.manifest.module.version.clone(),
        digest: admin::Digest(durable.digest),
        state: module_state,
        reason,
        deployed_at: durable.deployed_at,
        counters: Counters {
            records_in: totals.records_in,
            records_out: totals.records_out,
            batches: totals.batches,
            given_up: totals.given_up,
            failures: soft.map_or(0, |soft| soft.failures),
            refused: soft.map_or(0, |soft| soft.refused),
        },
        tasks: tasks(state, durable, soft),
    }
}

fn tasks(state: &State, durable: &Deployment, soft: Option<&Deployed>) -> Vec<TaskStatus> {
    let inputs = durable
        .manifest
        .input
        .iter()
        .filter_map(|input| state.topics.get(&input.topic));
    let count = inputs.map(|topic| topic.partitions()).max().unwrap_or(0);
    (0..count).map(|number| task(state, durable, soft, number)).collect()
}

fn task(state: &State, durable: &Deployment, soft: Option<&Deployed>, number: u32) -> TaskStatus {
    let own = soft.and_then(|soft| soft.tasks.get(&number));
    let member = soft.and_then(|soft| soft.members.get(own?.member));
    let kept = state.modules.task(durable.name(), number);
    TaskStatus {
        number,
        phase: own.map_or(admin::Phase::Idle, |task| task.phase()),
        generation: kept.map_or(0, |task| task.generation),
        member: member.map(|member| member.id.clone()),
        attempt: own.map_or(1, |task| task.plan.attempt),
        last_error: own.and_then(|task| task.plan.last_error.clone()),
        inputs: inputs(state, durable, number),
    }
}

fn inputs(state: &State, durable: &Deployment, number: u32) -> Vec<InputStatus> {
    let mut inputs = Vec::new();
    for input in &durable.manifest.input {
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
