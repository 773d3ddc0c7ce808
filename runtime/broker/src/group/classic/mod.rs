//! Groups of the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. The clients assign, the coordinator counts generations.
//!
//! ```text
//!            first join                      all have joined, or time is up
//!   Empty ───────────────► Preparing ───────────────────────────────────────► Completing ──── leader's sync ───► Stable
//!     ▲                      ▲   │ nobody is left                                 │                                │
//!     └──────────────────────┼───┘                                                │                                │
//!                            └──────── join, leave, silent member, change ────────┴────────────────────────────────┘
//! ```
//!
//! Kept: the generation, its members and their assignments, and whether it is Empty, Completing or Stable: an entry when a generation
//! begins, before anybody hears of it, and one when its leader has assigned. Preparing is not kept: until the next generation begins, the
//! last one is what commits are checked against, and its owners are still the owners.
mod join;
mod leave;
mod rebalance;
mod sync;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::error_code::ErrorCode;

use crate::{
    context::Requester,
    stored,
    stored::{Malformed, Reader, Stored, Writer},
};

stored! {
    /// What is said once for a group.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Header {
        /// Number of rebalances so far.
        pub generation: i32,
        /// `consumer` for consumers; what Connect and others say for themselves.
        pub protocol_type: Option<String>,
        /// The assignor's name that the members have agreed on.
        pub protocol: Option<String>,
        /// Member that assigns.
        pub leader: Option<String>,
        /// How far the generation has come.
        pub phase: Phase,
    }
}

/// How far a generation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    #[default]
    Empty,
    /// The members are known, their assignments are not.
    Completing,
    /// Everything is assigned.
    Stable,
}

impl Stored for Phase {
    fn store(&self, to: &mut Writer) {
        to.put(&[match self {
            Phase::Empty => 0,
            Phase::Completing => 1,
            Phase::Stable => 2,
        }]);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        match from.take()? {
            [0] => Ok(Phase::Empty),
            [1] => Ok(Phase::Completing),
            [2] => Ok(Phase::Stable),
            _ => Err(Malformed("unknown phase of a group")),
        }
    }
}

stored! {
    /// A member.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Member {
        /// Of a static member.
        pub instance: Option<String>,
        /// As the client calls itself.
        pub client_id: String,
        /// Where it connects from.
        pub client_host: String,
        /// How long it may be silent.
        pub session_timeout_ms: i32,
        /// How long it may take to join again.
        pub rebalance_timeout_ms: i32,
        /// Assignors that it knows, best first, each with what it has to say (for consumers, the topics).
        pub protocols: Vec<(String, Bytes)>,
        /// What the leader has given it.
        pub assignment: Bytes,
    }
}

impl Member {
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What is said once.
    pub header: Header,
    /// By member id.
    pub members: BTreeMap<String, Member>,
}

impl Group {
    /// See [`Durable::check_commit`](super::Durable::check_commit).
    pub(super) fn check_commit(&self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_member(member, instance)?;
        if generation != self.header.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        // The client has heard of the new generation but not of its share: what it commits belongs to the last one.
        if self.header.phase == Phase::Completing {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Whether this is a member, and not one that another with the same instance id has replaced.
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_member(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(present) if present != member => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Member id of a static member.
    fn static_member(&self, instance: &str) -> Option<&str> {
        self.members
            .iter()
            .find(|(_, member)| member.instance.as_deref() == Some(instance))
            .map(|(id, _)| id.as_str())
    }

    /// Whether every member knows one of these protocols, and speaks of the same thing.
    fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.header.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    /// The protocol that most members like best, among those that all know. The first of the names where votes are equal.
    fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let best = member
                .protocols
                .iter()
                .find(|(name, _)| self.members.values().all(|other| other.supports(name)));
            if let Some((name, _)) = best {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name.into())
    }

    /// The longest that any member may take to join again.
    fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }
}

/// What a restart may forget.
#[derive(Debug, Default)]
pub(super) struct Soft {
    /// Whether members are being gathered for the next generation.
    pub(super) preparing: Option<Preparing>,
    /// Member ids that were given out but have not joined yet.
    pub(super) pending: BTreeSet<String>,
    /// Joins that wait for the generation to begin.
    joining: BTreeMap<String, Joining>,
    /// Syncs that wait for the leader.
    syncing: BTreeMap<String, Requester>,
    /// Members that the next generation will write, apart from those in it: gone, or known by another id now.
    changed: BTreeSet<String>,
    /// Members that have not asked for their share of this generation.
    unsynced: BTreeSet<String>,
}

/// How members are being gathered.
#[derive(Debug)]
pub(super) enum Preparing {
    /// The first generation after none: members still start up, so everybody waits a moment for more.
    First {
        /// How much longer the wait may be extended.
        remaining_ms: i64,
        /// Whether somebody came since the wait was last extended.
        grown: bool,
    },
    /// Any other: until all members have joined, or the rebalance timeout.
    Next,
}

/// A join that waits.
#[derive(Debug)]
struct Joining {
    requester: Requester,
    /// It has never been in a generation.
    is_new: bool,
}
