//! Who decides the order of entries. Today this node alone; a consensus library would take the place of `Local`.
//!
//! The rest of the node knows only this: a proposal goes in, and exactly one `Event::Committed` comes out for it, in the order of the
//! proposals. Nothing outside this file gives out an index, a term or a time.
use bytes::Bytes;
use tidemill_broker::{Command, Entry, effect::ProposalId};
use tidemill_storage::{CommitError, Writer, Written, limits::ENTRY_BYTES_MAX};

use super::event::{Committed, Event, Events};

/// What a node is to its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Proposals are taken here.
    Leader,
}

/// The command has more bytes than an entry may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Makes commands entries, in one order for everybody.
pub trait Sequencer {
    /// Gives the command its place, and the time `now` unless that would go back. What becomes of it is an event, unless it is refused
    /// here and now.
    fn propose(&mut self, now: i64, proposal: ProposalId, command: Command) -> Result<(), TooLarge>;

    /// Index that must be applied before a read may be answered that sees everything acknowledged so far.
    fn barrier(&self) -> u64;

    /// What this node is.
    fn role(&self) -> Role;

    /// Bytes that have been proposed and are not durable yet.
    fn waiting_bytes(&self) -> usize;
}

/// The sequencer of a node that is alone: its journal is the log.
pub(crate) struct Local {
    writer: Writer,
    events: Events,
    node: u32,
    /// Index of the next entry.
    next: u64,
    /// Time of the last entry.
    time: i64,
    committed: u64,
    /// Refusals so far. An answer from before the last refusal says nothing about the next index.
    attempt: u64,
}

/// There is one term as long as there is one node.
const TERM: u64 = 1;

impl Local {
    /// Goes on after the last entry, whose index is `last` and time `time`.
    pub(crate) fn new(writer: Writer, events: Events, node: u32, last: u64, time: i64) -> Self {
        Self {
            writer,
            events,
            node,
            next: last + 1,
            time,
            committed: last,
            attempt: 0,
        }
    }

    /// What its journal has made durable since the start.
    pub(crate) fn written(&self) -> Written {
        self.writer.written()
    }

    /// To be told of each verdict, before the next proposal.
    ///
    /// After a refusal the indexes of everything behind it are void. The writer refuses all of that too; the first refusal says where to
    /// go on, the others belong to the attempt before and are only passed on.
    pub(crate) fn settled(&mut self, committed: &Committed) {
        match committed.verdict {
            Ok(()) => self.committed = committed.entry.index,
            Err(_) if committed.attempt != self.attempt => {}
            Err(error) => {
                self.attempt += 1;
                self.next = match error {
                    CommitError::OutOfSequence { expected } => expected,
                    _ => committed.entry.index,
                };
            }
        }
    }
}

impl Sequencer for Local {
    fn propose(&mut self, now: i64, proposal: ProposalId, command: Command) -> Result<(), TooLarge> {
        let time = self.time.max(now);
        let entry = Entry {
            index: self.next,
            term: TERM,
            node: self.node,
            time,
            command,
        };
        let rope = entry.encode();
        if ENTRY_BYTES_MAX < rope.iter().map(Bytes::len).sum() {
            return Err(TooLarge);
        }
        self.time = time;
        self.next += 1;
        let (index, events, attempt) = (entry.index, self.events.clone(), self.attempt);
        let done = move |verdict| {
            // A node that is gone needs no verdict.
            let _ = events.send(Event::Committed(Box::new(Committed {
                proposal,
                entry,
                attempt,
                verdict,
            })));
        };
        self.writer.submit(index, rope, Box::new(done));
        Ok(())
    }

    fn barrier(&self) -> u64 {
        self.committed
    }

    fn role(&self) -> Role {
        Role::Leader
    }

    fn waiting_bytes(&self) -> usize {
        self.writer.waiting_bytes()
    }
}
