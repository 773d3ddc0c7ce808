//! The durable state of a shard, and the only function that changes it.
//!
//! [`State::apply`] is deterministic for ever: it sees the state, the entry and nothing else, runs the same way live, in recovery and
//! on a follower, and cannot fail. What decides an outcome (sequence, epoch, generation, expected offset) is checked here, because only
//! here is the order known. Every change is also written to [`Changes`] as rows, so that `State::load` over all rows gives the same
//! state as a replay of all entries.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{error_code::ErrorCode, ids::Uuid};

use crate::{
    effect::{Append, Changes, LogId, Row, Table},
    entry::{Command, CommittedOffset, Entry, Stamp},
    group,
    limits::OFFSETS_PARTITIONS,
    module,
    offset::{Committed, Offsets},
    stored::{Malformed, Stored},
    topic::{self, CONSUMER_OFFSETS, CONSUMER_OFFSETS_ID, Log, Topic, Topics},
};

/// Everything derived from the log, but for modules' own state, which only storage holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Time of the last entry, milliseconds.
    pub time: i64,
    /// Topics.
    pub topics: Topics,
    /// Logs of all partitions.
    pub logs: BTreeMap<LogId, Log>,
    /// Committed offsets.
    pub offsets: Offsets,
    /// Consumer groups.
    pub groups: group::Durable,
    /// Modules and their tasks.
    pub modules: module::Durable,
    counters: Counters,
}

crate::stored! {
    /// Numbers that are given out once.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Counters {
        /// The next log.
        pub log: u32,
        /// The next producer id.
        pub producer: i64,
    }
}

/// What an entry came to. Whoever proposed it is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// For each batch group of a `Produce`, in order.
    Produced(Vec<Result<Appended, ErrorCode>>),
    /// For each topic of a command about topics, in order.
    Topics(Vec<Result<(), ErrorCode>>),
    /// For each log of a `TrimLogs`: the log start now.
    Trimmed(Vec<Result<i64, ErrorCode>>),
    /// A producer's identity.
    ProducerId(Result<(i64, i16), ErrorCode>),
    /// Whether offsets were committed or deleted.
    Offsets(Result<(), ErrorCode>),
    /// Of a group's change.
    Group(group::Outcome),
    /// Of a module's change.
    Module(module::Outcome),
}

/// Where batches went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Time that the broker stamped on the records, -1 when the producer's stands.
    pub append_time: i64,
    /// First offset of the log.
    pub log_start: i64,
}

impl State {
    /// Applies one entry: the only mutator.
    pub fn apply(&mut self, entry: &Entry) -> (Outcome, Changes) {
        let mut changes = Changes { index: entry.index, ..Changes::default() };
        let at = entry.stamp();
        debug_assert!(self.time <= at.time, "entry time never goes back");
        self.time = self.time.max(at.time);
        let outcome = match &entry.command {
            Command::Produce(_) => Outcome::Done,
            Command::CreateTopics(topics) => Outcome::Topics(
                topics.iter().map(|new| self.create_topic(&mut changes, new.name.clone(), new.id, new.partitions, new.configs.clone())).collect(),
            ),
            Command::DeleteTopics(_) => Outcome::Done,
            Command::CreatePartitions(_) => Outcome::Done,
            Command::AlterConfigs(_) => Outcome::Done,
            Command::TrimLogs(_) => Outcome::Done,
            Command::InitProducerId(_) => Outcome::Done,
            Command::ExpireProducers(_) => Outcome::Done,
            Command::CommitOffsets(commit) => {
                let checked = self.groups.check_commit(&commit.group, &commit.member, commit.instance.as_deref(), commit.generation);
                if checked.is_ok() {
                    self.commit_offsets(&mut changes, at, &commit.group, &commit.offsets);
                }
                Outcome::Offsets(checked)
            }
            Command::DeleteOffsets(delete) => {
                self.delete_offsets(&mut changes, at, &delete.group, &delete.partitions);
                Outcome::Offsets(Ok(()))
            }
            Command::Group(change) => Outcome::Group(group::apply(self, at, change, &mut changes)),
            Command::Module(change) => Outcome::Module(module::apply(self, at, change, &mut changes)),
        };
        changes.put(Table::Meta, &b"time"[..], &self.time);
        (outcome, changes)
    }

    /// Takes back one row of what `apply` wrote. Rows come in any order of tables.
    pub fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
        match row.table {
            Table::Meta if row.key == "time" => self.time = i64::from_row(value)?,
            Table::Meta if row.key == "counters" => self.counters = Counters::from_row(value)?,
            Table::Meta => return Err(Malformed("unknown key in table Meta")),
            Table::Topic => self.topics.insert(Topic::from_row(value)?),
            Table::Log => drop(self.logs.insert(topic::log_of_key(&row.key)?, Log::from_row(value)?)),
            Table::Producer => {}
            Table::Group => self.groups.load(row)?,
            Table::Offset => self.offsets.load(row)?,
            Table::Module | Table::Task => self.modules.load(row)?,
            Table::ModuleState => {}
        }
        Ok(())
    }

    /// The log of a topic's partition.
    pub fn log(&self, topic: &str, partition: i32) -> Option<(LogId, &Log)> {
        let id = self.topics.get(topic)?.log(partition)?;
        Some((id, &self.logs[&id]))
    }

    /// Creates a topic, for `apply` only.
    pub(crate) fn create_topic(
        &mut self,
        changes: &mut Changes,
        name: String,
        id: Uuid,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<(), ErrorCode> {
        if self.topics.get(&name).is_some() {
            return Err(ErrorCode::TopicAlreadyExists);
        }
        let mut topic = Topic { name, id, logs: Vec::new(), configs };
        self.add_partitions(changes, &mut topic, partitions);
        self.topics.insert(topic);
        Ok(())
    }

    /// Gives `topic` logs up to `count` and saves it, for `apply` only.
    pub(crate) fn add_partitions(&mut self, changes: &mut Changes, topic: &mut Topic, count: u32) {
        for partition in topic.partitions()..count {
            let id = LogId(self.counters.log);
            self.counters.log += 1;
            let partition = i32::try_from(partition).expect("partitions are bounded by TOPIC_PARTITIONS_MAX");
            let log = Log { topic: topic.id, partition, start: 0, end: 0, max_timestamp: -1, leader_epoch: 0 };
            log.save(id, changes);
            self.logs.insert(id, log);
            topic.logs.push(id);
        }
        topic.save(changes);
        changes.put(Table::Meta, &b"counters"[..], &self.counters);
    }

    /// Appends one batch, whose producer has been checked, for `apply` only. The log must exist.
    pub(crate) fn append(&mut self, changes: &mut Changes, id: LogId, batch: Bytes) -> Appended {
        let log = self.logs.get_mut(&id).expect("the caller has found the log");
        let last_offset_delta = i32::from_be_bytes(batch[23..27].try_into().expect("four bytes"));
        let max_timestamp = i64::from_be_bytes(batch[35..43].try_into().expect("eight bytes"));
        let base_offset = log.end;
        let last_offset = base_offset + i64::from(last_offset_delta);
        log.end = last_offset + 1;
        log.max_timestamp = log.max_timestamp.max(max_timestamp);
        log.save(id, changes);
        changes.appends.push(Append { log: id, base_offset, last_offset, max_timestamp, leader_epoch: log.leader_epoch, batch });
        Appended { base_offset, last_offset, append_time: -1, log_start: log.start }
    }

    /// Commits offsets for a group, whose member has been checked, for `apply` only: a record each in `__consumer_offsets` and a row each.
    /// Offsets of topics that are gone are left out.
    pub(crate) fn commit_offsets(&mut self, changes: &mut Changes, at: Stamp, group: &str, offsets: &[CommittedOffset]) {
        self.ensure_consumer_offsets(changes);
        for commit in offsets {
            if self.topics.get_by_id(&commit.topic).is_none_or(|topic| topic.log(commit.partition).is_none()) {
                continue;
            }
            let committed =
                Committed { offset: commit.offset, leader_epoch: commit.leader_epoch, metadata: commit.metadata.clone(), time: at.time };
            self.offsets.insert(changes, group, (commit.topic, commit.partition), committed);
        }
    }

    /// Deletes committed offsets, for `apply` only: a tombstone each and no row.
    pub(crate) fn delete_offsets(&mut self, changes: &mut Changes, _at: Stamp, group: &str, partitions: &[(Uuid, i32)]) {
        for at in partitions {
            self.offsets.remove(changes, group, *at);
        }
    }

    /// The internal topic is there from the first commit on.
    fn ensure_consumer_offsets(&mut self, changes: &mut Changes) {
        if self.topics.get(CONSUMER_OFFSETS).is_none() {
            let configs = BTreeMap::from([("cleanup.policy".into(), "compact".into())]);
            self.create_topic(changes, CONSUMER_OFFSETS.into(), CONSUMER_OFFSETS_ID, OFFSETS_PARTITIONS, configs)
                .expect("the topic is not there");
        }
    }
}
