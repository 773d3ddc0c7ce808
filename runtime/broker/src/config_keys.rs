//! Configuration keys of topics: names, kinds, defaults, and which of them this broker acts upon.
//!
//! Every key of Kafka's is known, so that tools that set or show them work; the broker-wide default of a key can be set under the name
//! that Kafka gives it there. What has no meaning here (flushing, indexes, replication) is kept and shown, and does nothing:
//! `compression.type` is one of these, batches stay as their producers made them.
use alloc::{collections::BTreeMap, string::String};
use core::fmt;

/// What values a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// 32 bits, at least this.
    Int(i32),
    /// 64 bits, at least this.
    Long(i64),
    /// A number from 0 to 1.
    Ratio,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, separated by commas.
    SomeOf(&'static [&'static str]),
    /// Anything.
    Text,
}

impl Kind {
    /// As `DescribeConfigs` numbers types.
    pub fn number(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::OneOf(_) | Kind::Text => 2,
            Kind::Int(_) => 3,
            Kind::Long(_) => 5,
            Kind::Ratio => 6,
            Kind::SomeOf(_) => 7,
        }
    }

    /// Whether a key of this kind may hold `value`.
    pub fn accepts(self, value: &str) -> bool {
        match self {
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Int(min) => value.parse().is_ok_and(|number: i32| min <= number),
            Kind::Long(min) => value.parse().is_ok_and(|number: i64| min <= number),
            Kind::Ratio => value.parse().is_ok_and(|number: f64| (0.0..=1.0).contains(&number)),
            Kind::OneOf(choices) => choices.contains(&value),
            Kind::SomeOf(choices) => value.split(',').all(|item| choices.contains(&item.trim())),
            Kind::Text => true,
        }
    }
}

/// For a person: what it takes.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Boolean => f.write_str("true or false"),
            Kind::Int(min) => write!(f, "a whole number from {min} to {}", i32::MAX),
            Kind::Long(min) => write!(f, "a whole number from {min} on"),
            Kind::Ratio => f.write_str("a number from 0 to 1"),
            Kind::OneOf(choices) => write!(f, "one of {}", choices.join(", ")),
            Kind::SomeOf(choices) => write!(f, "some of {}, separated by commas", choices.join(", ")),
            Kind::Text => f.write_str("anything"),
        }
    }
}

/// A configuration key of topics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Its name on a topic.
    pub name: &'static str,
    /// Name of the broker-wide default.
    pub broker: &'static str,
    /// Value when nothing is set.
    pub default: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// For a person.
    pub documentation: &'static str,
}

const COMPRESSION: Kind = Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]);
const FOREVER: &str = "9223372036854775807";

macro_rules! keys {
    ($($constant:ident: $name:literal, $broker:literal, $default:expr, $kind:expr, $documentation:literal;)*) => {
        $(
            #[doc = $documentation]
            pub const $constant: Key = Key { name: $name, broker: $broker, default: $default, kind: $kind, documentation: $documentation };
        )*
        /// All of them, by name.
        pub const TOPIC_KEYS: &[Key] = &[$($constant),*];
    };
}

keys! {
    CLEANUP_POLICY: "cleanup.policy", "log.cleanup.policy", "delete", Kind::SomeOf(&["delete", "compact"]), "What becomes of old records: delete by time and size, or compact by key.";
    COMPRESSION_GZIP_LEVEL: "compression.gzip.level", "compression.gzip.level", "-1", Kind::Int(-1), "Without effect: batches stay as their producers made them.";
    COMPRESSION_LZ4_LEVEL: "compression.lz4.level", "compression.lz4.level", "9", Kind::Int(1), "Without effect: batches stay as their producers made them.";
    COMPRESSION_TYPE: "compression.type", "compression.type", "producer", COMPRESSION, "Without effect: batches stay as their producers made them.";
    COMPRESSION_ZSTD_LEVEL: "compression.zstd.level", "compression.zstd.level", "3", Kind::Int(-131072), "Without effect: batches stay as their producers made them.";
    DELETE_RETENTION_MS: "delete.retention.ms", "log.cleaner.delete.retention.ms", "86400000", Kind::Long(0), "How long tombstones stay in a compacted topic.";
    FILE_DELETE_DELAY_MS: "file.delete.delay.ms", "log.segment.delete.delay.ms", "60000", Kind::Long(0), "Without effect: what is deleted is gone when no reader holds it.";
    FLUSH_MESSAGES: "flush.messages", "log.flush.interval.messages", FOREVER, Kind::Long(1), "Without effect: everything is on stable storage before it is acknowledged.";
    FLUSH_MS: "flush.ms", "log.flush.interval.ms", FOREVER, Kind::Long(0), "Without effect: everything is on stable storage before it is acknowledged.";
    FOLLOWER_THROTTLED: "follower.replication.throttled.replicas", "follower.replication.throttled.replicas", "", Kind::Text, "Without effect on one node.";
    INDEX_INTERVAL_BYTES: "index.interval.bytes", "log.index.interval.bytes", "4096", Kind::Int(0), "Without effect: every chunk is indexed.";
    LEADER_THROTTLED: "leader.replication.throttled.replicas", "leader.replication.throttled.replicas", "", Kind::Text, "Without effect on one node.";
    MAX_COMPACTION_LAG_MS: "max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", FOREVER, Kind::Long(1), "How long a record may wait for compaction.";
    MAX_MESSAGE_BYTES: "max.message.bytes", "message.max.bytes", "1048588", Kind::Int(0), "Largest record batch accepted, compressed.";
    MESSAGE_TIMESTAMP_AFTER_MAX_MS: "message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", "3600000", Kind::Long(0), "How far a record's timestamp may lie in the future.";
    MESSAGE_TIMESTAMP_BEFORE_MAX_MS: "message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", FOREVER, Kind::Long(0), "How far a record's timestamp may lie in the past.";
    MESSAGE_TIMESTAMP_TYPE: "message.timestamp.type", "log.message.timestamp.type", "CreateTime", Kind::OneOf(&["CreateTime", "LogAppendTime"]), "Whether records carry their producer's time or the broker's.";
    MIN_CLEANABLE_DIRTY_RATIO: "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "0.5", Kind::Ratio, "Share of uncompacted bytes from which compaction starts.";
    MIN_COMPACTION_LAG_MS: "min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", "0", Kind::Long(0), "How long a record stays out of compaction.";
    MIN_INSYNC_REPLICAS: "min.insync.replicas", "min.insync.replicas", "1", Kind::Int(1), "Without effect on one node.";
    PREALLOCATE: "preallocate", "log.preallocate", "false", Kind::Boolean, "Without effect: segments grow.";
    RETENTION_BYTES: "retention.bytes", "log.retention.bytes", "-1", Kind::Long(-1), "How many bytes of a partition are kept at least; -1 keeps all.";
    RETENTION_MS: "retention.ms", "log.retention.ms", "604800000", Kind::Long(-1), "How long records are kept at least; -1 keeps them for ever.";
    SEGMENT_BYTES: "segment.bytes", "log.segment.bytes", "1073741824", Kind::Int(14), "Without effect: segments are shared by all partitions.";
    SEGMENT_INDEX_BYTES: "segment.index.bytes", "log.index.size.max.bytes", "10485760", Kind::Int(4), "Without effect: indexes grow.";
    SEGMENT_JITTER_MS: "segment.jitter.ms", "log.roll.jitter.ms", "0", Kind::Long(0), "Without effect: segments are shared by all partitions.";
    SEGMENT_MS: "segment.ms", "log.roll.ms", "604800000", Kind::Long(1), "Without effect: segments are shared by all partitions.";
    UNCLEAN_LEADER_ELECTION: "unclean.leader.election.enable", "unclean.leader.election.enable", "false", Kind::Boolean, "Without effect: a leader that lost records is never elected.";
}

/// The key of this name on topics.
pub fn topic_key(name: &str) -> Option<&'static Key> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// The key with this broker-wide name.
pub fn broker_key(name: &str) -> Option<&'static Key> {
    TOPIC_KEYS.iter().find(|key| key.broker == name)
}

/// Configuration as it holds for one topic: its own values over the broker's over the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The topic's own values.
    pub topic: &'a BTreeMap<String, String>,
    /// Broker-wide values.
    pub broker: &'a BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    /// A key's value.
    pub fn text(&self, key: &Key) -> &'a str {
        let set = self.topic.get(key.name).or_else(|| self.broker.get(key.broker));
        set.map_or(key.default, String::as_str)
    }

    /// A numeric key's value.
    pub fn number(&self, key: &Key) -> i64 {
        self.text(key).parse().expect("values are checked before they are set")
    }

    /// Largest batch accepted.
    pub fn batch_bytes_max(&self) -> usize {
        usize::try_from(self.number(&MAX_MESSAGE_BYTES)).unwrap_or(0)
    }

    /// Whether old records of a key give way to newer ones.
    pub fn is_compacted(&self) -> bool {
        self.text(&CLEANUP_POLICY).contains("compact")
    }

    /// Whether old records are deleted by time and size.
    pub fn is_deleted(&self) -> bool {
        self.text(&CLEANUP_POLICY).contains("delete")
    }

    /// Whether the broker's time replaces the producer's.
    pub fn is_append_time(&self) -> bool {
        self.text(&MESSAGE_TIMESTAMP_TYPE) == "LogAppendTime"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in TOPIC_KEYS {
            assert!(key.default.is_empty() || key.kind.accepts(key.default), "{}", key.name);
        }
    }
}
