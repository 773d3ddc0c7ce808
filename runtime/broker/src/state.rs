//! The durable state of a shard, and the only function that changes it.
//!
//! [`State::apply`] is deterministic for ever: it sees the state, the entry and nothing else, runs the same way live, in recovery and
//! on a follower, and cannot fail. What decides an outcome (sequence, epoch, generation, expected offset) is checked here, because only
//! here is the order known. Every change is also written to [`Changes`] as rows, so that `State::load` over all rows gives the same
//! state as a replay of all entries.
mod commits;
mod records;
mod topics;

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use tidemill_protocol::error_code::ErrorCode;

use crate::{
    config_keys::Settings,
    effect::{Changes, LogId, Row, Table},
    entry::{Command, Entry},
    group, module,
    offset::Offsets,
    producer::Producers,
    stored::{Malformed, Stored},
    topic::{self, Log, Topic, Topics},
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
    /// Idempotent producers.
    pub producers: Producers,
    /// Committed offsets.
    pub offsets: Offsets,
    /// Consumer groups.
    pub groups: group::Durable,
    /// Modules and their tasks.
    pub modules: module::Durable,
    /// Broker-wide configuration that differs from the defaults, by broker-wide name.
    pub configs: BTreeMap<String, String>,
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
    /// For each `Produce` of the command, in order.
    Produced(Vec<Result<Appended, ErrorCode>>),
    /// For each topic of a command about topics, in order.
    Topics(Vec<Result<(), ErrorCode>>),
    /// For each log of a `TrimLogs`, in order: the log start now.
    Trimmed(Vec<Result<i64, ErrorCode>>),
    /// A producer's identity: id and epoch.
    ProducerId(Result<(i64, i16), ErrorCode>),
    /// Whether offsets were committed or deleted.
    Offsets(Result<(), ErrorCode>),
    /// Of a group's change.
    Group(group::Outcome),
    /// Of a module's change.
    Module(module::Outcome),
}

/// Where a batch went.
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
        let mut changes = Changes {
            index: entry.index,
            ..Changes::default()
        };
        let at = entry.stamp();
        debug_assert!(self.time <= at.time, "entry time never goes back");
        self.time = self.time.max(at.time);
        let outcome = match &entry.command {
            Command::Produce(parts) => {
                Outcome::Produced(parts.iter().map(|part| self.produce(&mut changes, at, part)).collect())
            }
            Command::CreateTopics(topics) => {
                Outcome::Topics(topics.iter().map(|new| self.create_topic(&mut changes, new)).collect())
            }
            Command::DeleteTopics(ids) => {
                Outcome::Topics(ids.iter().map(|id| self.delete_topic(&mut changes, at, id)).collect())
            }
            Command::CreatePartitions(all) => Outcome::Topics(
                all.iter()
                    .map(|new| self.create_partitions(&mut changes, new))
                    .collect(),
            ),
            Command::AlterConfigs(all) => {
                Outcome::Topics(all.iter().map(|one| self.alter_config(&mut changes, one)).collect())
            }
            Command::TrimLogs(trims) => {
                Outcome::Trimmed(trims.iter().map(|trim| self.trim_log(&mut changes, trim)).collect())
            }
            Command::InitProducerId(()) => Outcome::ProducerId(Ok((self.next_producer_id(&mut changes), 0))),
            Command::ExpireProducers(expire) => {
                self.producers.expire(&mut changes, expire.before);
                Outcome::Done
            }
            Command::CommitOffsets(commit) => {
                let checked = self.groups.check_commit(
                    &commit.group,
                    &commit.member,
                    commit.instance.as_deref(),
                    commit.generation,
                );
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
        if entry.command.may_name_tables() {
            module::view::follow(self, at, &mut changes);
        }
        changes.put(Table::Meta, &b"time"[..], &self.time);
        (outcome, changes)
    }

    /// Takes back one row of what `apply` wrote. Rows come in any order of tables.
    pub fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
        match row.table {
            Table::Meta if row.key == "time" => self.time = i64::from_row(value)?,
            Table::Meta if row.key == "counters" => self.counters = Counters::from_row(value)?,
            Table::Meta if row.key == "configs" => self.configs = BTreeMap::from_row(value)?,
            Table::Meta => return Err(Malformed("unknown key in table Meta")),
            Table::Topic => self.topics.insert(Topic::from_row(value)?),
            Table::Log => drop(self.logs.insert(topic::log_of_key(&row.key)?, Log::from_row(value)?)),
            Table::Producer => self.producers.load(row)?,
            Table::Group => self.groups.load(row)?,
            Table::Offset => self.offsets.load(row)?,
            Table::Module | Table::Task | Table::View => self.modules.load(row)?,
            Table::ModuleState | Table::ViewRow => {}
        }
        Ok(())
    }

    /// The log of a topic's partition.
    pub fn log(&self, topic: &str, partition: i32) -> Option<(LogId, &Log)> {
        let id = self.topics.get(topic)?.log(partition)?;
        Some((id, &self.logs[&id]))
    }

    /// Configuration as it holds for a topic.
    pub fn settings<'a>(&'a self, topic: &'a Topic) -> Settings<'a> {
        Settings {
            topic: &topic.configs,
            broker: &self.configs,
        }
    }

    fn next_producer_id(&mut self, changes: &mut Changes) -> i64 {
        let id = self.counters.producer;
        self.counters.producer += 1;
        changes.put(Table::Meta, &b"counters"[..], &self.counters);
        id
    }
}
