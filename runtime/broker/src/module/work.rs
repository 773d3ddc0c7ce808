//! The poll loop of a task: read, run, commit, and again.
use alloc::{boxed::Box, format, string::String, vec::Vec};
use tidemill_protocol::{batch::batches, records::Records};

use super::{
    change::{Change, Pause},
    deployed::Deployed,
    edition::Edition,
    policy::{Case, Next, Plan},
    run::{EventTime, Input, Kind, Limits, Processed, Run, TaskKey, Verdict},
    task::{Phase, Task},
    tickets::{ReadFor, Tickets, Waiter},
    window::Window,
};
use crate::{
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

impl Deployed {
    /// Starts the next batch of an idle task if there is anything to read.
    pub(super) fn advance(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets, number: u32, patience: Patience) {
        let is_idle = |task: &Task| matches!(task.phase, Phase::Idle(_));
        if !self.tasks.get(&number).is_some_and(is_idle)
            || self.switch(ctx, number)
            || self.hold_for_tables(ctx, number)
            || self.migrate(ctx, number)
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
        task.follow(&edition.manifest);
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

    /// Whether a task must wait for a table. It goes on when tables have moved.
    fn hold_for_tables(&mut self, ctx: &Context<'_>, number: u32) -> bool {
        let Some(task) = self.tasks.get_mut(&number) else {
            return false;
        };
        let edition = self.editions.get(&task.release);
        task.is_held = edition.is_some_and(|edition| edition.held_by(ctx.state).is_some());
        if task.is_held {
            (task.phase, task.wake) = (Phase::Idle(None), None);
        }
        task.is_held
    }

    /// Views came, went or came further.
    pub(super) fn tables_moved(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        let built = self
            .editions
            .iter_mut()
            .filter_map(|(number, edition)| edition.tables_moved(ctx.state).then_some(*number));
        let built: Vec<u32> = built.collect();
        if built.contains(&self.current) {
            self.join(ctx, tickets);
        }
        if !built.is_empty() {
            self.roll(ctx);
        }
        for number in self.tasks_that(|task| task.is_held) {
            self.advance(ctx, tickets, number, Patience::None);
        }
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
        if !skipped.is_empty() {
            // What the plan holds back or gives up may be among it.
            let positions: Vec<i64> = task.sources.iter().map(|source| source.position).collect();
            task.plan.committed(&positions);
        }
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
        let event_time = || EventTime {
            watermark: task.watermark_at(ctx.state, task.seen(), ctx.now),
            latest: task.sources.iter().filter_map(|source| source.seen.latest).max(),
        };
        Some(Run {
            task: TaskKey {
                module: self.name.clone(),
                deployment: task.state,
                number,
            },
            version: edition.version.clone(),
            generation: task.generation,
            attempt: task.plan.attempt,
            now: ctx.now,
            is_fresh: task.is_fresh,
            firings: task.firings,
            event_time: manifest.has_event_time().then(event_time),
            state_bytes: task.state_bytes,
            kind: Kind::Records,
            inputs,
            outputs: grants.outputs.clone(),
            dead_letter: manifest.dead_letter.topic.clone(),
            buckets: grants.buckets.clone(),
            config: grants.config.clone(),
            tables: grants.tables.clone(),
            metrics: grants.metrics.clone(),
            limits: Limits::of(manifest),
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
        match task.phase {
            Phase::Running => {}
            Phase::Migrating(release) => return self.chunk_processed(ctx, number, release, processed),
            _ => return,
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
    pub(super) fn pause(&mut self, ctx: &mut Context<'_>, number: u32, reason: String) {
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

    /// Wakes what has waited long enough.
    pub(super) fn timeout(&mut self, ctx: &mut Context<'_>, tickets: &mut Tickets) {
        self.poll_members(ctx, tickets);
        self.promote_if_due(ctx);
        if self.settle_at.is_some_and(|at| at <= ctx.now) {
            self.settle(ctx, tickets);
            self.roll(ctx);
        }
        for number in self.tasks_that(|task| task.deadline().is_some_and(|at| at <= ctx.now)) {
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

    pub(super) fn window(&self, state: &State, number: u32) -> Window {
        state
            .modules
            .task(&self.name, number)
            .map_or_else(Window::default, |task| task.window.clone())
    }
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
