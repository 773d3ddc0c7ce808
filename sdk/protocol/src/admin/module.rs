//! A module as `status`, `list` and `logs` show it.
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

use super::Digest;

/// One deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStatus {
    /// Name, which is also its consumer group.
    pub module: String,
    /// Version label from the manifest.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Number of that version within the deployment.
    #[serde(default)]
    pub number: u32,
    /// Where it stands.
    pub state: ModuleState,
    /// Another version is taking over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Why it is paused or failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was deployed, milliseconds since the epoch.
    pub deployed_at: i64,
    /// Topic that takes what it gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// Since the module was first deployed.
    pub counters: Counters,
    /// What its runs took, over all tasks.
    #[serde(default)]
    pub usage: Usage,
    /// Bytes of its state, over all tasks.
    #[serde(default)]
    pub state_bytes: u64,
    /// Tables that its guest looks things up in.
    #[serde(default)]
    pub tables: Vec<TableStatus>,
    /// Tasks that this node owns or owned, by number.
    pub tasks: Vec<TaskStatus>,
}

/// What runs took on this node, since the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Runs, failed ones included.
    pub runs: u64,
    /// Records delivered, again after a failure included.
    pub records: u64,
    /// Records whose effect was committed in the last seconds, a second.
    pub records_per_second: u64,
    /// Bytes of records delivered.
    pub bytes_in: u64,
    /// Bytes of record batches produced.
    pub bytes_out: u64,
    /// Wall time in the guest, microseconds.
    pub guest_us: u64,
    /// Processor time, guest and host, microseconds.
    pub cpu_us: u64,
    /// Calls from the guest into the host.
    pub host_calls: u64,
    /// The most linear memory that an instance had after a run, bytes.
    pub memory_bytes_max: u64,
    /// Runs that failed or asked for a retry.
    pub failures: u64,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// Why a run failed, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// Milliseconds since the epoch.
    pub time: i64,
    /// For a person.
    pub message: String,
}

impl Usage {
    /// Adds what others took.
    pub fn add(&mut self, more: &Usage) {
        self.runs += more.runs;
        self.records += more.records;
        self.records_per_second += more.records_per_second;
        self.bytes_in += more.bytes_in;
        self.bytes_out += more.bytes_out;
        self.guest_us += more.guest_us;
        self.cpu_us += more.cpu_us;
        self.host_calls += more.host_calls;
        self.memory_bytes_max = self.memory_bytes_max.max(more.memory_bytes_max);
        self.failures += more.failures;
        let time = |error: &Option<LastError>| error.as_ref().map(|error| error.time);
        if time(&self.last_error) < time(&more.last_error) {
            self.last_error.clone_from(&more.last_error);
        }
    }

    /// Wall time in the guest for each record delivered, nanoseconds.
    #[must_use]
    pub fn ns_per_record(&self) -> u64 {
        self.guest_us.saturating_mul(1000) / self.records.max(1)
    }
}

/// A version that takes over, task by task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Its label.
    pub version: String,
    /// Its number.
    pub number: u32,
    /// When it began, milliseconds since the epoch.
    pub since: i64,
    /// Tasks that run it.
    pub tasks: u32,
    /// If it is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Failures that count against it, if it is on trial.
    #[serde(default)]
    pub failures: u32,
}

/// How a version is tried out before it takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Tasks that run it.
    pub tasks: u32,
    /// It is taken back when more runs than this fail, or more records than this are given up.
    #[serde(default)]
    pub failures_max: u32,
    /// It is taken back when one of its tasks is further behind than this, in records; 0 does not look.
    #[serde(default)]
    pub lag_max: u64,
    /// It takes over everywhere when it has run for so long, milliseconds; 0 waits for `module-promote`.
    #[serde(default)]
    pub promote_after_ms: u64,
}

/// A version of a module that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// From 1, in the order of the deploys.
    pub number: u32,
    /// Label from the manifest.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Layout of the state that it reads and writes.
    #[serde(default)]
    pub state_version: u32,
    /// What it is to the deployment now.
    pub state: VersionState,
    /// When it was deployed, milliseconds since the epoch.
    pub deployed_at: i64,
    /// Who deployed it.
    pub by: String,
    /// When it last became the one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<i64>,
    /// Why it was taken back before it ran everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
    /// What it may do that the version before it might not, and the other way round.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// What a version is to its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It runs.
    Running,
    /// It takes over.
    TakingOver,
    /// It is on trial on some tasks.
    Canary,
    /// It can be rolled back to.
    Kept,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Durable; the host does not have it yet, or its tables are not built.
    Staged,
    /// Loaded; its members are in the group.
    Running,
    /// Stopped by an operator or by its own policy; offsets and state are kept.
    Paused,
    /// The component cannot be loaded on this node.
    Failed,
}

/// Sums over the life of a module. They are committed with the batches, so a repeated batch is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Records whose effect is committed, given up ones included.
    pub records_in: u64,
    /// Records appended to output topics.
    pub records_out: u64,
    /// Batches committed.
    pub batches: u64,
    /// Records given up: appended to the dead-letter topic or skipped.
    pub given_up: u64,
    /// Runs that failed or asked for a retry. Since the start of the daemon.
    pub failures: u64,
    /// Commits refused because the task had changed hands or its offsets had moved. Since the start of the daemon.
    pub refused: u64,
}

/// One task: partition `number` of every input topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Partition number.
    pub number: u32,
    /// What it is doing.
    pub phase: Phase,
    /// Number of the version that it runs; 0 when it was never owned.
    #[serde(default)]
    pub version: u32,
    /// Raised whenever the task changes hands or goes on with another version.
    pub generation: u64,
    /// Member id of the owner; absent while another member of the group owns the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Deliveries of the records at hand; 1 when all is well.
    pub attempt: u32,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Position of each input.
    pub inputs: Vec<InputStatus>,
    /// What its runs took.
    #[serde(default)]
    pub usage: Usage,
    /// Bytes of its state, timers included.
    #[serde(default)]
    pub state_bytes: u64,
    /// Event time below which records are late; absent without event time, or until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Caught up, or lingering for more.
    Idle,
    /// A read is under way.
    Reading,
    /// The guest is running.
    Running,
    /// Its entry is being made durable.
    Committing,
    /// Waiting before the next attempt.
    Waiting,
    /// Its state is rewritten for another version.
    Migrating,
}

/// A task's position in one input topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputStatus {
    /// Topic.
    pub topic: String,
    /// Next offset to process. Everything below is committed.
    pub position: i64,
    /// High watermark.
    pub high_watermark: i64,
    /// Records between the two.
    pub lag: i64,
}

/// A table of a module, and how far behind its topic it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// What the guest calls it.
    pub name: String,
    /// The topic that it is a view of.
    pub topic: String,
    /// Records of the topic that are not in it yet.
    pub behind: i64,
    /// Everything that was appended so many milliseconds ago is in it; absent while it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_ms: Option<i64>,
    /// Records that are not in it for good: without a key, with a key above 4 KiB or a value above 1 MiB, or unreadable.
    #[serde(default)]
    pub left_out: u64,
}

/// A line from the guest or about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the epoch.
    pub time: i64,
    /// trace, debug, info, warn, error, critical.
    pub level: String,
    /// Task number.
    pub task: u32,
    /// Record being worked on, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// Text.
    pub message: String,
}

/// A record's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
}
