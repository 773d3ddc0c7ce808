//! Topics and their logs: names, identities, where each partition's log begins and ends.
//!
//! A [`LogId`] is given once and never again, so that nothing meant for a deleted topic can reach its successor of the same name.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::ids::Uuid;

use crate::{
    effect::{Changes, LogId, Table},
    limits::TOPIC_NAME_BYTES_MAX,
    stored,
    stored::{Malformed, Stored},
};

/// Where committed offsets are kept as records.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Whether only the broker itself makes a topic of this name and writes to it.
pub fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS
}

/// Identity of [`CONSUMER_OFFSETS`]: it is made inside `apply`, where nothing is random, and lives as long as the shard.
pub const CONSUMER_OFFSETS_ID: Uuid = Uuid(*b"consumer-offsets");

/// Whether a topic may have this name: 1 to 249 letters, digits, `.`, `_` or `-`, but neither `.` nor `..`.
pub fn is_valid_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_letter) && name != "." && name != ".."
}

stored! {
    /// A topic.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Topic {
        /// Name.
        pub name: String,
        /// Identity: a topic deleted and created again is another one.
        pub id: Uuid,
        /// Log of each partition.
        pub logs: Vec<LogId>,
        /// Configuration that differs from the defaults.
        pub configs: BTreeMap<String, String>,
    }
}

impl Topic {
    /// Whether clients must not write to it or delete it.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// The log of a partition as clients number them.
    pub fn log(&self, partition: i32) -> Option<LogId> {
        self.logs.get(usize::try_from(partition).ok()?).copied()
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.logs.len()).expect("partitions are bounded by TOPIC_PARTITIONS_MAX")
    }

    pub(crate) fn save(&self, changes: &mut Changes) {
        changes.put(Table::Topic, Bytes::copy_from_slice(self.name.as_bytes()), self);
    }
}

/// All topics, by name and by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
}

impl Topics {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of this identity.
    pub fn get_by_id(&self, id: &Uuid) -> Option<&Topic> {
        self.by_name.get(self.names.get(id)?)
    }

    /// In order of names.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    pub(crate) fn remove(&mut self, id: &Uuid) -> Option<Topic> {
        self.by_name.remove(&self.names.remove(id)?)
    }

    pub(crate) fn get_mut(&mut self, id: &Uuid) -> Option<&mut Topic> {
        self.by_name.get_mut(self.names.get(id)?)
    }
}

stored! {
    /// One partition's log.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Log {
        /// The topic it belongs to.
        pub topic: Uuid,
        /// Partition number.
        pub partition: i32,
        /// First offset that can be read.
        pub start: i64,
        /// Offset that the next record gets. Only applied entries are in a log, so this is the high watermark.
        pub end: i64,
        /// Largest timestamp so far, -1 while empty.
        pub max_timestamp: i64,
        /// Leader epoch of everything in it.
        pub leader_epoch: i32,
    }
}

impl Log {
    pub(crate) fn new(topic: Uuid, partition: i32) -> Log {
        Log {
            topic,
            partition,
            start: 0,
            end: 0,
            max_timestamp: -1,
            leader_epoch: 0,
        }
    }

    pub(crate) fn save(&self, id: LogId, changes: &mut Changes) {
        changes.put(Table::Log, id.to_row(), self);
    }

    /// Everything below is applied and may be read.
    pub fn high_watermark(&self) -> i64 {
        self.end
    }
}

/// Key of a log's row.
pub(crate) fn log_of_key(key: &Bytes) -> Result<LogId, Malformed> {
    LogId::from_row(key)
}
