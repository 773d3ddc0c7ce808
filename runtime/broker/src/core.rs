//! The broker: soft state around the durable one, and the traffic between them.
//!
//! ```text
//!  handle_request ──┐                                  ┌── Respond, Read, FindTime, Run, Load, ...
//!  handle_admin   ──┤   ┌──────────────────────────┐   │
//!  handle_read    ──┼──►│ groups, modules, fetches │───┼── Propose(id, command) ──► sequencer, journal
//!  handle_timeout ──┤   │  (soft: may see State,   │   │                                │ durable
//!  ...              │   │   may not change it)     │   └──◄── poll_effect               ▼
//!                   │   └───────────▲──────────────┘            handle_committed(id, entry)
//!                   │               │ outcome to its Waiter           │
//!                   │               └──────────── State::apply ◄──────┘ ──► Changes to storage
//! ```
//!
//! How the parts plug in:
//! - a handler gets a [`Context`]: it reads `ctx.state`, calls `ctx.propose(command, waiter)`, `ctx.respond(requester, response)`,
//!   `ctx.read(..)`, `ctx.note(..)`. Effects leave in the order in which they were made.
//! - `group::apply` and `module::apply` are called by [`State::apply`] for their commands; they may use `State::append`,
//!   `State::commit_offsets`, `State::delete_offsets`, and write rows with `Changes::put`.
//! - after an entry has been applied, its waiter hears the outcome: `Groups::handle_outcome`, `Modules::handle_outcome`. Then, if topics
//!   or partitions came or went, both hear `handle_topics_changed`; if logs grew or their start moved, fetches and
//!   `Modules::handle_appended` hear which. This also happens for entries that somebody else proposed.
//! - a module's own group member asks through `ctx.request(call, ..)`; the request takes the same way as a client's, with
//!   [`Requester::Module`], and the answer comes to `Modules::handle_response(call, ..)`.
//! - deadlines: each part tells its earliest through `poll_timeout` and gets `handle_timeout` when it is due.
//!
//! What the caller must do: call [`Broker::handle_start`] once after recovery, before anything else; perform effects in order; publish the
//! [`Changes`] of `handle_committed` to storage *before* it polls the effects that follow; pass entries in order of their index.
//!
//! The broker does not know connections' order of responses (the server keeps it), files, time or threads.
use tidemill_protocol::api::{Request, Response};

use crate::{
    api::{
        alter_configs, cluster, create_partitions, create_topics, delete_records, delete_topics, describe_configs,
        fetch::Fetches,
        init_producer_id,
        list_offsets::{self, Lists},
        metadata, offset_commit, offset_delete, offset_fetch, produce,
    },
    config::Config,
    context::{ConnectionId, Context, Internal, Outbox, Reading, Refusal, RequestContext, Requester, Waiter},
    effect::{Changes, Effect, Found, LogId, ProposalId, ReadAnswer, ReadId, RequestId, RowsAnswer, Table},
    entry::Entry,
    group::Groups,
    housekeeping::{self, Housekeeping},
    module::{Asked, Modules, Version, run::Processed},
    state::State,
};
use alloc::{collections::BTreeSet, string::String, sync::Arc};

/// The core as a value.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    state: State,
    groups: Groups,
    modules: Modules,
    fetches: Fetches,
    lists: Lists,
    housekeeping: Housekeeping,
    out: Outbox,
}

/// The broker taken apart, so that one part can be called with a context over the rest.
struct Parts<'a> {
    ctx: Context<'a>,
    groups: &'a mut Groups,
    modules: &'a mut Modules,
    fetches: &'a mut Fetches,
    lists: &'a mut Lists,
    housekeeping: &'a mut Housekeeping,
}

impl Broker {
    /// A broker over recovered state.
    pub fn new(config: Config, state: State) -> Broker {
        let out = Outbox::new(config.seed);
        Broker {
            config,
            state,
            groups: Groups::default(),
            modules: Modules::default(),
            fetches: Fetches::default(),
            lists: Lists::default(),
            housekeeping: Housekeeping::default(),
            out,
        }
    }

    /// The durable state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes up what was going on before a restart: groups' members get fresh deadlines, modules' tasks go on.
    pub fn handle_start(&mut self, now: i64) {
        let mut parts = self.parts(now);
        parts.housekeeping.handle_start(now);
        parts.groups.handle_start(&mut parts.ctx);
        parts.modules.handle_start(&mut parts.ctx);
        self.settle(now);
    }

    /// A client's request.
    pub fn handle_request(&mut self, now: i64, id: RequestId, context: RequestContext, request: Request) {
        self.dispatch(now, Requester::Connection(id), &context, request);
        self.settle(now);
    }

    /// A management request.
    pub fn handle_admin(&mut self, now: i64, id: RequestId, principal: Arc<str>, asked: impl Into<Asked>) {
        let mut parts = self.parts(now);
        parts.modules.handle_admin(&mut parts.ctx, id, &principal, asked.into());
        self.settle(now);
    }

    /// An entry is durable: applies it. `proposal` is `None` when this node did not propose it, or proposed it before a restart.
    pub fn handle_committed(&mut self, now: i64, proposal: Option<ProposalId>, entry: &Entry) -> Changes {
        let (outcome, changes) = self.state.apply(entry);
        let waiter = proposal
            .and_then(|id| self.out.waiters.remove(&id))
            .unwrap_or(Waiter::Nobody);
        let mut parts = self.parts(now);
        match waiter {
            Waiter::Nobody => {}
            Waiter::Request(from, pending) => parts.ctx.respond(from, pending.finish(outcome)),
            Waiter::Metadata(from, version, request) => {
                let response = metadata::answer(&parts.ctx, version, &request);
                parts.ctx.respond(from, response.into());
            }
            Waiter::Group(waiter) => parts.groups.handle_outcome(&mut parts.ctx, waiter, outcome),
            Waiter::Module(waiter) => parts.modules.handle_outcome(&mut parts.ctx, waiter, outcome),
        }
        if changes.rows.iter().any(|row| row.table == Table::Topic) {
            parts.groups.handle_topics_changed(&mut parts.ctx);
            parts.modules.handle_topics_changed(&mut parts.ctx);
        }
        for row in changes.rows.iter().filter(|row| row.table == Table::View) {
            parts.modules.handle_view_changed(&mut parts.ctx, &row.key);
        }
        let moved = changes
            .log_starts
            .iter()
            .map(|(log, _)| *log)
            .chain(changes.dropped.iter().copied());
        parts.fetches.handle_logs_changed(&mut parts.ctx, moved);
        parts.fetches.handle_appended(&mut parts.ctx, &changes.appends);
        let logs: BTreeSet<LogId> = changes.appends.iter().map(|append| append.log).collect();
        if !logs.is_empty() {
            parts.modules.handle_appended(&mut parts.ctx, &logs);
        }
        self.settle(now);
        changes
    }

    /// A proposal did not become an entry, and never will.
    pub fn handle_refused(&mut self, now: i64, proposal: ProposalId, refusal: Refusal) {
        let waiter = self.out.waiters.remove(&proposal).unwrap_or(Waiter::Nobody);
        let mut parts = self.parts(now);
        match waiter {
            Waiter::Nobody => {}
            Waiter::Request(from, pending) => parts.ctx.respond(from, pending.refuse(refusal)),
            Waiter::Metadata(from, version, request) => {
                let response = metadata::answer(&parts.ctx, version, &request);
                parts.ctx.respond(from, response.into());
            }
            Waiter::Group(waiter) => parts.groups.handle_refused(&mut parts.ctx, waiter, refusal),
            Waiter::Module(waiter) => parts.modules.handle_refused(&mut parts.ctx, waiter, refusal),
        }
        self.settle(now);
    }

    /// A read is done.
    pub fn handle_read(&mut self, now: i64, read: ReadId, answer: ReadAnswer) {
        let reading = self.out.readings.remove(&read);
        let mut parts = self.parts(now);
        match reading {
            Some(Reading::Fetch(fetch)) => parts.fetches.handle_read(&mut parts.ctx, fetch, answer),
            Some(Reading::Time(_) | Reading::View(_)) | None => {}
            Some(Reading::Module(tag)) => parts.modules.handle_read(&mut parts.ctx, tag, answer),
        }
        self.settle(now);
    }

    /// A read for a view is done.
    pub fn handle_rows(&mut self, now: i64, read: ReadId, answer: RowsAnswer) {
        let reading = self.out.readings.remove(&read);
        let mut parts = self.parts(now);
        if let Some(Reading::View(view)) = reading {
            parts.modules.handle_rows(&mut parts.ctx, view, answer);
        }
        self.settle(now);
    }

    /// A search by time is done.
    pub fn handle_found(&mut self, now: i64, read: ReadId, found: Option<Found>) {
        let reading = self.out.readings.remove(&read);
        let mut parts = self.parts(now);
        match reading {
            Some(Reading::Time(slot)) => parts.lists.handle_found(&mut parts.ctx, slot, found),
            Some(Reading::Fetch(_) | Reading::View(_)) | None => {}
            Some(Reading::Module(tag)) => parts.modules.handle_found(&mut parts.ctx, tag, found),
        }
        self.settle(now);
    }

    /// How far each log may be trimmed.
    pub fn handle_retention(&mut self, now: i64, starts: &[(LogId, i64)]) {
        housekeeping::handle_retention(&mut self.parts(now).ctx, starts);
        self.settle(now);
    }

    /// The host has run a batch.
    pub fn handle_processed(&mut self, now: i64, processed: Processed) {
        let mut parts = self.parts(now);
        parts.modules.handle_processed(&mut parts.ctx, processed);
        self.settle(now);
    }

    /// The host has a version ready, or says why not.
    pub fn handle_loaded(&mut self, now: i64, version: &Version, result: Result<(), String>) {
        let mut parts = self.parts(now);
        parts.modules.handle_loaded(&mut parts.ctx, version, result);
        self.settle(now);
    }

    /// A connection is gone, and what was parked for it with it.
    pub fn handle_connection_closed(&mut self, now: i64, connection: ConnectionId) {
        let mut parts = self.parts(now);
        parts.fetches.handle_connection_closed(connection);
        parts.groups.handle_connection_closed(&mut parts.ctx, connection);
        self.settle(now);
    }

    /// The time that [`Broker::poll_timeout`] named has come, or may have.
    pub fn handle_timeout(&mut self, now: i64) {
        let mut parts = self.parts(now);
        parts.housekeeping.handle_timeout(&mut parts.ctx);
        parts.fetches.handle_timeout(&mut parts.ctx);
        parts.groups.handle_timeout(&mut parts.ctx);
        parts.modules.handle_timeout(&mut parts.ctx);
        self.settle(now);
    }

    /// Nobody reads the answers to a management call any more.
    pub fn handle_admin_closed(&mut self, id: RequestId) {
        self.modules.handle_admin_closed(id);
    }

    /// The modules on this node, for metrics.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// What must go out next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// When [`Broker::handle_timeout`] wants to be called, milliseconds; `None`: nothing waits for time.
    pub fn poll_timeout(&self) -> Option<i64> {
        let timeouts = [
            self.housekeeping.poll_timeout(),
            self.fetches.poll_timeout(),
            self.groups.poll_timeout(),
            self.modules.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Handles what modules ask of the core and are answered, until nothing is left.
    fn settle(&mut self, now: i64) {
        while let Some(internal) = self.out.internal.pop_front() {
            match internal {
                Internal::Request(call, context, request) => {
                    self.dispatch(now, Requester::Module(call), &context, request)
                }
                Internal::Response(call, response) => {
                    let mut parts = self.parts(now);
                    parts.modules.handle_response(&mut parts.ctx, call, response);
                }
            }
        }
    }

    /// Hands a request to the part that answers its API.
    fn dispatch(&mut self, now: i64, from: Requester, context: &RequestContext, request: Request) {
        let Parts {
            mut ctx,
            groups,
            fetches,
            lists,
            ..
        } = self.parts(now);
        let ctx = &mut ctx;
        let version = context.api_version;
        let response: Response = match request {
            Request::ApiVersions(_) => cluster::api_versions().into(),
            Request::DescribeCluster(request) => cluster::describe(ctx.config, &request).into(),
            Request::FindCoordinator(request) => cluster::find_coordinator(ctx.config, version, &request).into(),
            Request::DescribeConfigs(request) => describe_configs::handle(ctx, &request).into(),
            Request::OffsetFetch(request) => offset_fetch::handle(ctx.state, version, request).into(),
            Request::OffsetForLeaderEpoch(request) => list_offsets::for_leader_epoch(ctx.state, &request).into(),
            Request::Produce(request) => return produce::handle(ctx, from, request),
            Request::Fetch(request) => return fetches.handle(ctx, from, context, request),
            Request::ListOffsets(request) => return lists.handle(ctx, from, &request),
            Request::Metadata(request) => return metadata::handle(ctx, from, version, request),
            Request::CreateTopics(request) => return create_topics::handle(ctx, from, request),
            Request::DeleteTopics(request) => return delete_topics::handle(ctx, from, request),
            Request::CreatePartitions(request) => return create_partitions::handle(ctx, from, request),
            Request::AlterConfigs(request) => return alter_configs::handle(ctx, from, request),
            Request::IncrementalAlterConfigs(request) => return alter_configs::handle_incremental(ctx, from, request),
            Request::DeleteRecords(request) => return delete_records::handle(ctx, from, request),
            Request::InitProducerId(request) => return init_producer_id::handle(ctx, from, &request),
            Request::OffsetCommit(request) => return offset_commit::handle(ctx, from, request),
            Request::OffsetDelete(request) => return offset_delete::handle(ctx, from, request),
            request @ (Request::JoinGroup(_)
            | Request::SyncGroup(_)
            | Request::Heartbeat(_)
            | Request::LeaveGroup(_)
            | Request::DescribeGroups(_)
            | Request::ListGroups(_)
            | Request::DeleteGroups(_)
            | Request::ConsumerGroupHeartbeat(_)
            | Request::ConsumerGroupDescribe(_)) => return groups.handle_request(ctx, from, context, request),
        };
        ctx.respond(from, response);
    }

    fn parts(&mut self, now: i64) -> Parts<'_> {
        let Broker {
            config,
            state,
            groups,
            modules,
            fetches,
            lists,
            housekeeping,
            out,
        } = self;
        Parts {
            ctx: Context {
                now,
                config,
                state,
                out,
            },
            groups,
            modules,
            fetches,
            lists,
            housekeeping,
        }
    }
}
