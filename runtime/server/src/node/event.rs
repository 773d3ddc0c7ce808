//! Everything that can happen to a node. The loop takes one at a time.
use std::sync::Arc;

use tidemill_broker::{
    Entry, RequestContext,
    context::ConnectionId,
    effect::{Found, LogId, LogRead, ProposalId, ReadAnswer, ReadId, RowsAnswer},
    module::{Version, run::Processed},
};
use tidemill_protocol::{
    admin::{Answer, Call},
    api::{Request, Response},
};
use tidemill_storage::CommitError;
use tokio::sync::{mpsc, oneshot};

use crate::net::Permit;

/// The way to the loop, from any thread. Its bound is the [gate](crate::net::Gate)'s, and what the loop itself has set to work.
pub(crate) type Events = mpsc::UnboundedSender<Event>;

/// What came in.
pub(crate) enum Event {
    /// A client asks. `permit` is held here only for a request that nobody waits for (`acks=0`).
    Request {
        context: RequestContext,
        request: Request,
        reply: oneshot::Sender<Response>,
        permit: Option<Permit>,
    },
    /// A management call, whose component (if any) has been stored and compiled.
    Admin {
        connection: ConnectionId,
        principal: Arc<str>,
        call: Call,
        reply: mpsc::Sender<Answer>,
    },
    /// The component of a deploy, or of a shadow, was tried: the layout of its state, or why it does not start.
    Rehearsed {
        connection: ConnectionId,
        principal: Arc<str>,
        call: Call,
        reply: mpsc::Sender<Answer>,
        outcome: Result<u32, String>,
    },
    /// A stream is closed.
    Closed(ConnectionId),
    /// An entry is durable, or never will be.
    Committed(Box<Committed>),
    /// A read from segments is done, and what will probably be read next is known.
    Read(ReadId, ReadAnswer, Vec<LogRead>),
    /// A read for a view is done.
    Rows(ReadId, RowsAnswer),
    /// A search by time is done.
    Found(ReadId, Option<Found>),
    /// How far logs may be trimmed.
    Retention(Vec<(LogId, i64)>),
    /// The host has run a batch.
    Processed(Box<Processed>),
    /// The host has a version ready, or says why not.
    Loaded(Version, Result<(), String>),
    /// No guest runs any more, or will; what the instances had to say to that.
    ModulesClosed(Vec<Processed>),
    /// Something failed that only a restart can mend.
    Failed(String),
    /// Finish what is in work, take nothing new; say so when it is done.
    Drain(oneshot::Sender<()>),
    /// Stop now.
    Stop,
}

/// What became of a proposal.
pub(crate) struct Committed {
    pub(crate) proposal: ProposalId,
    pub(crate) entry: Entry,
    /// The sequencer's count of refusals when it gave the entry its index.
    pub(crate) attempt: u64,
    pub(crate) verdict: Result<(), CommitError>,
}
