//! The contract between the core and the host: one batch of one task in, one outcome out.
//!
//! The host decides nothing: it runs the guest and reports. What becomes of a trap, a poisonous record or a retry is decided by the
//! core, which therefore asks for a batch by offsets and can ask for any part of it again.
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{
    manifest::{self, Clock, Manifest, Metrics},
    records::Records,
};

use super::{Version, expiry_row, view::ViewId};
use crate::stored;

/// Partition number `number` of every input topic of one deployment: the unit of ownership, state and commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskKey {
    /// Deployment name.
    pub module: String,
    /// Number of its state: a module deleted and deployed again has another one, and never sees the state of the first. A migration works
    /// on a copy with a number of its own.
    pub deployment: u64,
    /// Partition number.
    pub number: u32,
}

/// One input partition's share of a batch.
#[derive(Clone, Debug)]
pub struct Input {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// First offset to deliver; earlier records of the first batch are skipped.
    pub from: i64,
    /// Deliver nothing at or above this offset. `i64::MAX` when only the limits cut the batch.
    pub until: i64,
    /// Records that this commit gives up on, in order of offset. The host leaves them out, and if the run names a dead-letter topic
    /// for them ([`GiveUp::dead_letter`]) it adds them to the outputs of that topic, exactly as `producer.dead-letter` would. Those at
    /// or above `Processed::next` were not reached: they are in no output.
    pub give_up: Vec<GiveUp>,
    /// Whether the log has more records after these, below the high watermark: what is merged by timestamp with them waits then. Said
    /// only where there are several inputs.
    pub has_more: bool,
    /// Whole record batches, possibly compressed.
    pub records: Records,
}

/// A state bucket that the manifest declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Name, as the guest opens it.
    pub name: String,
    /// Bucket of the rows, see [`state_key`](super::state_key): entries that expire have another form than those that stay.
    pub rows: String,
    /// When entries expire.
    pub ttl: Option<Ttl>,
}

impl Bucket {
    /// The buckets that a manifest declares.
    #[must_use]
    pub fn granted(manifest: &Manifest) -> Vec<Self> {
        let bucket = |(name, bucket): (&String, &manifest::Bucket)| {
            let clock = bucket.ttl_clock.unwrap_or_default();
            let ttl = bucket.ttl.map(|ttl| Ttl {
                ms: ttl.as_millis_i64(),
                clock,
            });
            let rows = if ttl.is_some() {
                expiry_row::rows_of(name)
            } else {
                name.clone()
            };
            Self {
                name: name.clone(),
                rows,
                ttl,
            }
        };
        manifest.state.iter().map(bucket).collect()
    }

    /// The guest's value in a row of this bucket; `None` for a row that no host wrote.
    #[must_use]
    pub fn value(&self, row: Bytes) -> Option<Bytes> {
        match self.ttl {
            Some(_) => expiry_row::decode(&row).map(|(_, value)| value),
            None => Some(row),
        }
    }
}

/// How long the entries of a bucket live after they were written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// Milliseconds.
    pub ms: i64,
    /// By which clock.
    pub clock: Clock,
}

/// Event time of a task as it stands before a run, from what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTime {
    /// Records below are late; `None` until every input that is not idle has had a record.
    pub watermark: Option<i64>,
    /// The largest timestamp so far.
    pub latest: Option<i64>,
}

/// What a run calls in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `handler.process` with the records of the inputs.
    #[default]
    Records,
    /// `timer-handler.on-timers` with at most so many timers that are due: in order of time, those of event time first.
    Timers(u32),
    /// Nothing in the guest: the rows of the task's state after this one ([`state_key::in_task`](super::state_key::in_task)) are given back,
    /// to be written to a copy. How far they go comes back in [`Processed::migrated`].
    Copy {
        /// The last row that the copy has; empty at the beginning.
        after: Bytes,
    },
    /// `migrator.migrate` over the task's state, which is a copy. What was written and how far it is come back in [`Processed::migrated`].
    Migrate {
        /// The layout that the state has.
        from_version: u32,
        /// Where the last call stopped; `None` at the beginning.
        cursor: Option<Bytes>,
    },
    /// Only `lifecycle.init`, in an instance that is thrown away: whether the component starts with these settings. Which layout its
    /// state has comes back in [`Processed::state_version`].
    Rehearse,
}

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// All of the state is copied, or has the new layout.
    Done,
    /// Call again with this row or cursor when what was written so far is committed.
    More(Bytes),
}

stored! {
    /// When the first timer of each clock is due.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Due {
        /// By the watermark.
        pub event_time: Option<i64>,
        /// By the host's clock.
        pub wall_clock: Option<i64>,
    }
}

/// A poisonous record: never delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveUp {
    /// Its offset.
    pub offset: i64,
    /// Whether it goes to the dead-letter topic (with [`dead_letter`]'s headers) or nowhere.
    pub dead_letter: bool,
    /// Short and stable: the guest's own code, or [`Failure::code`].
    pub code: String,
    /// For a person.
    pub reason: String,
    /// Deliveries until it was given up.
    pub attempt: u32,
}

/// Names of the headers that a record carries in the dead-letter topic, after its own. Key, value and timestamp are the record's.
///
/// Those that begin with `__dlq` are Kafka's, of share groups' dead-letter queues (KIP-1191; as written by `ShareGroupDLQStateManager` of
/// apache/kafka), so that one tool reads both; a module's name is its group's. Kafka has no name for the others. KIP-1317, a draft, would add
/// a disposition, from a list of its own that has no room for a module's codes.
pub mod dead_letter {
    /// Topic it came from.
    pub const TOPIC: &str = "__dlq.errors.topic";
    /// Partition it came from, decimal.
    pub const PARTITION: &str = "__dlq.errors.partition";
    /// Offset it had there, decimal.
    pub const OFFSET: &str = "__dlq.errors.offset";
    /// Stable code of the failure.
    pub const CODE: &str = "tidemill.code";
    /// The failure for a person.
    pub const REASON: &str = "__dlq.errors.message";
    /// Deliveries until it was given up, decimal.
    pub const ATTEMPT: &str = "__dlq.errors.delivery.count";
    /// Name of the module.
    pub const MODULE: &str = "__dlq.errors.group";
    /// Version label of the module.
    pub const VERSION: &str = "tidemill.version";
}

/// Tables that the manifest names, by the guest's name; `None` for one that is not materialised.
pub type Tables = BTreeMap<String, Option<ViewId>>;

/// One output topic as it stands now.
#[derive(Clone, Debug)]
pub struct OutputTopic {
    /// Number of partitions, for the key hash.
    pub partitions: u32,
    /// Largest record batch the topic takes.
    pub batch_bytes_max: usize,
}

/// Bounds of one run, from the manifest. A message about one of them names its key.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Records delivered at most: `batch.max-records`.
    pub records_max: u32,
    /// Bytes of records delivered at most (the first is delivered whatever its size): `batch.max-bytes`.
    pub bytes_max: usize,
    /// Wall time of the call: `batch.timeout`.
    pub timeout_ms: u32,
    /// Linear memory of the instance: `limits.memory`.
    pub memory_bytes_max: usize,
    /// Output bytes of one call: `limits.output-bytes`.
    pub output_bytes_max: usize,
    /// Bytes of state written by one call: `limits.state-write-bytes`.
    pub state_write_bytes_max: usize,
    /// Bytes of state of the task: `limits.state-bytes`.
    pub state_bytes_max: u64,
    /// Log lines of a second: `limits.log-lines-per-second`.
    pub log_lines_per_second: u32,
}

/// Run one batch of a task.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whose batch.
    pub task: TaskKey,
    /// Which code.
    pub version: Version,
    /// Generation of the task's owner; comes back in the commit.
    pub generation: u64,
    /// 1 on the first delivery of these records.
    pub attempt: u32,
    /// The clock the guest sees, milliseconds.
    pub now: i64,
    /// Whether nothing was committed since the owner took the task: what `on-assign` wrote before, if it was called, is nowhere.
    pub is_fresh: bool,
    /// Times that the task's timers have fired: what an offset is to records.
    pub firings: u64,
    /// Event time, if the manifest has it.
    pub event_time: Option<EventTime>,
    /// Bytes of the task's state: keys and values, and [`STATE_ROW_BYTES`] for each row.
    pub state_bytes: u64,
    /// What to call.
    pub kind: Kind,
    /// Records to deliver; none unless the kind is [`Kind::Records`].
    pub inputs: Vec<Input>,
    /// Topics that the manifest grants, by name.
    pub outputs: Arc<BTreeMap<String, OutputTopic>>,
    /// Dead-letter topic, if the manifest names one. It is in `outputs` too.
    pub dead_letter: Option<String>,
    /// Buckets that the manifest declares.
    pub buckets: Arc<Vec<Bucket>>,
    /// `[config]` of the manifest.
    pub config: Arc<BTreeMap<String, String>>,
    /// `[tables]` of the manifest.
    pub tables: Arc<Tables>,
    /// `[metrics]` of the manifest: the names that the guest may report.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
}

/// A row of a task's state to write: bucket of the rows (UTF-8), key, value or delete.
pub type StateRow = (Bytes, Bytes, Option<Bytes>);

/// What a row of state counts for beside its key and value.
pub const STATE_ROW_BYTES: u64 = 32;

/// What came of a [`Run`].
#[derive(Clone, Debug)]
pub struct Processed {
    /// Whose batch.
    pub task: TaskKey,
    /// As in the run.
    pub generation: u64,
    /// What to do with it. Everything below but `logs` and `usage` is empty unless this is [`Verdict::Ack`].
    pub verdict: Verdict,
    /// First offset *not* covered, for each input of the run: (topic, partition, next offset). Everything below it was delivered and
    /// acknowledged, given up, or holds no record; it reaches the end of the records given (but not past `until`) unless a limit or
    /// `ack.first` cut the batch. An input with nothing to deliver (all given up, emptied batches) is acknowledged without the guest.
    pub next: Vec<(String, u32, i64)>,
    /// Records that the guest gave up on by `producer.dead-letter`.
    pub given_up: u32,
    /// Records in `outputs`, dead letters included.
    pub output_records: u64,
    /// Record batches (v2, base offset 0, CRC set) to append, in order: (topic, partition, batch).
    pub outputs: Vec<(String, u32, Bytes)>,
    /// State writes in order, last wins. Timers are among them, and rows that have expired.
    pub state: Vec<StateRow>,
    /// By how much the state grows with them.
    pub state_growth: i64,
    /// The largest timestamp acknowledged of each input with records: (topic, partition, timestamp). Empty without event time.
    pub event_times: Vec<(String, u32, i64)>,
    /// When timers are due after this, if the run changed any.
    pub due: Option<Due>,
    /// Of [`Kind::Copy`] and [`Kind::Migrate`].
    pub migrated: Option<Migrated>,
    /// Of [`Kind::Rehearse`]: what `migrator.state-version` says, if the component has it.
    pub state_version: Option<u32>,
    /// Counters to add and gauges to set when committed.
    pub metrics: Vec<Metric>,
    /// Log lines, kept whatever the verdict.
    pub logs: Vec<LogLine>,
    /// What it took.
    pub usage: Usage,
}

impl Processed {
    /// A run that leaves nothing behind.
    #[must_use]
    pub fn nothing(run: &Run, verdict: Verdict) -> Self {
        Self::nothing_of(run.task.clone(), run.generation, verdict)
    }

    /// The same where the run itself is gone.
    #[must_use]
    pub fn nothing_of(task: TaskKey, generation: u64, verdict: Verdict) -> Self {
        Self {
            task,
            generation,
            verdict,
            next: Vec::new(),
            given_up: 0,
            output_records: 0,
            outputs: Vec::new(),
            state: Vec::new(),
            state_growth: 0,
            event_times: Vec::new(),
            due: None,
            migrated: None,
            state_version: None,
            metrics: Vec::new(),
            logs: Vec::new(),
            usage: Usage::default(),
        }
    }
}

/// The host's word on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Commit everything up to `Processed::next`.
    Ack,
    /// Transient; deliver the same records again.
    Retry {
        /// From the guest.
        reason: String,
        /// `None`: the backoff policy decides.
        after_ms: Option<u32>,
        /// As in [`Verdict::Failed`].
        delivered: Vec<(String, u32, i64, i64, u32)>,
    },
    /// The guest says that this record can never succeed.
    Poison {
        /// The record.
        at: Coordinates,
        /// Stable code.
        code: String,
        /// For a person.
        reason: String,
    },
    /// The guest asks to stop the deployment.
    Fatal(String),
    /// The sandbox stopped the guest. The instance is gone.
    Failed {
        /// What happened.
        kind: Failure,
        /// For a person: message, demangled guest frames, the limit and its key in the manifest.
        message: String,
        /// The record that `context.mark` named, or the only record delivered.
        suspect: Option<Coordinates>,
        /// Records delivered: (topic, partition, first offset, last offset, count), for the bisection.
        delivered: Vec<(String, u32, i64, i64, u32)>,
    },
}

impl Failure {
    /// Stable code for headers, logs and alerts.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "out-of-memory",
            Self::Stack => "stack-overflow",
            Self::Limit => "limit-exceeded",
        }
    }
}

/// Ways in which the sandbox stops a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A trap: panic, unreachable, bad memory access.
    Trap,
    /// `batch.timeout`.
    Timeout,
    /// `limits.memory`.
    Memory,
    /// Stack exhausted by recursion.
    Stack,
    /// A host-side bound: output bytes, state bytes, handles.
    Limit,
}

/// A record's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinates {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
}

/// A measurement made by the guest.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Add to a counter.
    Counter(String, u64),
    /// Set a gauge.
    Gauge(String, f64),
    /// Record into a histogram.
    Histogram(String, f64),
}

/// One line from the guest or about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Host clock, milliseconds.
    pub time: i64,
    /// trace, debug, info, warn, error, critical.
    pub level: &'static str,
    /// Task number.
    pub task: u32,
    /// Record being worked on, where known.
    pub at: Option<Coordinates>,
    /// Text, cut to a bound.
    pub message: String,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Records delivered.
    pub records: u32,
    /// Record bytes delivered.
    pub bytes: u64,
    /// Wall time in the guest, microseconds.
    pub guest_us: u64,
    /// Processor time of the lane that ran it, microseconds: guest and host. 0 where it was run without a lane.
    pub cpu_us: u64,
    /// Linear memory after the call, bytes.
    pub memory_bytes: u64,
    /// Calls from the guest into the host.
    pub host_calls: u32,
}

/// Reads a task's committed state, and tables, while its guest runs. Given by the server, implemented over storage.
pub trait StateReader: Send + Sync {
    /// Value of a key.
    fn get(&self, task: &TaskKey, bucket: &str, key: &[u8]) -> Option<Bytes>;
    /// Entries in key order.
    fn scan(&self, scan: StateScan<'_>) -> Vec<(Bytes, Bytes)>;
    /// Value of a record's key in a table, as of some entry since the run began.
    fn look_up(&self, view: ViewId, key: &[u8]) -> Option<Bytes>;
    /// At most so many rows of all buckets, in order, after one: see [`state_key::rest`](super::state_key::rest). A row is named by
    /// [`state_key::in_task`](super::state_key::in_task).
    fn rows(&self, task: &TaskKey, after: &[u8], rows_max: usize) -> Vec<(Bytes, Bytes)>;
}

/// Which entries [`StateReader::scan`] gives.
#[derive(Clone, Copy, Debug)]
pub struct StateScan<'a> {
    /// Whose.
    pub task: &'a TaskKey,
    /// Bucket.
    pub bucket: &'a str,
    /// First key.
    pub start: &'a [u8],
    /// Key behind the last; empty: there is no bound.
    pub end: &'a [u8],
    /// From the end on, in descending order.
    pub reverse: bool,
    /// How many at most.
    pub entries_max: usize,
}
