//! What a handler may see and do.
//!
//! A handler of the soft state (groups, modules, fetches) is given a [`Context`]: it reads the durable [`State`], proposes commands
//! with a [`Waiter`] for the outcome, asks for reads, answers requests. It cannot change the durable state, and it keeps no clock:
//! whoever wants to be woken keeps its own deadlines and tells the earliest through its `poll_timeout`.
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    sync::Arc,
    vec::Vec,
};
use tidemill_protocol::{
    admin,
    api::{Request, Response, metadata::MetadataRequest},
    ids::Uuid,
};

use crate::{
    api::{Pending, list_offsets},
    config::Config,
    effect::{Effect, LogId, LogRead, ProposalId, ReadId, RequestId, RetentionQuery},
    entry::Command,
    group, module,
    state::State,
};

/// Names one connection (one TCP socket or one QUIC stream). The server chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who asks, and how.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Authenticated principal, `User:ANONYMOUS` when there is none.
    pub principal: Arc<str>,
    /// From the request header.
    pub client_id: Option<Arc<str>>,
    /// Where the connection comes from, as groups describe it.
    pub client_host: Arc<str>,
    /// Version of the API that the client speaks; answers are encoded in it.
    pub api_version: i16,
    /// The connection; what is parked for it goes when it closes.
    pub connection: ConnectionId,
}

/// Who gets the answer to a Kafka request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requester {
    /// A client.
    Connection(RequestId),
    /// A module's own member; the number is chosen by `modules` and comes back with the response.
    Module(u64),
}

/// Who gets the outcome of a proposal.
#[derive(Debug)]
pub enum Waiter {
    /// Nobody: the outcome shows in the state.
    Nobody,
    /// The answer to a request that is complete but for the outcome.
    Request(Requester, Pending),
    /// The answer to a Metadata request of this version, which created topics.
    Metadata(Requester, i16, MetadataRequest),
    /// Goes to `Groups::handle_outcome`.
    Group(group::Waiter),
    /// Goes to `Modules::handle_outcome`.
    Module(module::Waiter),
}

/// Who gets the answer to a read.
#[derive(Debug)]
pub enum Reading {
    /// Goes to the fetch of this number.
    Fetch(u64),
    /// Goes to a ListOffsets request.
    Time(list_offsets::Slot),
    /// Goes to `Modules::handle_read`; the number is chosen by `modules`.
    Module(u64),
    /// Goes to `Modules::handle_rows`: rows of a view.
    View(module::view::ViewId),
}

/// Why a proposal never became an entry. Nothing of it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No space is left; space may come back.
    DiskFull,
    /// Too much waits to be written.
    Overloaded,
    /// It is larger than an entry may be: the same proposal never fits.
    TooLarge,
    /// The node stops.
    Stopping,
}

/// What handlers leave behind for the broker to hand out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) waiters: BTreeMap<ProposalId, Waiter>,
    pub(crate) readings: BTreeMap<ReadId, Reading>,
    /// Requests by modules' members, and the answers to them, not handled yet.
    pub(crate) internal: VecDeque<Internal>,
    proposals: u64,
    reads: u64,
    random: u64,
}

/// Traffic between the modules and the rest of the core.
#[derive(Debug)]
pub(crate) enum Internal {
    Request(u64, RequestContext, Request),
    Response(u64, Response),
}

impl Outbox {
    pub(crate) fn new(seed: u64) -> Outbox {
        Outbox {
            random: seed,
            ..Outbox::default()
        }
    }
}

/// What a handler may see and do.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time, milliseconds.
    pub now: i64,
    /// Settings.
    pub config: &'a Config,
    /// The durable state as of the last applied entry.
    pub state: &'a State,
    pub(crate) out: &'a mut Outbox,
}

impl Context<'_> {
    /// Asks for a command to become an entry. `waiter` hears of the outcome, or that it was refused, exactly once.
    pub fn propose(&mut self, command: Command, waiter: Waiter) -> ProposalId {
        self.out.proposals += 1;
        let id = ProposalId(self.out.proposals);
        self.out.waiters.insert(id, waiter);
        self.out.effects.push_back(Effect::Propose(id, command));
        id
    }

    /// Answers a Kafka request.
    pub fn respond(&mut self, to: Requester, response: Response) {
        match to {
            Requester::Connection(id) => self.out.effects.push_back(Effect::Respond(id, response)),
            Requester::Module(call) => self.out.internal.push_back(Internal::Response(call, response)),
        }
    }

    /// Answers a management request, or gives one more line of the answer.
    pub fn respond_admin(&mut self, to: RequestId, answer: admin::Answer) {
        self.out.effects.push_back(Effect::RespondAdmin(to, Box::new(answer)));
    }

    /// Makes a Kafka request on behalf of a module's own member. It is handled, and answered through `Modules::handle_response`
    /// with `call`, after the present handler has returned.
    pub fn request(&mut self, call: u64, context: RequestContext, request: Request) {
        self.out.internal.push_back(Internal::Request(call, context, request));
    }

    /// Reads from logs; `reading` hears the answer exactly once.
    pub fn read(&mut self, reads: Vec<LogRead>, reading: Reading) -> ReadId {
        let id = self.reading(reading);
        self.out.effects.push_back(Effect::Read(id, reads));
        id
    }

    /// Reads the rows of a view from a log; `reading` hears the answer exactly once.
    pub fn read_rows(&mut self, read: LogRead, reading: Reading) -> ReadId {
        let id = self.reading(reading);
        self.out.effects.push_back(Effect::ReadRows(id, read));
        id
    }

    /// Looks for the first record at or after a timestamp; `reading` hears the answer exactly once.
    pub fn find_time(&mut self, log: LogId, timestamp: i64, reading: Reading) -> ReadId {
        let id = self.reading(reading);
        self.out.effects.push_back(Effect::FindTime(id, log, timestamp));
        id
    }

    /// Asks how far retention may go.
    pub fn find_retention(&mut self, queries: Vec<RetentionQuery>) {
        self.out.effects.push_back(Effect::FindRetention(queries));
    }

    /// Any other effect: running and loading modules.
    pub fn effect(&mut self, effect: Effect) {
        self.out.effects.push_back(effect);
    }

    /// A line for the daemon's log.
    pub fn note(&mut self, text: impl Into<String>) {
        self.out.effects.push_back(Effect::Note(text.into()));
    }

    /// The next number of the core's own random sequence (splitmix64).
    pub fn random(&mut self) -> u64 {
        self.out.random = self.out.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.out.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A new version 4 UUID.
    pub fn random_uuid(&mut self) -> Uuid {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&self.random().to_be_bytes());
        raw[8..].copy_from_slice(&self.random().to_be_bytes());
        raw[6] = raw[6] & 0x0f | 0x40;
        raw[8] = raw[8] & 0x3f | 0x80;
        Uuid(raw)
    }

    fn reading(&mut self, reading: Reading) -> ReadId {
        self.out.reads += 1;
        let id = ReadId(self.out.reads);
        self.out.readings.insert(id, reading);
        id
    }
}
