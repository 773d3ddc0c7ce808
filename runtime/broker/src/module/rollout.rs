//! A release taking over on this node: loaded beside the one that runs, then task by task between two batches.
//!
//! The one that runs goes on until the host has the other ready. A task that is switched waits for one entry, no longer; if the new
//! release reads other topics, or its state has another layout ([`super::migrating`]), all tasks begin anew together. What cannot be
//! loaded, and a canary that does badly, is taken back.
use alloc::{format, string::String, vec::Vec};
use tidemill_protocol::admin::{Answer, ErrorCode as AdminCode};

use super::{
    change::{Change, Outcome, Promote, Rollback, Settle, Switch},
    deployed::Deployed,
    durable,
    edition::{Edition, Load},
    policy::Plan,
    task::{Phase, Task},
    tickets::{Tickets, Waiter},
    work::Patience,
};
use crate::{
    context::{self, Context},
    effect::Effect,
    entry::Command,
    limits::MODULE_TROUBLE_MS,
};

/// How a canary does. Soft: a restart begins to count anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// Runs that failed and records given up.
    pub(super) failures: u32,
}

impl Deployed {
    /// Loads what is to run, and lets the host drop what is not.
    pub(super) fn keep_editions(&mut self, ctx: &mut Context<'_>, durable: &durable::Deployment) {
        let mut wanted = Vec::new();
        if durable.paused.is_none() {
            wanted.push(durable.current);
            wanted.extend(durable.rollout.as_ref().map(|rollout| rollout.to));
        }
        self.editions.retain(|number, edition| {
            let is_wanted = wanted.contains(number);
            if !is_wanted {
                ctx.effect(Effect::Unload(edition.version.clone()));
            }
            is_wanted
        });
        for number in wanted {
            let Some(release) = durable.release(number) else {
                continue;
            };
            let is_there = |edition: &Edition| !matches!(edition.load, Load::Failed(_));
            if !self.editions.get(&number).is_some_and(is_there) {
                self.editions.insert(number, Edition::loading(release, ctx.state));
                ctx.effect(Effect::Load(release.version()));
            }
        }
    }

    /// Whether the release that runs can run.
    pub(super) fn is_ready(&self) -> bool {
        self.editions.get(&self.current).is_some_and(Edition::is_ready)
    }

    /// The release that a task should run now: the one that takes over if that is for this task and the host has it.
    pub(super) fn aim(&self, task: u32) -> u32 {
        let Some(rollout) = &self.rollout else {
            return self.current;
        };
        let is_for_it = rollout
            .canary
            .as_ref()
            .is_none_or(|canary| canary.tasks.contains(&task));
        let is_ready = self.editions.get(&rollout.to).is_some_and(Edition::is_ready);
        if is_for_it && is_ready && !self.begins_anew() && self.changes_layout().is_none() {
            rollout.to
        } else {
            self.current
        }
    }

    /// Whether the release that takes over reads other topics, so that no task can simply go on with it.
    fn begins_anew(&self) -> bool {
        let Some(edition) = self.rollout.as_ref().and_then(|rollout| self.editions.get(&rollout.to)) else {
            return false;
        };
        let topics = edition.manifest.input.iter().map(|input| &input.topic);
        !topics.eq(self.manifest.input.iter().map(|input| &input.topic))
    }

    /// Whether every task runs what it is to run for now.
    pub(super) fn is_rolled_out(&self) -> bool {
        let Some(rollout) = &self.rollout else { return true };
        let is_ready = self.editions.get(&rollout.to).is_some_and(Edition::is_ready);
        let is_there = |(number, task): (&u32, &Task)| task.release == self.aim(*number);
        is_ready && rollout.canary.is_some() && self.tasks.iter().all(is_there)
    }

    /// Whether a task is a canary's.
    pub(super) fn is_on_trial(&self, task: &Task) -> bool {
        let canary = self.rollout.as_ref().filter(|rollout| rollout.canary.is_some());
        canary.is_some_and(|rollout| rollout.to == task.release)
    }

    /// Goes on with a rollout: switches the tasks that are between two batches, and ends it when none is left.
    pub(super) fn roll(&mut self, ctx: &mut Context<'_>) {
        for number in self.tasks_that(|task| matches!(task.phase, Phase::Idle(_) | Phase::Waiting(_))) {
            if !self.switch(ctx, number) {
                self.migrate(ctx, number);
            }
        }
        let Some(rollout) = self.rollout.clone() else { return };
        let to = rollout.to;
        let is_ready = self.editions.get(&to).is_some_and(Edition::is_ready);
        if self.is_deciding || !is_ready || rollout.canary.is_some() {
            return self.answer_waits(ctx);
        }
        let is_left = |task: &Task| matches!(task.phase, Phase::Unclaimed | Phase::Finding(_)) || task.release == to;
        let current = self.editions.get(&self.current).map(|edition| &edition.load);
        let nothing_runs = matches!(current, None | Some(Load::Failed(_)));
        let is_waiting = current == Some(&Load::Loading);
        let is_due = if self.changes_layout().is_some() {
            !nothing_runs && !is_waiting && self.may_take_over(ctx)
        } else {
            self.begins_anew() || (!is_waiting && self.tasks.values().all(is_left))
        };
        if nothing_runs || is_due {
            let (module, incarnation) = (self.name.clone(), self.incarnation);
            self.decide(
                ctx,
                Change::Settle(Settle {
                    module,
                    incarnation,
                    release: to,
                }),
            );
        }
    }

    /// Proposes to go on with another release, if a task should. True if it waits for that.
    pub(super) fn switch(&mut self, ctx: &mut Context<'_>, number: u32) -> bool {
        let release = self.aim(number);
        let Some(task) = self.tasks.get_mut(&number) else {
            return false;
        };
        if task.release == release {
            return false;
        }
        task.phase = Phase::Switching(release);
        let switch = Switch {
            module: self.name.clone(),
            incarnation: self.incarnation,
            task: number,
            generation: task.generation,
            release,
        };
        let waiter = Waiter::Switch {
            module: self.name.clone(),
            task: number,
            token: task.token,
        };
        ctx.propose(Command::Module(Change::Switch(switch)), context::Waiter::Module(waiter));
        true
    }

    /// What came of a switch; `None` when it never became an entry.
    pub(super) fn switched(
        &mut self,
        ctx: &mut Context<'_>,
        tickets: &mut Tickets,
        (number, token): (u32, u64),
        outcome: Option<Outcome>,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.token == token) else {
            return;
        };
        let Phase::Switching(release) = task.phase else { return };
        match outcome {
            Some(Outcome::Claimed(generation)) => {
                task.generation = generation;
                task.is_fresh = true;
                task.release = release;
                task.plan = Plan::default();
                task.phase = Phase::Idle(None);
                let label = self.editions.get(&release).map(|edition| edition.version.label.clone());
                let label = label.unwrap_or_default();
                self.logs
                    .note(ctx, "info", number, format!("goes on with version {label}"));
                for wait in &self.waits {
                    let (stage, message) = ("switched".into(), format!("task {number} goes on with {label}"));
                    ctx.respond_admin(*wait, Answer::Progress { stage, message });
                }
                self.advance(ctx, tickets, number, Patience::None);
                self.roll(ctx);
            }
            Some(_) => {
                self.tasks.remove(&number);
                self.settle(ctx, tickets);
            }
            None => task.phase = Phase::Waiting(ctx.now + MODULE_TROUBLE_MS),
        }
    }

    /// Takes back the release that takes over: it did not do well.
    pub(super) fn give_back(&mut self, ctx: &mut Context<'_>, reason: String) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.to != self.current) else {
            return;
        };
        if self.is_deciding {
            return;
        }
        let from = Some(rollout.to);
        self.logs
            .note(ctx, "error", 0, format!("version is taken back: {reason}"));
        ctx.note(format!("module {}: version is taken back: {reason}", self.name));
        self.refuse_waits(ctx, AdminCode::WrongState, &format!("taken back: {reason}"));
        let module = self.name.clone();
        self.decide(
            ctx,
            Change::Rollback(Rollback {
                module,
                to: None,
                from,
                reason,
                restore_state: false,
            }),
        );
    }

    /// Looks at how a canary's task does after a run.
    pub(super) fn on_trial(&mut self, ctx: &mut Context<'_>, number: u32, failed: u32) {
        let Some(task) = self.tasks.get(&number).filter(|task| self.is_on_trial(task)) else {
            return;
        };
        let Some(canary) = self.rollout.as_ref().and_then(|rollout| rollout.canary.clone()) else {
            return;
        };
        let backlog = task.backlog(ctx.state);
        let last = task.plan.last_error.clone().unwrap_or_default();
        self.trial.failures = self.trial.failures.saturating_add(failed);
        let failures = self.trial.failures;
        if canary.failures_max < failures {
            let most = canary.failures_max;
            self.give_back(
                ctx,
                format!("{failures} failures of the canary, allowed are {most}: {last}"),
            );
        } else if 0 < canary.lag_max && canary.lag_max < backlog {
            let most = canary.lag_max;
            self.give_back(
                ctx,
                format!("task {number} is {backlog} records behind, allowed are {most}"),
            );
        }
    }

    /// When a canary takes over by itself.
    pub(super) fn promotion_due(&self) -> Option<i64> {
        let rollout = self.rollout.as_ref()?;
        let canary = rollout.canary.as_ref().filter(|canary| 0 < canary.promote_after_ms)?;
        let is_ready = self.editions.get(&rollout.to).is_some_and(Edition::is_ready);
        (is_ready && !self.is_deciding).then(|| rollout.since.saturating_add(canary.promote_after_ms))
    }

    /// Lets a canary that did well take over.
    pub(super) fn promote_if_due(&mut self, ctx: &mut Context<'_>) {
        if self.promotion_due().is_some_and(|due| due <= ctx.now) {
            let module = self.name.clone();
            let release = self.rollout.as_ref().map(|rollout| rollout.to);
            self.decide(ctx, Change::Promote(Promote { module, release }));
        }
    }

    /// Proposes what decides about a rollout; one at a time.
    fn decide(&mut self, ctx: &mut Context<'_>, change: Change) {
        self.is_deciding = true;
        let waiter = Waiter::Rollout {
            module: self.name.clone(),
        };
        ctx.propose(Command::Module(change), context::Waiter::Module(waiter));
    }
}
