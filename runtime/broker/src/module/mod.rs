//! Modules: deployments, their tasks as members of consumer groups, and the policy for what goes wrong.
//!
//! ```text
//!   durable (apply)                                  soft, on the node that runs it
//!   ┌────────────────────────────┐                   ┌──────────────────────────────────────────────┐
//!   │ Deployment: manifest,      │ ─── reconcile ──► │ Deployed: host's version, Members (KIP-848), │
//!   │   incarnation, paused      │                   │   logs, metrics                              │
//!   │ Task: generation, owner,   │ ◄── Claim ─────── │ Task: sources, phase, Plan                   │
//!   │   totals, window           │ ◄── Commit ────── │   Idle → Reading → Running → Committing      │
//!   └────────────────────────────┘                   └──────────────────────────────────────────────┘
//! ```
//!
//! Guaranteed: outputs, state, timers, dead letters and offsets of a batch are in one [`change::Commit`], which is accepted only if the
//! deployment is as it was when the batch began (`incarnation`), the task has not changed hands (`generation`, the group's own
//! rule), and every input stands where the batch began (`expected`). So every record has exactly one committed effect, whatever
//! crashes, runs twice or comes late. A module's group can be shared with other consumers; a paused module is not a member.
//!
//! What does not survive a restart: attempts, plans, logs, metrics. The same records fail in the same way again.
mod admin;
mod apply;
pub mod change;
mod commit;
mod deploy_rules;
mod deployed;
mod durable;
mod edition;
mod event_time;
pub mod expiry_row;
mod fill;
mod logs;
pub mod marks;
mod member;
mod migrating;
pub mod migration;
mod ordered;
mod policy;
mod redrive;
pub mod rehearsal;
mod releases;
mod rewind;
mod rollout;
pub mod run;
mod shadow;
pub mod state_key;
mod status;
mod task;
mod tickets;
pub mod timer_row;
mod usage;
pub mod view;
pub mod window;
mod work;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
};
use bytes::Bytes;
use tidemill_protocol::{
    admin::{Answer, ModuleStatus},
    api::Response,
    ids::Uuid,
    manifest::Moment,
};

use self::{
    deployed::Deployed,
    fill::Fills,
    tickets::{ReadFor, ReadTicket, Tickets},
    view::ViewId,
};
use crate::{
    context::{Context, Refusal},
    effect::{Effect, Found, LogId, ReadAnswer, RequestId, RowsAnswer},
    limits::MODULE_TROUBLE_MS,
    state::{self, State},
    stored::Stored,
};

pub use admin::Asked;
pub(crate) use apply::apply;
pub use change::{Change, Outcome};
pub use durable::{Canary, Deployment, Durable, Release, Rollout, Task};
pub use event_time::EventTimes;
pub use logs::Measure;
pub use tickets::Waiter;

/// One version of one module, as the host needs to name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name of the deployment, which is also its consumer group.
    pub module: String,
    /// Number of the release within the deployment: the same component may be deployed again with other settings.
    pub number: u32,
    /// Version label from the manifest.
    pub label: String,
    /// SHA-256 of the component's bytes: names the artefact in the data directory.
    pub digest: [u8; 32],
}

/// What is not kept: poll loops, attempts, logs, counters.
#[derive(Debug, Default)]
pub struct Modules {
    deployed: BTreeMap<String, Deployed>,
    tickets: Tickets,
    fills: Fills,
    /// Components that the world was told to keep.
    kept: Option<BTreeSet<[u8; 32]>>,
}

impl Modules {
    /// Every module as it stands, in order of names.
    pub fn statuses<'a>(&'a self, state: &'a State, now: i64) -> impl Iterator<Item = ModuleStatus> + 'a {
        let status = move |durable: &'a Deployment| self.status(state, now, durable);
        state.modules.iter().map(status)
    }

    fn status(&self, state: &State, now: i64, durable: &Deployment) -> ModuleStatus {
        status::status(state, now, durable, self.deployed.get(durable.name()), &self.fills)
    }

    /// What guests measured: (module, metric, value).
    pub fn measures(&self) -> impl Iterator<Item = (&str, &str, Measure)> {
        self.deployed.values().flat_map(|deployed| {
            deployed
                .measures
                .iter()
                .map(|(metric, value)| (deployed.name.as_str(), metric.as_str(), *value))
        })
    }

    pub(crate) fn handle_start(&mut self, ctx: &mut Context<'_>) {
        for durable in ctx.state.modules.iter() {
            self.follow(ctx, durable.name());
        }
        self.keep_components(ctx);
        for topic in ctx.state.modules.views.keys() {
            self.fills.follow(ctx, topic);
        }
    }

    /// Says which components must be kept, whenever that has changed.
    fn keep_components(&mut self, ctx: &mut Context<'_>) {
        let releases = ctx.state.modules.iter().flat_map(|durable| &durable.releases);
        let digests: BTreeSet<_> = releases.map(|release| release.digest).collect();
        if self.kept.as_ref() != Some(&digests) {
            self.kept = Some(digests.clone());
            ctx.effect(Effect::Keep(digests));
        }
    }

    pub(crate) fn handle_outcome(&mut self, ctx: &mut Context<'_>, waiter: Waiter, outcome: state::Outcome) {
        let state::Outcome::Module(outcome) = outcome else {
            return;
        };
        match waiter {
            Waiter::Admin { from, module, wait } => self.answer(ctx, from, &module, wait, outcome),
            Waiter::Pause { module } => self.follow(ctx, &module),
            Waiter::Fill(view) => self.fills.filled(ctx, view, true),
            Waiter::Claim { module, member, tokens } => {
                self.with(&module, |deployed, tickets| {
                    deployed.claimed(ctx, tickets, member, &tokens, Some(outcome))
                });
            }
            Waiter::Commit { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.committed(ctx, tickets, (task, token), Some(outcome))
                });
            }
            Waiter::Switch { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.switched(ctx, tickets, (task, token), Some(outcome))
                });
            }
            Waiter::Chunk { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.chunk_committed(ctx, tickets, (task, token), Some(outcome))
                });
            }
            Waiter::Rollout { module } => {
                self.with(&module, |deployed, _| deployed.is_deciding = false);
                self.follow(ctx, &module);
            }
        }
    }

    pub(crate) fn handle_refused(&mut self, ctx: &mut Context<'_>, waiter: Waiter, refusal: Refusal) {
        match waiter {
            Waiter::Admin { from, .. } => ctx.respond_admin(from, admin::unavailable(refusal)),
            // The task waits, and comes to the same end again.
            Waiter::Pause { .. } => {}
            Waiter::Fill(view) => self.fills.filled(ctx, view, false),
            Waiter::Claim { module, member, tokens } => {
                self.with(&module, |deployed, tickets| {
                    deployed.claimed(ctx, tickets, member, &tokens, None)
                });
            }
            // It would come to the same end again.
            Waiter::Commit { module, task, token } if refusal == Refusal::TooLarge => {
                self.with(&module, |deployed, _| deployed.commit_too_large(ctx, (task, token)));
            }
            Waiter::Commit { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.committed(ctx, tickets, (task, token), None)
                });
            }
            Waiter::Switch { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.switched(ctx, tickets, (task, token), None)
                });
            }
            Waiter::Chunk { module, task, token } => {
                self.with(&module, |deployed, tickets| {
                    deployed.chunk_committed(ctx, tickets, (task, token), None)
                });
            }
            // Decided again when the next task is looked at.
            Waiter::Rollout { module } => self.with(&module, |deployed, _| {
                deployed.is_deciding = false;
                deployed.settle_at = Some(ctx.now + MODULE_TROUBLE_MS);
            }),
        }
    }

    /// Nobody reads this answer any more: the caller of a call that goes on (`logs --follow`, `deploy --wait`) is gone.
    pub(crate) fn handle_admin_closed(&mut self, from: RequestId) {
        for deployed in self.deployed.values_mut() {
            deployed.logs.forget(from);
            deployed.forget_redrive(from);
            deployed.waits.retain(|wait| *wait != from);
        }
    }

    pub(crate) fn handle_response(&mut self, ctx: &mut Context<'_>, call: u64, response: Response) {
        let Some(ticket) = self.tickets.take_call(call) else {
            return;
        };
        let Response::ConsumerGroupHeartbeat(response) = response else {
            return;
        };
        let member = (ticket.member, ticket.nonce, call);
        self.with(&ticket.module, |deployed, tickets| {
            deployed.heard(ctx, tickets, member, response)
        });
    }

    pub(crate) fn handle_read(&mut self, ctx: &mut Context<'_>, reading: u64, answer: ReadAnswer) {
        let Some(ReadTicket {
            module,
            task,
            token,
            what,
        }) = self.tickets.take_read(reading)
        else {
            return;
        };
        self.with(&module, |deployed, tickets| match what {
            ReadFor::Letters => deployed.letters(ctx, tickets, token, answer),
            ReadFor::Shadow => deployed.shadow_batch(ctx, tickets, token, answer),
            _ => deployed.read(ctx, tickets, (task, token), answer),
        });
    }

    pub(crate) fn handle_rows(&mut self, ctx: &mut Context<'_>, view: ViewId, answer: RowsAnswer) {
        self.fills.read(ctx, view, answer);
    }

    /// A view came, went or came further; `key` is that of its row.
    pub(crate) fn handle_view_changed(&mut self, ctx: &mut Context<'_>, key: &Bytes) {
        let Ok(topic) = Uuid::from_row(key) else { return };
        self.fills.follow(ctx, &topic);
        let Self { deployed, tickets, .. } = self;
        for deployed in deployed.values_mut() {
            deployed.tables_moved(ctx, tickets);
        }
    }

    pub(crate) fn handle_found(&mut self, ctx: &mut Context<'_>, reading: u64, found: Option<Found>) {
        let Some(ReadTicket {
            module,
            task,
            token,
            what,
        }) = self.tickets.take_read(reading)
        else {
            return;
        };
        self.with(&module, |deployed, _| match what {
            ReadFor::Start(place) => deployed.found(ctx, (task, token), place, found),
            ReadFor::Rewind(place) => deployed.rewind_found(ctx, token, place, found),
            ReadFor::Batch | ReadFor::Letters | ReadFor::Shadow => {}
        });
    }

    pub(crate) fn handle_processed(&mut self, ctx: &mut Context<'_>, processed: run::Processed) {
        // What is of another deployment or state of that name has another generation.
        let module = processed.task.module.clone();
        self.with(&module, |deployed, tickets| deployed.processed(ctx, tickets, processed));
    }

    pub(crate) fn handle_loaded(&mut self, ctx: &mut Context<'_>, version: &Version, result: Result<(), String>) {
        self.with(&version.module, |deployed, tickets| {
            deployed.loaded(ctx, tickets, version, result)
        });
    }

    pub(crate) fn handle_topics_changed(&mut self, ctx: &mut Context<'_>) {
        let Self { deployed, tickets, .. } = self;
        for deployed in deployed.values_mut() {
            deployed.grant(ctx.state);
            deployed.settle(ctx, tickets);
        }
    }

    pub(crate) fn handle_appended(&mut self, ctx: &mut Context<'_>, logs: &BTreeSet<LogId>) {
        let Self { deployed, tickets, .. } = self;
        for id in logs {
            if let Some(log) = ctx.state.logs.get(id) {
                self.fills.appended(ctx, &log.topic);
            }
            let number = ctx.state.logs.get(id).and_then(|log| u32::try_from(log.partition).ok());
            let Some(number) = number else { continue };
            for deployed in deployed.values_mut() {
                deployed.appended(ctx, tickets, number, *id);
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let Self { deployed, tickets, .. } = self;
        for deployed in deployed.values_mut() {
            deployed.timeout(ctx, tickets);
        }
        self.fills.timeout(ctx);
    }

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        let deployed = self.deployed.values().filter_map(Deployed::deadline);
        deployed.chain(self.fills.deadline()).min()
    }

    /// An operator's change is applied: follows it, and answers.
    fn answer(&mut self, ctx: &mut Context<'_>, from: RequestId, module: &str, wait: bool, outcome: Outcome) {
        if let Outcome::Refused(refused) = &outcome {
            return ctx.respond_admin(from, admin::refusal(module, refused));
        }
        self.follow(ctx, module);
        self.keep_components(ctx);
        if let Outcome::Restored(at) = outcome {
            let moment = Moment(at);
            let message = format!("state and offsets are as of the migration at {moment}: outputs since then repeat");
            let stage = "restored".into();
            ctx.respond_admin(from, Answer::Progress { stage, message });
        }
        if !wait {
            return ctx.respond_admin(from, Answer::Done);
        }
        let (stage, message) = ("committed".into(), "the deployment is durable".into());
        ctx.respond_admin(from, Answer::Progress { stage, message });
        self.with(module, |deployed, _| {
            deployed.waits.push(from);
            deployed.answer_waits(ctx);
        });
    }

    /// Makes what runs follow what is durable.
    fn follow(&mut self, ctx: &mut Context<'_>, module: &str) {
        let Self { deployed, tickets, .. } = self;
        let durable = ctx.state.modules.get(module);
        let is_current = |deployed: &Deployed| durable.is_some_and(|durable| durable.id == deployed.id);
        if !deployed.get(module).is_none_or(is_current)
            && let Some(mut ended) = deployed.remove(module)
        {
            ended.end(ctx, tickets);
        }
        if let Some(durable) = durable {
            let deployed = deployed.entry(module.into()).or_insert_with(|| Deployed::new(durable));
            deployed.reconcile(ctx, tickets, durable);
        }
    }

    fn with(&mut self, module: &str, act: impl FnOnce(&mut Deployed, &mut Tickets)) {
        if let Some(deployed) = self.deployed.get_mut(module) {
            act(deployed, &mut self.tickets);
        }
    }
}
