//! What the node says about itself.
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tidemill_broker::Broker;
use tidemill_protocol::admin::NodeStatus;
use tidemill_storage::{Storage, Written};

/// What does not change while the node runs, and the number of its connections.
pub(super) struct Status {
    pub(super) fixed: NodeStatus,
    pub(super) connections: Arc<AtomicU32>,
}

impl Status {
    pub(super) fn node(&self, broker: &Broker, storage: &Storage, journal: Written) -> NodeStatus {
        let (state, usage) = (broker.state(), storage.usage());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        NodeStatus {
            applied: usage.applied,
            settled: usage.settled,
            topics: count(state.topics.iter().count()),
            partitions: count(state.logs.len()),
            disk_bytes: usage.segment_bytes,
            journal_commits: journal.groups,
            journal_bytes: journal.bytes,
            connections: self.connections.load(Ordering::Relaxed),
            ..self.fixed.clone()
        }
    }
}
