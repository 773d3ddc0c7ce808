//! Entries: the only things that change the state of a shard.
//!
//! A [`Command`] becomes an [`Entry`] when the sequencer gives it an index, a term and a time; it takes effect when it is durable and
//! applied. The binary form is versioned and read for ever: a command whose fields change gets a new tag, and the old one stays.
//! Record batches are shared with whoever holds the entry, never copied. Nothing here validates a command's meaning: that is `apply`.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::ids::Uuid;

use crate::{
    effect::LogId,
    group, module, stored,
    stored::{Malformed, Reader, Stored, Writer},
};

/// First byte of every entry.
const FORMAT: u8 = 1;

/// Room that an entry is begun with: for its own fields and a small record batch.
const ENTRY_BYTES_USUAL: usize = 256;

/// A command with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Place in the shard's log, dense, from 1.
    pub index: u64,
    /// Term of the sequencer that accepted it.
    pub term: u64,
    /// Node that proposed it.
    pub node: u32,
    /// Time of acceptance, milliseconds; never goes back within a shard.
    pub time: i64,
    /// What to do.
    pub command: Command,
}

impl Entry {
    /// Binary form as a rope that shares the record batches.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut writer = Writer::with_capacity(ENTRY_BYTES_USUAL);
        writer.put(&[FORMAT]);
        self.index.store(&mut writer);
        self.term.store(&mut writer);
        self.node.store(&mut writer);
        self.time.store(&mut writer);
        self.command.store(&mut writer);
        writer.into_chunks()
    }

    /// Reads what [`Entry::encode`] gave, sharing `data`.
    pub fn decode(data: Bytes) -> Result<Entry, Malformed> {
        let mut reader = Reader::new(data);
        let [FORMAT] = reader.take()? else {
            return Err(Malformed("unknown entry format"));
        };
        let entry = Entry {
            index: u64::restore(&mut reader)?,
            term: u64::restore(&mut reader)?,
            node: u32::restore(&mut reader)?,
            time: i64::restore(&mut reader)?,
            command: Command::restore(&mut reader)?,
        };
        reader.finish()?;
        Ok(entry)
    }

    /// Index and time, for `apply`.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            index: self.index,
            time: self.time,
        }
    }
}

/// Where and when an entry stands: all that `apply` may know besides the command and the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the entry.
    pub index: u64,
    /// Time of the entry, milliseconds.
    pub time: i64,
}

stored! {
    /// What an entry does. The tags are the on-disk format.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Command {
        /// Append record batches, each on its own.
        Produce(Vec<Produce>) = 1,
        /// Create topics, each on its own.
        CreateTopics(Vec<NewTopic>) = 2,
        /// Delete topics by id, with their records and committed offsets.
        DeleteTopics(Vec<Uuid>) = 3,
        /// Raise partition counts.
        CreatePartitions(Vec<NewPartitions>) = 4,
        /// Set and remove configuration of topics.
        AlterConfigs(Vec<ConfigChange>) = 5,
        /// Move log starts up.
        TrimLogs(Vec<Trim>) = 6,
        /// Give out a producer id.
        InitProducerId(()) = 7,
        /// Forget producers that have been silent since before a time.
        ExpireProducers(ExpireProducers) = 8,
        /// Commit offsets for a group.
        CommitOffsets(CommitOffsets) = 9,
        /// Delete committed offsets of a group.
        DeleteOffsets(DeleteOffsets) = 10,
        /// A change of a consumer group.
        Group(group::Change) = 11,
        /// A change of a module, or one batch of its work.
        Module(module::Change) = 12,
    }
}

impl Command {
    /// Whether it may change which topics are tables of modules.
    pub(crate) fn may_name_tables(&self) -> bool {
        match self {
            Self::CreateTopics(_) | Self::DeleteTopics(_) => true,
            Self::Module(change) => change.may_name_tables(),
            _ => false,
        }
    }
}

stored! {
    /// Batches for one log.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Produce {
        /// The log, which is gone when its topic is.
        pub log: LogId,
        /// One whole batch, validated.
        pub batch: Bytes,
    }
}

stored! {
    /// A topic to create.
    #[derive(Clone, Debug, PartialEq)]
    pub struct NewTopic {
        /// Name.
        pub name: String,
        /// Identity, chosen by the proposer.
        pub id: Uuid,
        /// Number of partitions.
        pub partitions: u32,
        /// Configuration that differs from the defaults.
        pub configs: BTreeMap<String, String>,
    }
}

stored! {
    /// A partition count to raise.
    #[derive(Clone, Debug, PartialEq)]
    pub struct NewPartitions {
        /// The topic.
        pub topic: Uuid,
        /// The new count.
        pub count: u32,
    }
}

stored! {
    /// Configuration to change.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ConfigChange {
        /// The topic, or `None` for the broker-wide defaults.
        pub topic: Option<Uuid>,
        /// New values; `None` returns to the default.
        pub set: BTreeMap<String, Option<String>>,
        /// Whether keys that are not named return to their defaults (AlterConfigs).
        pub replace: bool,
    }
}

stored! {
    /// A log start to move.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Trim {
        /// The log.
        pub log: LogId,
        /// New first offset. Lower than the present one changes nothing.
        pub start: i64,
    }
}

stored! {
    /// Producers to forget.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExpireProducers {
        /// Silent since before this time, milliseconds.
        pub before: i64,
    }
}

stored! {
    /// Offsets to commit, if the member may.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CommitOffsets {
        /// The group.
        pub group: String,
        /// Member id; empty for a consumer that manages its own partitions.
        pub member: String,
        /// Static member's instance id.
        pub instance: Option<String>,
        /// Generation or member epoch; -1 for a consumer that manages its own partitions.
        pub generation: i32,
        /// The offsets.
        pub offsets: Vec<CommittedOffset>,
    }
}

stored! {
    /// One committed offset.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CommittedOffset {
        /// The topic.
        pub topic: Uuid,
        /// The partition.
        pub partition: i32,
        /// Next offset to read.
        pub offset: i64,
        /// Leader epoch of the last record read, as the client sent it; -1 when it did not.
        pub leader_epoch: i32,
        /// The client's own words, given back as they came.
        pub metadata: String,
    }
}

stored! {
    /// Committed offsets to delete.
    #[derive(Clone, Debug, PartialEq)]
    pub struct DeleteOffsets {
        /// The group.
        pub group: String,
        /// Topic and partition.
        pub partitions: Vec<(Uuid, i32)>,
    }
}
