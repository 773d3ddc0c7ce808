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
    /// Where it stands.
    pub state: ModuleState,
    /// Why it is paused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was deployed, milliseconds since the epoch.
    pub deployed_at: i64,
    /// Since the module was first deployed.
    pub counters: Counters,
    /// Tasks that this node owns or owned, by number.
    pub tasks: Vec<TaskStatus>,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Durable, not yet loaded.
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
    /// Raised whenever the task changes hands.
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
