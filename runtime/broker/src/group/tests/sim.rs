//! The coordinator alone, with a log that can be slow and a clock that moves when told to.
use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{
    api::{Request, Response},
    error_code::ErrorCode,
    ids::Uuid,
};

use crate::{
    Command, Config, Entry, State,
    context::{ConnectionId, Context, Internal, Outbox, Refusal, RequestContext, Requester, Waiter},
    effect::{Effect, ProposalId, RequestId, Row, Table},
    entry::{NewPartitions, NewTopic},
    group::{Body, Groups, consumer},
};

pub(super) const GROUP: &str = "g";

pub(super) struct Sim {
    pub(super) now: i64,
    pub(super) state: State,
    config: Config,
    groups: Groups,
    out: Outbox,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    index: u64,
    requests: u64,
    lives: u64,
    held: VecDeque<(ProposalId, Command)>,
    answers: BTreeMap<u64, Response>,
}

impl Sim {
    pub(super) fn new(seed: u64) -> Sim {
        let config = Config {
            seed,
            group_initial_rebalance_delay_ms: 100,
            ..Config::default()
        };
        let out = Outbox::new(seed);
        Sim {
            now: 1_000_000,
            state: State::default(),
            config,
            groups: Groups::default(),
            out,
            rows: BTreeMap::new(),
            index: 0,
            requests: 0,
            lives: 0,
            held: VecDeque::new(),
            answers: BTreeMap::new(),
        }
    }

    pub(super) fn session_ms(&self) -> i64 {
        i64::from(self.config.group_consumer_session_timeout_ms)
    }

    /// Sends a request; its answer is there when what it waits for has happened.
    pub(super) fn send(&mut self, is_module: bool, request: impl Into<Request>) -> u64 {
        self.requests += 1;
        let id = self.requests;
        let from = if is_module {
            Requester::Module(id)
        } else {
            Requester::Connection(RequestId(id))
        };
        let context = RequestContext {
            principal: "User:ANONYMOUS".into(),
            client_id: Some(Arc::from("client")),
            client_host: "127.0.0.1".into(),
            api_version: 9,
            connection: ConnectionId(0),
        };
        let request = request.into();
        self.with(|groups, ctx| groups.handle_request(ctx, from, &context, request));
        id
    }

    pub(super) fn answer(&mut self, id: u64) -> Option<Response> {
        self.answers.remove(&id)
    }

    /// Makes up to `count` proposals durable, in order.
    pub(super) fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let Some((id, command)) = self.held.pop_front() else {
                return;
            };
            self.apply(Some(id), command);
        }
    }

    /// Refuses the oldest proposal.
    pub(super) fn refuse(&mut self) {
        let Some((id, _)) = self.held.pop_front() else { return };
        let Some(Waiter::Group(waiter)) = self.out.waiters.remove(&id) else {
            return;
        };
        self.with(|groups, ctx| groups.handle_refused(ctx, waiter, Refusal::DiskFull));
    }

    /// Makes everything durable and fires every deadline until the time is `ms` later.
    pub(super) fn run(&mut self, ms: i64) {
        let end = self.now + ms;
        self.commit(usize::MAX);
        while let Some(due) = self.groups.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.with(|groups, ctx| groups.handle_timeout(ctx));
            self.commit(usize::MAX);
        }
        self.now = end;
    }

    /// Moves time without making anything durable.
    pub(super) fn wait(&mut self, ms: i64) {
        self.now += ms;
        if self.groups.poll_timeout().is_some_and(|due| due <= self.now) {
            self.with(|groups, ctx| groups.handle_timeout(ctx));
        }
    }

    pub(super) fn create_topic(&mut self, name: &str, id: Uuid, partitions: u32) {
        let topic = NewTopic {
            name: name.into(),
            id,
            partitions,
            configs: BTreeMap::new(),
        };
        self.apply(None, Command::CreateTopics(alloc::vec![topic]));
        self.with(|groups, ctx| groups.handle_topics_changed(ctx));
    }

    pub(super) fn add_partitions(&mut self, topic: Uuid, count: u32) {
        self.apply(
            None,
            Command::CreatePartitions(alloc::vec![NewPartitions { topic, count }]),
        );
        self.with(|groups, ctx| groups.handle_topics_changed(ctx));
    }

    /// Everything that is not durable is gone; state comes back from its rows.
    pub(super) fn restart(&mut self) {
        let mut state = State::default();
        for ((table, key), value) in &self.rows {
            state
                .load(&Row {
                    table: *table,
                    key: key.clone(),
                    value: Some(value.clone()),
                })
                .unwrap();
        }
        assert!(state == self.state, "state from rows is the state");
        self.state = state;
        self.held.clear();
        self.answers.clear();
        self.groups = Groups::default();
        // Every life has its own randomness: ids are never given out twice.
        self.lives += 1;
        self.out = Outbox::new(self.config.seed.wrapping_add(self.lives << 32));
        self.with(|groups, ctx| groups.handle_start(ctx));
    }

    pub(super) fn may_commit(&self, member: &str, generation: i32) -> Result<(), ErrorCode> {
        self.state.groups.check_commit(GROUP, member, None, generation)
    }

    pub(super) fn consumer(&self) -> Option<&consumer::Group> {
        match &self.state.groups.get(GROUP)?.body {
            Body::Consumer(group) => Some(group),
            Body::Classic(_) => None,
        }
    }

    fn apply(&mut self, proposal: Option<ProposalId>, command: Command) {
        self.index += 1;
        let entry = Entry {
            index: self.index,
            term: 1,
            node: 1,
            time: self.now,
            command,
        };
        let entry = Entry::decode(entry.encode().concat().into()).unwrap();
        let (outcome, changes) = self.state.apply(&entry);
        for row in changes.rows {
            match row.value {
                Some(value) => drop(self.rows.insert((row.table, row.key), value)),
                None => drop(self.rows.remove(&(row.table, row.key))),
            }
        }
        if let Some(Waiter::Group(waiter)) = proposal.and_then(|id| self.out.waiters.remove(&id)) {
            self.with(|groups, ctx| groups.handle_outcome(ctx, waiter, outcome));
        }
    }

    fn with(&mut self, play: impl FnOnce(&mut Groups, &mut Context<'_>)) {
        let mut ctx = Context {
            now: self.now,
            config: &self.config,
            state: &self.state,
            out: &mut self.out,
        };
        play(&mut self.groups, &mut ctx);
        for effect in self.out.effects.drain(..) {
            match effect {
                Effect::Propose(id, command) => self.held.push_back((id, command)),
                Effect::Respond(id, response) => {
                    assert!(self.answers.insert(id.0, response).is_none(), "answered once")
                }
                effect => panic!("unexpected effect {effect:?}"),
            }
        }
        for internal in self.out.internal.drain(..).collect::<Vec<_>>() {
            match internal {
                Internal::Response(call, response) => drop(self.answers.insert(call, response)),
                Internal::Request(..) => panic!("groups make no requests"),
            }
        }
    }
}
