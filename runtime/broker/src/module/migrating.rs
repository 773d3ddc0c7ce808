//! A task's state on its way to another layout, on the node that owns the task: copy, rewrite, a chunk and an entry at a time.
//!
//! All tasks do so beside each other, each from its next batch boundary on, and wait for the last: then the release takes over with one
//! entry. So nothing has to be undone when a task cannot be migrated: the rollout is taken back, and the version that runs goes on.
//! Only where no version is left to go on (it cannot be loaded, or the task was somebody else's meanwhile) does a task go on by itself,
//! and what goes wrong pauses the module.
use alloc::{boxed::Box, format, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::admin::Answer;

use super::{
    change::{Change, Migrate, Outcome},
    deployed::Deployed,
    durable,
    edition::Edition,
    migration::Step,
    policy::{Plan, cut},
    run::{Kind, Migrated, Processed, Run, TaskKey, Verdict},
    task::{Phase, Task},
    tickets::{Tickets, Waiter},
    work::Patience,
};
use crate::{
    context::{self, Context},
    effect::Effect,
    entry::Command,
    limits::MODULE_TROUBLE_MS,
    state::State,
};

impl Deployed {
    /// The release that takes over when every task's state has its layout, if that is another one.
    pub(super) fn changes_layout(&self) -> Option<&Edition> {
        let rollout = self.rollout.as_ref().filter(|rollout| rollout.canary.is_none())?;
        let (to, current) = (self.editions.get(&rollout.to)?, self.editions.get(&self.current)?);
        (to.state_version != current.state_version).then_some(to)
    }

    /// Whether every task here has a state, or the copy of one, that the release can go on with.
    fn is_migrated(&self, state: &State, to: &Edition) -> bool {
        let is_there = |(number, task): (&u32, &Task)| {
            let is_idle = matches!(task.phase, Phase::Idle(_) | Phase::Waiting(_));
            let kept = state.modules.task(&self.name, *number);
            is_idle && kept.is_some_and(|kept| has_layout(kept, to))
        };
        self.tasks.iter().all(is_there)
    }

    /// Whether nothing is left to migrate. Tasks that are still to come are waited for.
    pub(super) fn may_take_over(&mut self, ctx: &Context<'_>) -> bool {
        let is_done = self.changes_layout().is_some_and(|to| self.is_migrated(ctx.state, to));
        if is_done && !self.has_all(ctx.state) {
            self.settle_at = Some(ctx.now + MODULE_TROUBLE_MS);
            return false;
        }
        is_done
    }

    /// Begins a task's next chunk, if its state has to be migrated. True if the task does nothing else until then.
    pub(super) fn migrate(&mut self, ctx: &mut Context<'_>, number: u32) -> bool {
        let to = self.changes_layout();
        let Some(task) = self.tasks.get(&number) else {
            return false;
        };
        let (Some(edition), Some(kept)) = (
            to.or_else(|| self.editions.get(&task.release)),
            ctx.state.modules.task(&self.name, number),
        ) else {
            return false;
        };
        if to.is_none() && kept.fits(edition.state_version) {
            return false;
        }
        let run = self.chunk(ctx, number, edition, kept);
        let release = edition.version.number;
        let Some(task) = self.tasks.get_mut(&number) else {
            return false;
        };
        task.wake = None;
        task.phase = match run {
            None => Phase::Idle(None),
            Some(run) => {
                ctx.effect(Effect::Run(Box::new(run)));
                Phase::Migrating(release)
            }
        };
        true
    }

    /// What is to be run next; `None` while there is nothing to do, or nothing to do it with.
    fn chunk(&self, ctx: &Context<'_>, number: u32, edition: &Edition, kept: &durable::Task) -> Option<Run> {
        if has_layout(kept, edition) || !edition.is_ready() {
            return None;
        }
        let run = self.run_of(ctx, number, edition, Vec::new())?;
        let own = kept.migration.as_ref();
        let own = own.filter(|own| own.release == edition.version.number);
        let Some(own) = own else {
            let kind = Kind::Copy { after: Bytes::new() };
            return Some(Run { kind, ..run });
        };
        Some(match &own.step {
            Step::Copying(after) => Run {
                kind: Kind::Copy { after: after.clone() },
                ..run
            },
            Step::Migrating(cursor) => Run {
                kind: Kind::Migrate {
                    from_version: kept.layout?,
                    cursor: cursor.clone(),
                },
                task: TaskKey {
                    deployment: own.copy,
                    ..run.task
                },
                state_bytes: own.state_bytes,
                ..run
            },
            Step::Done(()) => return None,
        })
    }

    /// The host has done a chunk: it becomes an entry, or the migration ends.
    pub(super) fn chunk_processed(&mut self, ctx: &mut Context<'_>, number: u32, release: u32, processed: Processed) {
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        if matches!(processed.verdict, Verdict::Retry { .. }) {
            // Not the guest's fault, which has no way to ask for it here.
            task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
            return;
        }
        let kept = ctx.state.modules.task(&self.name, number);
        let own = kept.and_then(|kept| kept.migration.as_ref());
        let own = own.filter(|own| own.release == release);
        let step = own.map(|own| &own.step);
        let step = match next_step(step, &processed) {
            Ok(step) => step,
            Err(why) => return self.cannot_migrate(ctx, number, release, &why),
        };
        let Some(task) = self.tasks.get(&number) else {
            return;
        };
        let migrate = Migrate {
            owner: self.owner(number, task),
            release,
            expected: own.map_or(0, |own| own.chunks),
            rows: processed.state,
            growth: processed.state_growth,
            step,
        };
        let waiter = Waiter::Chunk {
            module: self.name.clone(),
            task: number,
            token: task.token,
        };
        ctx.propose(
            Command::Module(Change::Migrate(migrate)),
            context::Waiter::Module(waiter),
        );
    }

    /// What came of a chunk; `None` when it never became an entry.
    pub(super) fn chunk_committed(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        (number, token): (u32, u64),
        outcome: Option<Outcome>,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.token == token) else {
            return;
        };
        let Phase::Migrating(release) = task.phase else { return };
        match outcome {
            Some(Outcome::Refused(refused)) => return self.commit_refused(ctx, tickets, number, refused),
            None => {
                task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
                return;
            }
            Some(outcome) => {
                if let Outcome::Claimed(generation) = outcome {
                    task.generation = generation;
                    task.is_fresh = true;
                    task.plan = Plan::default();
                }
                let kept = ctx.state.modules.task(&self.name, number);
                if let Some(kept) = kept {
                    task.take_over(kept, ctx.now);
                }
                task.phase = Phase::Idle(None);
                let edition = self.editions.get(&release);
                let done = edition.filter(|edition| kept.is_some_and(|kept| has_layout(kept, edition)));
                if let Some(layout) = done.map(|edition| edition.state_version) {
                    self.say_migrated(ctx, number, layout);
                }
            }
        }
        self.advance(ctx, tickets, number, Patience::None);
        self.roll(ctx);
        self.answer_waits(ctx);
    }

    fn say_migrated(&mut self, ctx: &mut Context<'_>, number: u32, layout: u32) {
        let message = format!("the state of task {number} has layout {layout}");
        self.logs.note(ctx, "info", number, message.clone());
        for wait in &self.waits {
            let (stage, message) = ("migrated".into(), message.clone());
            ctx.respond_admin(*wait, Answer::Progress { stage, message });
        }
    }

    /// The rollout is taken back; where there is none, the module pauses.
    fn cannot_migrate(&mut self, ctx: &mut Context<'_>, number: u32, release: u32, why: &str) {
        self.failures += 1;
        let layout = self.editions.get(&release).map_or(0, |edition| edition.state_version);
        let from = ctx.state.modules.task(&self.name, number).and_then(|kept| kept.layout);
        let from = from.unwrap_or(0);
        let reason = format!(
            "the state cannot be migrated from layout {from} to {layout}: {}",
            cut(why)
        );
        let is_taking_over = self.rollout.as_ref().is_some_and(|rollout| rollout.to == release);
        if !is_taking_over || release == self.current {
            return self.pause(ctx, number, reason);
        }
        if let Some(task) = self.tasks.get_mut(&number) {
            task.plan.last_error = Some(reason.clone());
            // If what takes it back does not become an entry, this is tried again and gets here again.
            task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS);
        }
        self.give_back(ctx, format!("task {number}: {reason}"));
    }
}

/// Whether a release can go on with a task: with its state, or with the copy that was made for it.
fn has_layout(kept: &durable::Task, edition: &Edition) -> bool {
    let own = kept.migration.as_ref();
    let is_done = own.is_some_and(|own| own.release == edition.version.number && own.step == Step::Done(()));
    is_done || kept.fits(edition.state_version)
}

/// How far a migration is after a chunk, or why it ends.
fn next_step(before: Option<&Step>, processed: &Processed) -> Result<Step, String> {
    match &processed.verdict {
        Verdict::Ack => {}
        Verdict::Fatal(reason) | Verdict::Retry { reason, .. } | Verdict::Poison { reason, .. } => {
            return Err(reason.clone());
        }
        Verdict::Failed { kind, message, .. } => return Err(format!("{}: {message}", kind.code())),
    }
    let Some(migrated) = &processed.migrated else {
        return Err("the host does not say how far it is".into());
    };
    match (before, migrated) {
        (None | Some(Step::Copying(_)), Migrated::More(row)) => Ok(Step::Copying(row.clone())),
        (None | Some(Step::Copying(_)), Migrated::Done) => Ok(Step::Migrating(None)),
        (Some(Step::Migrating(cursor)), Migrated::More(next)) => {
            if cursor.as_ref() == Some(next) && processed.state.is_empty() {
                return Err("`migrate` makes no progress: it wrote nothing and gave its cursor back".into());
            }
            Ok(Step::Migrating(Some(next.clone())))
        }
        (Some(_), _) => Ok(Step::Done(())),
    }
}
