//! What happens by itself as time passes: retention of records, expiry of producers.
//!
//! Once a minute storage is asked how far each log's start may move, and what it answers is proposed. Time that jumps does no harm: entry time
//! never goes back, and what retention deletes is decided by the records' own timestamps against the time of the question.
use alloc::vec::Vec;

use crate::{
    config_keys::{RETENTION_BYTES, RETENTION_MS},
    context::{Context, Waiter},
    effect::{LogId, RetentionQuery},
    entry::{Command, ExpireProducers, Trim},
    limits::{HOUSEKEEPING_INTERVAL_MS, PRODUCER_EXPIRY_MS},
    state::State,
};

/// The clock of housekeeping.
#[derive(Debug, Default)]
pub(crate) struct Housekeeping {
    due: Option<i64>,
}

impl Housekeeping {
    pub(crate) fn handle_start(&mut self, now: i64) {
        self.due = Some(now.saturating_add(HOUSEKEEPING_INTERVAL_MS));
    }

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        if self.due.is_none_or(|due| ctx.now < due) {
            return;
        }
        self.handle_start(ctx.now);
        let queries = queries(ctx.state, ctx.now);
        if !queries.is_empty() {
            ctx.find_retention(queries);
        }
        let before = ctx.now.saturating_sub(PRODUCER_EXPIRY_MS);
        if ctx.state.producers.any_before(before) {
            ctx.propose(Command::ExpireProducers(ExpireProducers { before }), Waiter::Nobody);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        self.due
    }
}

/// Proposes what retention found, where it still moves anything.
pub(crate) fn handle_retention(ctx: &mut Context<'_>, starts: &[(LogId, i64)]) {
    let trims: Vec<Trim> = starts
        .iter()
        .filter_map(|(id, start)| {
            let log = ctx.state.logs.get(id)?;
            let start = (*start).min(log.high_watermark());
            (log.start < start).then_some(Trim { log: *id, start })
        })
        .collect();
    if !trims.is_empty() {
        ctx.propose(Command::TrimLogs(trims), Waiter::Nobody);
    }
}

fn queries(state: &State, now: i64) -> Vec<RetentionQuery> {
    let mut queries = Vec::new();
    for topic in state.topics.iter() {
        let settings = state.settings(topic);
        if !settings.is_deleted() {
            continue;
        }
        let ms = settings.number(&RETENTION_MS);
        let delete_before = (0 <= ms).then(|| now.saturating_sub(ms));
        let bytes_max = u64::try_from(settings.number(&RETENTION_BYTES)).ok();
        if delete_before.is_none() && bytes_max.is_none() {
            continue;
        }
        let filled = topic
            .logs
            .iter()
            .filter(|log| state.logs.get(log).is_some_and(|log| log.start < log.end));
        queries.extend(filled.map(|log| RetentionQuery {
            log: *log,
            delete_before,
            bytes_max,
        }));
    }
    queries
}
