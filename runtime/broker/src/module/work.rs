//! The poll loop of a task: read, run, commit, and again.
use alloc::{boxed::Box, format, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{
    batch::{Batch, batches},
    manifest::Manifest,
    records::Records,
};

use super::{
    change::{Change, Commit, Outcome, Pause, Progress, Refused, Totals},
    deployed::Deployed,
    edition::Edition,
    event_time::{EventTimes, Seen},
    logs,
    member::is_fencing,
    policy::{Case, Next, Plan},
    run::{EventTime, Input, Kind, Limits, Processed, Run, TaskKey, Verdict},
    task::{Committing, Phase, Task},
    tickets::{ReadFor, Tickets, Waiter},
    window::Window,
};
use crate::{
    batch,
    context::{self, Context, Reading},
    effect::{Effect, LogId, LogRead, ReadAnswer, ReadError},
    entry::Command,
    limits::MODULE_TROUBLE_MS,
    state::State,
};

/// Whether to wait for more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// What is there has waited already.
    None,
    /// As long as `batch.linger` says.
    Linger,
}

/// What is wrong with an output, as the reason for a pause.
type Unacceptable = String;

impl Deployed {
    /// Starts the next batch of an idle task if there is anything to read.
    pub(super) fn advance(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, patience: Patience) {
        let is_idle = |task: &Task| matches!(task.phase, Phase::Idle(_));
        if !self.tasks.get(&number).is_some_and(is_idle)
            || self.switch(ctx, number)
            || self.run_letter(ctx, number)
            || self.hold_for_shadow(ctx, tickets, number)
        {
            return;
        }
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        let (Phase::Idle(linger), Some(edition)) = (&task.phase, self.editions.get(&task.release)) else {
            return;
        };
        let (linger, batch) = (*linger, &edition.manifest.batch);
        if task.fires(ctx.state, ctx.now) {
            return self.fire(ctx, tickets, number);
        }
        let backlog = task.backlog(ctx.state);
        task.wake = task.next_wake(ctx.now);
        if backlog == 0 {
            task.phase = Phase::Idle(None);
            return;
        }
        let until = linger.unwrap_or(ctx.now.saturating_add(batch.linger.as_millis_i64()));
        if patience == Patience::Linger && ctx.now < until && backlog < i64::from(batch.max_records) {
            task.phase = Phase::Idle(Some(until));
            return;
        }
        let places = task.readable(ctx.state);
        let read = |place: &usize| {
            let source = &task.sources[*place];
            let until = source.high_watermark(ctx.state);
            LogRead {
                log: source.log,
                from: source.position,
                until,
                bytes_max: batch.max_bytes.as_usize(),
            }
        };
        let reads = places.iter().map(read).collect();
        let ticket = tickets.read(&self.name, number, task.token, ReadFor::Batch);
        task.turn = (places[0] + 1) % task.sources.len();
        task.phase = Phase::Reading(places);
        ctx.read(reads, Reading::Module(ticket));
    }

    /// The records are there: runs the guest.
    pub(super) fn read(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        (number, token): (u32, u64),
        answer: ReadAnswer,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.token == token) else {
            return;
        };
        let Phase::Reading(places) = &mut task.phase else {
            return;
        };
        let places = core::mem::take(places);
        let mut inputs = Vec::with_capacity(places.len());
        let (mut skipped, mut failed) = (Vec::new(), answer.len() != places.len());
        let is_merged = 1 < places.len();
        for (place, records) in places.into_iter().zip(answer) {
            let source = &mut task.sources[place];
            match records {
                Ok(records) if records.is_empty() => {}
                Ok(records) => inputs.push(Input {
                    topic: source.topic.clone(),
                    partition: source.partition.cast_unsigned(),
                    from: source.position,
                    until: task.plan.until(place),
                    give_up: given_up(&task.plan, place),
                    has_more: is_merged && last_offset(&records) < source.high_watermark(ctx.state) - 1,
                    records,
                }),
                Err(ReadError::Gone) => {
                    let start = ctx.state.logs.get(&source.log).map_or(source.position, |log| log.start);
                    skipped.push(format!(
                        "{}/{} offsets {} to {start}",
                        source.topic, source.partition, source.position
                    ));
                    failed |= start <= source.position;
                    source.position = source.position.max(start);
                }
                Err(ReadError::Failed) => failed = true,
            }
        }
        for what in &skipped {
            self.logs.note(
                ctx,
                "warn",
                number,
                format!("{what} were deleted by retention before they were read"),
            );
        }
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        if failed || (inputs.is_empty() && skipped.is_empty()) {
            task.plan.last_error = Some("the records could not be read".into());
            task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
        } else if inputs.is_empty() {
            task.phase = Phase::Idle(None);
            self.advance(ctx, tickets, number, Patience::None);
        } else {
            match self.run(ctx, number, inputs) {
                Some(run) => {
                    ctx.effect(Effect::Run(Box::new(run)));
                    if let Some(task) = self.tasks.get_mut(&number) {
                        task.phase = Phase::Running;
                    }
                }
                // Its release was taken from it meanwhile.
                None => self.begin_anew(ctx, tickets, number),
            }
        }
    }

    /// Gives a task up and takes it again, with the release that it is to run.
    fn begin_anew(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32) {
        self.tasks.remove(&number);
        self.settle(ctx, tickets);
    }

    /// Runs the guest over the timers that are due. When that has failed, one at a time: those before the one to blame get through.
    fn fire(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32) {
        let Some(mut run) = self.run(ctx, number, Vec::new()) else {
            return self.begin_anew(ctx, tickets, number);
        };
        let most = if run.attempt == 1 { run.limits.records_max } else { 1 };
        run.kind = Kind::Timers(most);
        if let Some(task) = self.tasks.get_mut(&number) {
            task.phase = Phase::Running;
        }
        ctx.effect(Effect::Run(Box::new(run)));
    }

    pub(super) fn run(&self, ctx: &Context<'_>, number: u32, inputs: Vec<Input>) -> Option<Run> {
        let edition = self.editions.get(&self.tasks.get(&number)?.release)?;
        self.run_of(ctx, number, edition, inputs)
    }

    /// A run of a task by a release; `None` if the task is not here.
    pub(super) fn run_of(&self, ctx: &Context<'_>, number: u32, edition: &Edition, inputs: Vec<Input>) -> Option<Run> {
        let task = self.tasks.get(&number)?;
        let (manifest, grants) = (&edition.manifest, &edition.grants);
        let (batch, limits) = (&manifest.batch, &manifest.limits);
        let event_time = || EventTime {
            watermark: task.watermark_at(ctx.state, task.seen(), ctx.now),
            latest: task.sources.iter().filter_map(|source| source.seen.latest).max(),
        };
        Some(Run {
            task: TaskKey {
                module: self.name.clone(),
                deployment: self.state,
                number,
            },
            version: edition.version.clone(),
            generation: task.generation,
            attempt: task.plan.attempt,
            now: ctx.now,
            is_fresh: task.is_fresh,
            event_time: manifest.has_event_time().then(event_time),
            state_bytes: task.state_bytes,
            kind: Kind::Records,
            inputs,
            outputs: grants.outputs.clone(),
            dead_letter: manifest.dead_letter.topic.clone(),
            buckets: grants.buckets.clone(),
            config: grants.config.clone(),
            metrics: grants.metrics.clone(),
            limits: Limits {
                records_max: batch.max_records,
                bytes_max: batch.max_bytes.as_usize(),
                timeout_ms: batch.timeout.as_millis_u32(),
                memory_bytes_max: limits.memory.as_usize(),
                output_bytes_max: limits.output_bytes.as_usize(),
                state_write_bytes_max: limits.state_write_bytes.as_usize(),
                state_bytes_max: limits.state_bytes.0,
                log_lines_per_second: limits.log_lines_per_second,
            },
        })
    }

    /// The host has run a batch.
    pub(super) fn processed(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, processed: Processed) {
        let Some(mut processed) = self.shadow_processed(ctx, tickets, processed) else {
            return;
        };
        for line in core::mem::take(&mut processed.logs) {
            self.logs.push(ctx, line);
        }
        let number = processed.task.number;
        self.usage.entry(number).or_default().add(&processed);
        let Some(task) = self
            .tasks
            .get(&number)
            .filter(|task| task.generation == processed.generation)
        else {
            return;
        };
        if !matches!(task.phase, Phase::Running) {
            return;
        }
        let Some(edition) = self.editions.get(&task.release) else {
            return self.begin_anew(ctx, tickets, number);
        };
        let manifest = edition.manifest.clone();
        if task.letter.is_some() {
            return self.letter_processed(ctx, tickets, number, processed);
        }
        if processed.verdict != Verdict::Ack {
            let verdict = core::mem::replace(&mut processed.verdict, Verdict::Ack);
            return self.failed(ctx, tickets, number, verdict);
        }
        match self.commit(ctx, &manifest, task, &mut processed) {
            Err(reason) => self.pause(ctx, number, reason),
            Ok(None) => self.failed(ctx, tickets, number, Verdict::Ack),
            Ok(Some((commit, committing))) => {
                let Some(task) = self.tasks.get_mut(&number) else {
                    return;
                };
                let waiter = Waiter::Commit {
                    module: self.name.clone(),
                    task: number,
                    token: task.token,
                };
                task.phase = Phase::Committing(committing);
                ctx.propose(Command::Module(Change::Commit(commit)), context::Waiter::Module(waiter));
            }
        }
    }

    /// The entry that commits a batch, and what becomes true with it; `None` when no record was acknowledged.
    fn commit(
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
        let member = &self.members[task.member];
        let event_time = event_times(ctx, manifest, task, processed);
        let committing = Committing {
            positions,
            metrics: core::mem::take(&mut processed.metrics),
            event_time: event_time.clone(),
            due: processed.due,
            state_growth: processed.state_growth,
            fired,
        };
        let commit = Commit {
            module: self.name.clone(),
            incarnation: self.incarnation,
            task: processed.task.number,
            generation: task.generation,
            member: member.id.clone(),
            epoch: member.epoch,
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

    /// A batch did not go well: the policy decides.
    fn failed(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, verdict: Verdict) {
        self.failures += 1;
        let window = self.window(ctx.state, number);
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        if task.revoking {
            // The next owner will find the same; nothing of this attempt is kept.
            return self.hand_over(ctx, tickets, number);
        }
        let Some(edition) = self.editions.get(&task.release) else {
            return self.begin_anew(ctx, tickets, number);
        };
        let attempt = task.plan.attempt;
        let mut plan = core::mem::take(&mut task.plan);
        let case = Case {
            manifest: &edition.manifest,
            sources: &task.policy_sources(),
            window: &window,
        };
        let next = plan.failed(case, verdict);
        let error = plan.last_error.clone();
        task.plan = plan;
        self.usage.entry(number).or_default().failed(ctx.now, error.as_ref());
        if let Some(error) = error {
            self.logs
                .note(ctx, "warn", number, format!("attempt {attempt} failed: {error}"));
        }
        self.on_trial(ctx, number, 1);
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        match next {
            Next::Again => {
                task.phase = Phase::Idle(None);
                self.advance(ctx, tickets, number, Patience::None);
            }
            Next::After(wait) => task.phase = Phase::Waiting(ctx.now.saturating_add(wait)),
            Next::Pause(reason) => self.pause(ctx, number, reason),
        }
    }

    /// Asks for the module to be paused. The task waits; if the pause does not become an entry, it tries again and gets here again.
    fn pause(&mut self, ctx: &mut Context<'_>, number: u32, reason: String) {
        if self.tasks.get(&number).is_some_and(|task| self.is_on_trial(task)) {
            // What a canary breaks is mended by taking the canary back.
            if let Some(task) = self.tasks.get_mut(&number) {
                task.plan.last_error = Some(reason.clone());
                task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
            }
            return self.give_back(ctx, format!("task {number}: {reason}"));
        }
        self.logs.note(ctx, "error", number, format!("pauses: {reason}"));
        ctx.note(format!("module {} pauses: task {number}: {reason}", self.name));
        if let Some(task) = self.tasks.get_mut(&number) {
            task.plan.last_error = Some(reason.clone());
            task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
        }
        let pause = Pause {
            module: self.name.clone(),
            incarnation: Some(self.incarnation),
            reason,
        };
        let waiter = Waiter::Pause {
            module: self.name.clone(),
        };
        ctx.propose(Command::Module(Change::Pause(pause)), context::Waiter::Module(waiter));
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
            if matches!(outcome, Some(Outcome::Done | Outcome::Claimed(_))) {
                task.commit(&done, ctx.now);
            }
            logs::measure(&mut self.measures, done.metrics);
            return self.letter_committed(ctx, tickets, number, outcome);
        }
        match outcome {
            Some(Outcome::Done | Outcome::Claimed(_)) => {
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
    fn commit_refused(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, refused: Refused) {
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
            // The member's new epoch is on its way to it.
            Refused::Member(_) => task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS),
            _ => {
                self.tasks.remove(&number);
                self.settle(ctx, tickets);
            }
        }
    }

    /// Wakes what has waited long enough.
    pub(super) fn timeout(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.poll_members(ctx, tickets);
        self.promote_if_due(ctx);
        if self.settle_at.is_some_and(|at| at <= ctx.now) {
            self.settle(ctx, tickets);
            self.roll(ctx);
        }
        let due = |task: &Task| task.deadline().is_some_and(|at| at <= ctx.now);
        let numbers: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, task)| due(task))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if let Some(task) = self.tasks.get_mut(&number) {
                task.phase = Phase::Idle(None);
            }
            self.advance(ctx, tickets, number, Patience::None);
        }
    }

    /// These logs have more records.
    pub(super) fn appended(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, log: LogId) {
        let reads = |task: &Task| task.sources.iter().any(|source| source.log == log);
        if self.tasks.get(&number).is_some_and(reads) {
            self.advance(ctx, tickets, number, Patience::Linger);
        }
    }

    fn window(&self, state: &State, number: u32) -> Window {
        state
            .modules
            .task(&self.name, number)
            .map_or_else(Window::default, |task| task.window.clone())
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

/// Last offset of what was read.
fn last_offset(records: &Records) -> i64 {
    let mut last = -1;
    for batch in batches(records) {
        last = batch.map_or(last, |batch| batch.header().last_offset());
    }
    last
}

fn given_up(plan: &Plan, place: usize) -> Vec<super::run::GiveUp> {
    let own = plan.give_up.iter().filter(|(other, _)| *other == place);
    own.map(|(_, record)| record.clone()).collect()
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
