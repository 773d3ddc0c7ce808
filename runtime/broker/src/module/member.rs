//! A module's own member of its consumer group: it speaks KIP-848 like any other consumer, only that its requests never leave the
//! core, and that the group answers only when there is something new: one heartbeat is always waiting there.
//!
//! ```text
//!            join (epoch 0)              assignment               tasks to give back are done
//!  outside ─────────────────► member ─────────────────► assigned ─────────────────────────────► owned == assigned
//!     ▲                                                                                           │ told with the
//!     └── fenced: epoch or member unknown; its tasks are dropped ◄────────────────────────────────┘ next heartbeat
//! ```
//!
//! Its id is made of the module, the node and its number, so that after a restart it is the same member and nothing is rebalanced.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec,
    vec::Vec,
};
use tidemill_protocol::{
    api::{
        Request,
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions},
    },
    error_code::ErrorCode,
    ids::Uuid,
    manifest::Manifest,
};

use crate::{
    context::{ConnectionId, Context, RequestContext},
    limits::MODULE_REJOIN_MS,
};

/// Assignor that keeps the partitions of one number together.
const ASSIGNOR: &str = "task";
/// No connection has this number: members of modules are in the core itself.
const NO_CONNECTION: ConnectionId = ConnectionId(u64::MAX);
/// Time to give back a task beyond the longest run, milliseconds.
const REVOKE_MARGIN_MS: u32 = 10_000;

/// Partitions by topic.
pub(super) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    /// Member id.
    pub(super) id: String,
    /// Member epoch; 0 outside of the group.
    pub(super) epoch: i32,
    /// What the group wants it to have.
    pub(super) assigned: Partitions,
    /// What it has: its tasks run, or are about to.
    pub(super) owned: Partitions,
    /// Why the group does not take it.
    pub(super) error: Option<String>,
    /// Tells this membership from earlier ones of the same id.
    pub(super) nonce: u64,
    /// Number of the last call, until it is answered.
    call: Option<u64>,
    /// When to call next, if nothing is waiting for an answer.
    due: i64,
    /// What the group was last told.
    told: Option<(Partitions, Vec<String>)>,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Membership goes on; the assignment may be another one.
    Member,
    /// The group does not know the member any more: what it has is lost.
    Fenced,
}

impl Member {
    /// Member number `index` of a module on a node.
    pub(super) fn new(module: &str, node_id: i32, index: usize, nonce: u64) -> Self {
        Self {
            id: format!("{module}-{node_id}-{index}"),
            epoch: 0,
            assigned: Partitions::new(),
            owned: Partitions::new(),
            error: None,
            nonce,
            call: None,
            due: i64::MIN,
            told: None,
        }
    }

    /// When it wants to call; `None` while the group has its call.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.call.is_none().then_some(self.due)
    }

    /// Whether the group does not know yet what it has. Then it calls whether or not an earlier call is answered.
    pub(super) fn has_news(&self) -> bool {
        0 < self.epoch && self.told.as_ref().is_some_and(|(owned, _)| *owned != self.owned)
    }

    /// Joins, or says that it is still there and what it has.
    pub(super) fn heartbeat(&mut self, ctx: &mut Context<'_>, call: u64, manifest: &Manifest) {
        let topics: Vec<String> = manifest.input.iter().map(|input| input.topic.clone()).collect();
        let joins = self.epoch == 0;
        let told_topics = self.told.as_ref().filter(|_| !joins).map(|(_, topics)| topics);
        let revoke_ms = manifest
            .batch
            .timeout
            .as_millis_u32()
            .saturating_mul(2)
            .saturating_add(REVOKE_MARGIN_MS);
        let request = ConsumerGroupHeartbeatRequest {
            group_id: manifest.name().into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins {
                i32::try_from(revoke_ms).unwrap_or(i32::MAX)
            } else {
                -1
            },
            subscribed_topic_names: (told_topics != Some(&topics)).then(|| topics.clone()),
            server_assignor: joins.then(|| ASSIGNOR.into()),
            // Always said: what was given and taken again between two calls was never heard of here, and the group would wait for it.
            topic_partitions: Some(listed(&self.owned)),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.told = Some((self.owned.clone(), topics));
        self.call = Some(call);
        ctx.request(call, caller(manifest.name()), Request::ConsumerGroupHeartbeat(request));
    }

    /// Says good-bye; nobody waits for the answer.
    pub(super) fn leave(&self, ctx: &mut Context<'_>, call: u64, module: &str) {
        if self.epoch == 0 && self.call.is_none() {
            return;
        }
        let request = ConsumerGroupHeartbeatRequest {
            group_id: module.into(),
            member_id: self.id.clone(),
            member_epoch: -1,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        ctx.request(call, caller(module), Request::ConsumerGroupHeartbeat(request));
    }

    /// Takes in the group's answer.
    pub(super) fn hear(&mut self, now: i64, call: u64, response: ConsumerGroupHeartbeatResponse) -> Heard {
        if self.call == Some(call) {
            self.call = None;
        }
        let code = response.error_code;
        if code.is_ok() {
            self.error = None;
            self.epoch = response.member_epoch;
            self.due = now;
            if let Some(assignment) = response.assignment {
                let parts = assignment.topic_partitions.into_iter();
                self.assigned = parts
                    .map(|part| (part.topic_id, part.partitions.into_iter().collect()))
                    .collect();
                self.assigned
                    .retain(|_, partitions: &mut BTreeSet<i32>| !partitions.is_empty());
            }
            return Heard::Member;
        }
        let fenced_before = self.epoch == 0;
        let words = response.error_message.unwrap_or_else(|| code.sentence().into());
        self.error = Some(format!("{code:?}: {words}"));
        self.due = now + MODULE_REJOIN_MS;
        if is_fencing(code) {
            self.reset();
            self.due = if fenced_before { now + MODULE_REJOIN_MS } else { now };
            return Heard::Fenced;
        }
        Heard::Member
    }

    /// Forgets the membership, to join anew.
    pub(super) fn reset(&mut self) {
        self.epoch = 0;
        self.assigned.clear();
        self.owned.clear();
        self.call = None;
        self.told = None;
    }
}

/// Whether a code means that the group has given the member up.
pub(super) fn is_fencing(code: ErrorCode) -> bool {
    [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ]
    .contains(&code)
}

fn listed(partitions: &Partitions) -> Vec<TopicPartitions> {
    let mut list = vec![];
    for (topic, numbers) in partitions {
        list.push(TopicPartitions {
            topic_id: *topic,
            partitions: numbers.iter().copied().collect(),
        });
    }
    list
}

fn caller(module: &str) -> RequestContext {
    RequestContext {
        principal: format!("Module:{module}").into(),
        client_id: Some(module.into()),
        client_host: "tidemill".into(),
        api_version: 1,
        connection: NO_CONNECTION,
    }
}
