//! Numbers for what modules ask of others, so that an answer finds its way back, or is recognised as too late.
use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::view::ViewId;
use crate::effect::RequestId;

/// Who waits for a change to be applied.
#[derive(Debug)]
pub enum Waiter {
    /// An operator.
    Admin {
        /// The call to answer.
        from: RequestId,
        /// The deployment.
        module: String,
        /// Whether to answer only when everything runs.
        wait: bool,
    },
    /// Tasks that are being taken.
    Claim {
        /// The deployment.
        module: String,
        /// Place of the member.
        member: usize,
        /// (number, token) of each task.
        tokens: Vec<(u32, u64)>,
    },
    /// A task's commit.
    Commit {
        /// The deployment.
        module: String,
        /// The task's number.
        task: u32,
        /// The task's token.
        token: u64,
    },
    /// A task's switch to another release.
    Switch {
        /// The deployment.
        module: String,
        /// The task's number.
        task: u32,
        /// The task's token.
        token: u64,
    },
    /// A chunk of a task's migration.
    Chunk {
        /// The deployment.
        module: String,
        /// The task's number.
        task: u32,
        /// The task's token.
        token: u64,
    },
    /// Something that decides about a rollout.
    Rollout {
        /// The deployment.
        module: String,
    },
    /// Rows of a view.
    Fill(ViewId),
    /// The policy pauses a module.
    Pause {
        /// The deployment.
        module: String,
    },
}

/// What a read or search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFor {
    /// The next batch.
    Batch,
    /// Where to begin in the source at this place.
    Start(usize),
    /// Where to begin again, by place in the rewind.
    Rewind(usize),
    /// Dead letters to process again.
    Letters,
    /// A batch to compare two versions by.
    Shadow,
}

/// Whose read it is.
#[derive(Debug)]
pub(super) struct ReadTicket {
    pub(super) module: String,
    pub(super) task: u32,
    pub(super) token: u64,
    pub(super) what: ReadFor,
}

/// Whose call it is.
#[derive(Debug)]
pub(super) struct CallTicket {
    pub(super) module: String,
    pub(super) member: usize,
    pub(super) nonce: u64,
}

/// Gives out numbers, and remembers what they stand for.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
    calls: BTreeMap<u64, CallTicket>,
    reads: BTreeMap<u64, ReadTicket>,
}

impl Tickets {
    /// A number that was never given before.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A number for a member's call.
    pub(super) fn call(&mut self, module: &str, member: usize, nonce: u64) -> u64 {
        let number = self.number();
        self.calls.insert(
            number,
            CallTicket {
                module: module.into(),
                member,
                nonce,
            },
        );
        number
    }

    /// A number for a task's read.
    pub(super) fn read(&mut self, module: &str, task: u32, token: u64, what: ReadFor) -> u64 {
        let number = self.number();
        self.reads.insert(
            number,
            ReadTicket {
                module: module.into(),
                task,
                token,
                what,
            },
        );
        number
    }

    /// What a call was, once.
    pub(super) fn take_call(&mut self, number: u64) -> Option<CallTicket> {
        self.calls.remove(&number)
    }

    /// What a read was for, once.
    pub(super) fn take_read(&mut self, number: u64) -> Option<ReadTicket> {
        self.reads.remove(&number)
    }
}
