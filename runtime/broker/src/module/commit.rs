//! The entry that commits a batch: what is in it, and what came of it.
use alloc::{format, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{batch::Batch, manifest::Manifest};

use super::{
    change::{Commit, Outcome, Owner, Progress, Refused, Totals},
    deployed::Deployed,
    event_time::{EventTimes, Seen},
    logs,
    member::is_fencing,
    policy::{Case, Plan},
    run::Processed,
    task::{Committing, Phase, Task},
    tickets::Tickets,
    work::Patience,
};
use crate::{batch, context::Context, effect::LogId, limits::MODULE_TROUBLE_MS, state::State};

/// What is wrong with an output, as the reason for a pause.
type Unacceptable = String;

impl Deployed {
    /// This node's ownership of a task.
    pub(super) fn owner(&self, number: u32, task: &Task) -> Owner {
        let member = &self.members[task.member];
        Owner {
            module: self.name.clone(),
            incarnation: self.incarnation,
            task: number,
            generation: task.generation,
            member: member.id.clone(),
            epoch: member.epoch,
        }
    }

    /// The entry that commits a batch, and what becomes true with it; `None` when no record was acknowledged.
    pub(super) fn commit(
        &self,
        ctx: &Context<'_>,
        manifest: &Manifest,
        task: &Task,
        processed: &mut Processed,
    ) -> Result<Option<(Commit, Committing)>, Unacceptable> {
        let state = ctx.state;
        let mut positions: Vec<i64> = task.sources.iter().map(|source| source.position).collect();
        let mut inputs = Vec::new();
        for (topic, partition, next) in &processed.next {
            let Some(place) = task.place(topic, *partition) else {
                continue;
            };
            let source = &task.sources[place];
            let next = (*next).min(source.high_watermark(state)).min(task.plan.until(place));
            if source.position < next {
                positions[place] = next;
                let (topic, partition, expected) = (source.id, source.partition, source.committed);
                inputs.push(Progress {
                    topic,
                    partition,
                    expected,
                    next,
                });
            }
        }
        // Only timers are delivered without a record.
        let fired = processed.next.is_empty();
        if inputs.is_empty() && !fired {
            return Ok(None);
        }
        let by_core = task
            .plan
            .give_up
            .iter()
            .filter(|(place, record)| record.offset < positions[*place])
            .count();
        let by_core = u32::try_from(by_core).unwrap_or(u32::MAX);
        let given_up = processed.given_up.saturating_add(by_core);
        let records = processed.usage.records.saturating_add(by_core);
        let window = self.window(state, processed.task.number);
        let case = Case {
            manifest,
            sources: &task.policy_sources(),
            window: &window,
        };
        if let Some(reason) = Plan::stops(case, records, given_up) {
            return Err(reason);
        }
        let outputs = output_logs(state, core::mem::take(&mut processed.outputs))?;
        let event_time = event_times(ctx, manifest, task, processed);
        let committing = Committing {
            positions,
            metrics: core::mem::take(&mut processed.metrics),
            event_time: event_time.clone(),
            due: processed.due,
            state_growth: processed.state_growth,
            fired,
            served: fired || processed.usage.records != 0,
        };
        let commit = Commit {
            owner: self.owner(processed.task.number, task),
            inputs,
            outputs,
            state: core::mem::take(&mut processed.state),
            state_growth: processed.state_growth,
            event_time,
            due: processed.due,
            firing: fired.then_some(task.firings),
            totals: Totals {
                records_in: u64::from(records),
                records_out: processed.output_records,
                batches: 1,
                given_up: u64::from(given_up),
            },
            redriven: None,
        };
        Ok(Some((commit, committing)))
    }

    /// What came of a commit; `None` when it never became an entry.
    pub(super) fn committed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        (number, token): (u32, u64),
        outcome: Option<Outcome>,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.token == token) else {
            return;
        };
        let Phase::Committing(committing) = &mut task.phase else {
            return;
        };
        let done = core::mem::take(committing);
        if task.letter.is_some() {
            if matches!(
                outcome,
                Some(Outcome::Done | Outcome::Claimed(_) | Outcome::Restored(_))
            ) {
                task.commit(&done, ctx.now);
            }
            logs::measure(&mut self.measures, done.metrics);
            return self.letter_committed(ctx, tickets, number, outcome);
        }
        match outcome {
            Some(Outcome::Done | Outcome::Claimed(_) | Outcome::Restored(_)) => {
                let moved = task.sources.iter().zip(&done.positions);
                let records = moved
                    .map(|(source, position)| position.saturating_sub(source.position))
                    .sum::<i64>();
                task.commit(&done, ctx.now);
                task.plan.committed(&done.positions);
                logs::measure(&mut self.measures, done.metrics);
                let records = u64::try_from(records).unwrap_or(0);
                self.usage.entry(number).or_default().committed(ctx.now, records);
                self.on_trial(ctx, number, 0);
            }
            Some(Outcome::Refused(refused)) => return self.commit_refused(ctx, tickets, number, refused),
            None => {
                task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
                return;
            }
        }
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        if task.revoking {
            return self.hand_over(ctx, tickets, number);
        }
        task.phase = Phase::Idle(None);
        self.advance(ctx, tickets, number, Patience::None);
    }

    /// Nothing of the batch was kept: somebody else was first, or an output is gone.
    pub(super) fn commit_too_large(&mut self, ctx: &mut Context<'_>, (number, token): (u32, u64)) {
        if self.tasks.get(&number).is_some_and(|task| task.token == token) {
            let why = "what a batch commits (outputs, dead letters, state) is larger than an entry of the log may be: \
                       lower `batch.max-records` or `batch.max-bytes`";
            self.pause(ctx, number, why.into());
        }
    }

    pub(super) fn commit_refused(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        number: u32,
        refused: Refused,
    ) {
        self.refused += 1;
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        if task.revoking {
            return self.hand_over(ctx, tickets, number);
        }
        match refused {
            Refused::OutputGone(_) => {
                self.pause(
                    ctx,
                    number,
                    "an output topic was deleted while the batch was committed".into(),
                );
            }
            Refused::Moved(..) => {
                for source in &mut task.sources {
                    source.seek(ctx.state, &self.name);
                }
                task.plan = Plan::default();
                task.phase = Phase::Idle(None);
                self.advance(ctx, tickets, number, Patience::None);
            }
            Refused::Member(code) if is_fencing(code) => {
                let member = task.member;
                self.member_refused(member, code);
                self.poll_members(ctx, tickets);
            }
            // The member's new epoch is on its way to it, or has come meanwhile.
            Refused::Member(_) => {
                task.phase = Phase::Idle(Some(ctx.now + MODULE_TROUBLE_MS));
                let member = task.member;
                if self.is_current(ctx.state, member) {
                    self.advance(ctx, tickets, number, Patience::None);
                }
            }
            _ => {
                self.tasks.remove(&number);
                self.settle(ctx, tickets);
            }
        }
    }
}

/// How far event time has come with a batch, if the module has it.
fn event_times(ctx: &Context<'_>, manifest: &Manifest, task: &Task, processed: &Processed) -> Option<EventTimes> {
    if !manifest.has_event_time() {
        return None;
    }
    let mut times = EventTimes::default();
    for (topic, partition, at) in &processed.event_times {
        if let Some(place) = task.place(topic, *partition) {
            times.latest.insert(task.sources[place].id, *at);
        }
    }
    let seen = task.sources.iter().map(|source| {
        let new = times.latest.get(&source.id).copied();
        Seen {
            latest: source.seen.latest.max(new),
            heard: if new.is_some() { ctx.now } else { source.seen.heard },
            ..source.seen
        }
    });
    times.watermark = task.watermark_at(ctx.state, seen, ctx.now);
    Some(times)
}

/// The logs of output batches, if their topics take them.
pub(super) fn output_logs(
    state: &State,
    batches: Vec<(String, u32, Bytes)>,
) -> Result<Vec<(LogId, Bytes)>, Unacceptable> {
    let log = |(topic, partition, batch): (String, u32, Bytes)| {
        let log = output_log(state, &topic, partition, &batch)?;
        Ok((log, batch))
    };
    batches.into_iter().map(log).collect()
}

/// The log of an output batch, if the topic takes it.
fn output_log(state: &State, topic: &str, partition: u32, output: &Bytes) -> Result<LogId, Unacceptable> {
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    let Some((log, _)) = state.log(topic, partition) else {
        return Err(format!("output {topic}/{partition} does not exist"));
    };
    let Some(topic_state) = state.topics.get(topic) else {
        return Err(format!("output {topic} does not exist"));
    };
    let settings = state.settings(topic_state);
    let Ok(batch) = Batch::parse(output.clone()) else {
        return Err(format!(
            "the host made a malformed record batch for {topic}/{partition}"
        ));
    };
    if settings.batch_bytes_max() < output.len() {
        let (bytes, most) = (output.len(), settings.batch_bytes_max());
        return Err(format!(
            "{topic}/{partition} refuses a batch of {bytes} bytes: max.message.bytes is {most}"
        ));
    }
    if settings.is_compacted() && !batch::has_keys(&batch) {
        return Err(format!(
            "{topic}/{partition} refuses a record without a key: it is compacted"
        ));
    }
    Ok(log)
}
