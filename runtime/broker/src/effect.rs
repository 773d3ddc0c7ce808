//! What the core asks of the world, and what it has changed.
//!
//! Every outside thing is one of these values, performed by exactly one crate: [`Changes`] by storage, [`Effect::Run`] by the host,
//! the rest by the server's node loop. Nothing here does anything.
use alloc::{boxed::Box, collections::BTreeSet, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{api::Response, records::Records};

use crate::{
    entry::Command,
    module::{self, run::Run},
};

/// Dense number of a partition's log within its shard, given at creation and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// Names one request until its [`Effect::Respond`]. The server chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names one proposal until it is committed. The core chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// Names one outstanding read. The core chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What must go out. Order matters: perform effects in the order in which they were polled.
#[derive(Debug)]
pub enum Effect {
    /// Make this command an entry: stamp index, term and time, make it durable, then call `handle_committed`.
    Propose(ProposalId, Command),
    /// Read from these logs, then call `handle_read` with one answer for each.
    Read(ReadId, Vec<LogRead>),
    /// Read from this log and take the rows of a view out of it (`module::view::Rows::of`), then call `handle_rows`.
    ReadRows(ReadId, LogRead),
    /// Find the first record at or after a timestamp, then call `handle_found`.
    FindTime(ReadId, LogId, i64),
    /// Ask storage how far retention may move the log start; then call `handle_retention`.
    FindRetention(Vec<RetentionQuery>),
    /// The answer to a request.
    Respond(RequestId, Response),
    /// The answer to a management request.
    RespondAdmin(RequestId, Box<tidemill_protocol::admin::Answer>),
    /// Run one batch of a module's task, then call `handle_processed`.
    Run(Box<Run>),
    /// Make this version of a module ready to run (load or compile its artefact), then call `handle_loaded`.
    Load(module::Version),
    /// This task of a version has left this node for another member of the group: whoever ran it last may be told.
    Revoke(module::Version, u32),
    /// This version will not run again on this node; its instances may be dropped.
    Unload(module::Version),
    /// Components of versions that are kept, by digest. Others may be deleted, but for what is being deployed just now.
    Keep(BTreeSet<[u8; 32]>),
    /// Something worth a line in the daemon's log.
    Note(String),
}

/// One contiguous read. Answered with whole batches: the first contains `from`, none reaches past `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// The log to read.
    pub log: LogId,
    /// Offset wanted first; the batch that contains it is returned whole.
    pub from: i64,
    /// No batch with an offset at or above this is returned (high watermark).
    pub until: i64,
    /// Soft bound in bytes: the first batch is returned even if it is larger, and half of it is enough where the next read begins better.
    pub bytes_max: usize,
}

/// How long and how much of a log to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionQuery {
    /// The log.
    pub log: LogId,
    /// Records whose segment's largest timestamp is below this are due; `None` keeps by time for ever.
    pub delete_before: Option<i64>,
    /// Keep at least this many bytes; `None` keeps for ever.
    pub bytes_max: Option<u64>,
}

/// A record batch accepted into a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The log.
    pub log: LogId,
    /// Offset of the batch's first record. The batch's own header may hold something else: see [`Append::batch`].
    pub base_offset: i64,
    /// Offset of the batch's last record.
    pub last_offset: i64,
    /// Largest timestamp in the batch, milliseconds.
    pub max_timestamp: i64,
    /// Leader epoch under which it was accepted.
    pub leader_epoch: i32,
    /// The batch as it came; base offset and leader epoch in its first 16 bytes are *not* patched yet (they lie before the CRC).
    pub batch: Bytes,
}

/// Derived tables, each kept in `state.redb`. The numbers are the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Counters and versions of the state machine itself.
    Meta = 0,
    /// Topic by name.
    Topic = 1,
    /// Log by [`LogId`]: topic, partition, start, end.
    Log = 2,
    /// Producer state by (log, producer id).
    Producer = 3,
    /// Consumer group by name.
    Group = 4,
    /// Committed offset by (group, topic id, partition).
    Offset = 5,
    /// Module deployment by name.
    Module = 6,
    /// Module task by (module, number).
    Task = 7,
    /// A module's own state by (deployment, task, bucket, key), see [`module::state_key`]. Never loaded into the core: it may be larger than memory.
    ModuleState = 8,
    /// How far a topic is materialised, by topic id.
    View = 9,
    /// The rows of views, see [`module::view`]. Never loaded into the core.
    ViewRow = 10,
}

/// A derived row: the last value written wins, `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which table.
    pub table: Table,
    /// Key within the table.
    pub key: Bytes,
    /// Encoded value, or `None` to delete.
    pub value: Option<Bytes>,
}

/// All that applying one entry changed. Storage publishes it to its in-memory tail and overlay before anybody is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Index of the entry.
    pub index: u64,
    /// Batches appended, in order.
    pub appends: Vec<Append>,
    /// Rows written, in order.
    pub rows: Vec<Row>,
    /// Logs whose start moved up; what lies below may be deleted.
    pub log_starts: Vec<(LogId, i64)>,
    /// Logs that are gone with everything in them.
    pub dropped: Vec<LogId>,
    /// Rows that are gone: all of a table whose keys begin with these bytes. Nobody asks for them again and no such key is ever written
    /// again, so they may be deleted at leisure.
    pub cleared: Vec<(Table, Bytes)>,
}

impl Changes {
    /// Writes a row.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: &impl crate::stored::Stored) {
        self.rows.push(Row {
            table,
            key: key.into(),
            value: Some(value.to_row()),
        });
    }

    /// Writes a row of raw bytes, or deletes it.
    pub fn put_raw(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        self.rows.push(Row { table, key, value });
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.rows.push(Row {
            table,
            key: key.into(),
            value: None,
        });
    }
}

/// What a read found: one for each [`LogRead`], `Records` ready to be sent (base offsets and leader epochs patched).
pub type ReadAnswer = Vec<Result<Records, ReadError>>;

/// Why a read found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The offset is below what storage still has: retention ran meanwhile.
    Gone,
    /// The disk could not give it (KAFKA_STORAGE_ERROR). Never to be confused with [`ReadError::Gone`], after which a client resets.
    Failed,
}

/// What a read for a view found.
pub type RowsAnswer = Result<module::view::Rows, ReadError>;

/// What a search by time found: the first record whose timestamp is at or after the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds.
    pub timestamp: i64,
}
