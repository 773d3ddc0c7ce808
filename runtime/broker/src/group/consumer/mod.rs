//! Groups of the consumer protocol (KIP-848): members only heartbeat, the coordinator assigns.
//!
//! The group has an epoch, raised whenever members, subscriptions or topics change, and a target for each member, computed at once. Each
//! member goes from its own epoch to the group's at its own pace, revoking before others are assigned (see `reconcile`). A member of a
//! module lives in the core and speaks the same protocol, with three differences: it has no session while the daemon lives, it is
//! reconciled without being asked as far as nothing must be revoked, and its heartbeat is answered when there is news.
mod heartbeat;
mod membership;
mod reconcile;
mod target;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use tidemill_protocol::{error_code::ErrorCode, ids::Uuid};

use super::Partitions;
use crate::{
    context::Requester,
    stored,
    stored::{Malformed, Reader, Stored, Writer},
};

/// Epoch of a static member that has left and means to come back.
pub(super) const LEFT_STATIC: i32 = -2;

stored! {
    /// What is said once for a group.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Header {
        /// Raised when members, subscriptions or topics change.
        pub epoch: i32,
        /// Assignor of the present targets.
        pub assignor: String,
        /// Topics that somebody subscribes to, with the partition counts that the targets were computed for.
        pub topics: BTreeMap<Uuid, i32>,
    }
}

stored! {
    /// A member.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Member {
        /// Of a static member.
        pub instance: Option<String>,
        /// Where it is.
        pub rack: Option<String>,
        /// As the client calls itself.
        pub client_id: String,
        /// Where it connects from.
        pub client_host: String,
        /// How long it may take to give up partitions.
        pub rebalance_timeout_ms: i32,
        /// Topics wanted, by name, sorted.
        pub topics: Vec<String>,
        /// Topics wanted, by pattern.
        pub regex: Option<String>,
        /// Assignor that it votes for.
        pub assignor: Option<String>,
        /// It lives in this daemon.
        pub is_module: bool,
        /// The epoch that it is at; -2 for a static member that has left and means to come back.
        pub epoch: i32,
        /// The epoch before: accepted once more, because the answer that raised it may have been lost.
        pub previous_epoch: i32,
        /// How far it has come.
        pub phase: Phase,
        /// What it may read.
        pub assigned: Partitions,
        /// What it has been told to give up and has not said that it has: nobody else may have it yet.
        pub revoking: Partitions,
        /// What it should have.
        pub target: Partitions,
    }
}

impl Member {
    /// Whether it is at its target.
    pub fn is_reconciled(&self, epoch: i32) -> bool {
        self.phase == Phase::Stable && self.epoch == epoch
    }
}

/// How far a member has come towards its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has all of the target of its epoch.
    #[default]
    Stable,
    /// It still owns partitions that it has been told to give up.
    Revoking,
    /// It waits for partitions that others still own.
    Waiting,
}

impl Stored for Phase {
    fn store(&self, to: &mut Writer) {
        to.put(&[match self {
            Phase::Stable => 0,
            Phase::Revoking => 1,
            Phase::Waiting => 2,
        }]);
    }
    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        match from.take()? {
            [0] => Ok(Phase::Stable),
            [1] => Ok(Phase::Revoking),
            [2] => Ok(Phase::Waiting),
            _ => Err(Malformed("unknown phase of a member")),
        }
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
    pub(super) fn check_commit(&self, member: &str, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if epoch == member.epoch {
            Ok(())
        } else {
            Err(ErrorCode::STALE_MEMBER_EPOCH)
        }
    }

    /// Member that owns a partition now, if anybody does: it has it, or has not said yet that it gave it up.
    pub fn owner(&self, topic: &Uuid, partition: i32) -> Option<&str> {
        let has = |partitions: &Partitions| {
            partitions
                .get(topic)
                .is_some_and(|partitions| partitions.contains(&partition))
        };
        self.members
            .iter()
            .find(|(_, member)| has(&member.assigned) || has(&member.revoking))
            .map(|(id, _)| id.as_str())
    }

    /// Member id of a static member.
    pub(super) fn static_member(&self, instance: &str) -> Option<&str> {
        self.members
            .iter()
            .find(|(_, member)| member.instance.as_deref() == Some(instance))
            .map(|(id, _)| id.as_str())
    }

    /// Kafka's name for how far the group has come.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self
            .members
            .values()
            .all(|member| member.is_reconciled(self.header.epoch))
        {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Partitions that anybody but `member` owns.
    fn owned_by_others(&self, member: &str) -> BTreeSet<(Uuid, i32)> {
        let others = self.members.iter().filter(|(id, _)| *id != member);
        others
            .flat_map(|(_, other)| [&other.assigned, &other.revoking])
            .flatten()
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
            .collect()
    }
}

/// What a restart may forget: all of it about members of modules.
#[derive(Debug, Default)]
pub(super) struct Soft {
    /// Heartbeats that wait for news.
    polls: BTreeMap<String, Requester>,
    /// Epoch and assignment that each was last told. Anything else is news.
    pub(super) told: BTreeMap<String, (i32, Partitions)>,
}
