//! What a module is and what it may do, as its author wrote it.
//!
//! A [`Manifest`] that exists is valid: names are legal, every number is within its bound (see [`limits`]), and nothing in it is
//! ignored. A key that is unknown, or known but not served by this version, is refused with a sentence that says so. It reads
//! TOML and JSON alike through serde, knows no file, and does not look whether a topic exists: that is decided at deploy.
//!
//! ```toml
//! [module]
//! name = "sessions"                # also its consumer group
//! version = "1.4.0"
//! component = "sessions.wasm"      # for the tools; the daemon is sent the bytes
//! guarantee = "exactly-once"       # the only one so far
//! members = 1                      # group members on the node: partitions are shared out among them
//!
//! [[input]]
//! topic = "clicks"
//! start = "earliest"               # latest, or a moment: "2013-01-31T12:00:00Z"
//! max-out-of-order = "30s"         # switches event time on: how far behind the latest record another may still come
//! idle-after = "30s"               # without records for so long, this input does not hold up the watermark
//!
//! [[output]]
//! topic = "sessions"
//!
//! [dead-letter]
//! topic = "sessions.dlq"
//! on-poison = "dead-letter"        # skip | stop; the default is dead-letter with a topic and stop without
//! stop-if = { failed = 50, of-last = 1000 }
//!
//! [retry]
//! initial = "100ms"
//! max = "30s"
//! factor = 2.0
//! max-attempts = 10
//! exhausted = "stop"               # poison: isolate the record that cannot be done and apply on-poison to it
//!
//! [batch]
//! max-records = 1000
//! max-bytes = "1MiB"
//! linger = "5ms"
//! timeout = "2s"
//!
//! [limits]
//! memory = "64MiB"
//! output-bytes = "8MiB"            # of one batch
//! state-write-bytes = "8MiB"       # of one batch
//! state-bytes = "2GiB"             # of one task
//! log-lines-per-second = 50
//!
//! [metrics]
//! counters = ["late"]
//!
//! [state.sessions]
//! version = 1
//! ttl = "48h"                      # counted from the last write; without it entries stay
//! ttl-clock = "event-time"         # wall-clock by default
//!
//! [tables]
//! users = "users"                  # what the guest calls it, and the topic: the latest value of each key, for lookups.
//!                                  # Its cleanup.policy should be compact: what time takes from it no rebuilt table has
//!
//! [config]
//! gap-ms = "1800000"
//! ```
mod changes;
mod check;
pub mod limits;
mod quantity;

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use check::{Invalid, is_topic_name};
pub use quantity::{ByteSize, Duration, Factor, Moment, Start};

/// A module's manifest. See the top of this file for the text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Identity.
    pub module: Module,
    /// Topics read; partition `p` of each belongs to task `p`.
    pub input: Vec<Input>,
    /// Topics that may be written.
    #[serde(default)]
    pub output: Vec<Output>,
    /// What becomes of records that cannot be processed.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// What becomes of batches that fail for now.
    #[serde(default)]
    pub retry: Retry,
    /// How a batch is cut.
    #[serde(default)]
    pub batch: Batch,
    /// What one run may use.
    #[serde(default)]
    pub limits: Limits,
    /// Names of the metrics that the guest may report.
    #[serde(default)]
    pub metrics: Metrics,
    /// State buckets by name.
    #[serde(default)]
    pub state: BTreeMap<String, Bucket>,
    /// Settings that the guest may read.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Tables that the guest may look things up in: the guest's name for each, and the topic that it is a view of.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
}

/// `[module]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Module {
    /// Name of the deployment, which is also its consumer group.
    pub name: String,
    /// Version label.
    #[serde(default = "defaults::version")]
    pub version: String,
    /// Where the tools find the component, relative to the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What a commit promises.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// Group members on the node.
    #[serde(default = "defaults::members")]
    pub members: u32,
}

/// What a commit promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Outputs, state, dead letters and offsets of a batch are one entry of the log.
    #[default]
    ExactlyOnce,
}

/// `[[input]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    /// Topic read.
    pub topic: String,
    /// Where to begin without a committed offset.
    #[serde(default)]
    pub start: Start,
    /// How far behind the latest record another may still come. Given on any input, it switches event time on for the module:
    /// each task has a watermark, and inputs without the key have no record out of order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_out_of_order: Option<Duration>,
    /// A partition that is read to its end and had no record for so long does not hold up the watermark. 30 s without the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<Duration>,
}

impl Input {
    /// [`Input::idle_after`] as written, or the default.
    #[must_use]
    pub fn idle_after(&self) -> Duration {
        self.idle_after.unwrap_or(Duration(30_000))
    }
}

/// `[[output]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Output {
    /// Topic that may be written.
    pub topic: String,
}

/// `[dead-letter]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeadLetter {
    /// Topic that takes what was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What to do with a poisonous record; see [`Manifest::on_poison`] for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_poison: Option<OnPoison>,
    /// Pause when too much fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_if: Option<StopIf>,
}

/// What to do with a record that can never succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPoison {
    /// Append it to the dead-letter topic and go on.
    DeadLetter,
    /// Leave it out and go on.
    Skip,
    /// Pause the module; nothing is lost.
    Stop,
}

/// Pause when at least `failed` of the last `of_last` records of a task were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StopIf {
    /// Records given up.
    pub failed: u32,
    /// Of this many.
    pub of_last: u32,
}

/// `[retry]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retry {
    /// Wait after the first failure.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Each wait is this much longer than the one before.
    pub factor: Factor,
    /// Deliveries of the same records before they count as failed for good.
    pub max_attempts: u32,
    /// What then.
    pub exhausted: Exhausted,
}

/// What happens after `retry.max-attempts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exhausted {
    /// Pause the module: what it depends on is down, and no record is to blame.
    #[default]
    Stop,
    /// Bisect the batch until one record is left, and treat that as poisonous.
    Poison,
}

/// `[batch]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Batch {
    /// Records at most.
    pub max_records: u32,
    /// Bytes of records at most; the first record is delivered whatever its size.
    pub max_bytes: ByteSize,
    /// How long to wait for more records after the first.
    pub linger: Duration,
    /// Wall time of one run.
    pub timeout: Duration,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of an instance.
    pub memory: ByteSize,
    /// Bytes of output of one batch.
    pub output_bytes: ByteSize,
    /// Bytes of state written by one batch.
    pub state_write_bytes: ByteSize,
    /// Bytes of state of one task, all buckets and timers together.
    pub state_bytes: ByteSize,
    /// Log lines of a second; what is above is counted, not kept.
    pub log_lines_per_second: u32,
}

/// `[metrics]`: a guest may report only what is named here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Metrics {
    /// Sums.
    pub counters: Vec<String>,
    /// Last values.
    pub gauges: Vec<String>,
    /// Distributions.
    pub histograms: Vec<String>,
}

/// `[state.<bucket>]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bucket {
    /// Form of the rows, which is the host's matter: 1 is the only one. The layout of what is in them is the component's
    /// `state-version`.
    #[serde(default = "defaults::bucket_version")]
    pub version: u32,
    /// How long an entry lives after it was written last; `None` is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// By which clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_clock: Option<Clock>,
}

/// A clock of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The timestamps of the records.
    EventTime,
    /// The host's.
    #[default]
    WallClock,
}

impl Manifest {
    /// Name of the deployment and of its consumer group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.module.name
    }

    /// The policy for poisonous records: as written, or dead-letter with a topic and stop without.
    #[must_use]
    pub fn on_poison(&self) -> OnPoison {
        let fallback = if self.dead_letter.topic.is_some() {
            OnPoison::DeadLetter
        } else {
            OnPoison::Stop
        };
        self.dead_letter.on_poison.unwrap_or(fallback)
    }

    /// Whether tasks keep event time: a watermark, and timers by it.
    #[must_use]
    pub fn has_event_time(&self) -> bool {
        self.input.iter().any(|input| input.max_out_of_order.is_some())
    }

    /// Every topic that the module may append to: the outputs and the dead-letter topic, each once.
    pub fn writable_topics(&self) -> impl Iterator<Item = &str> {
        let outputs = self.output.iter().map(|output| output.topic.as_str());
        let dead_letter = self.dead_letter.topic.as_deref();
        let unlisted = dead_letter.filter(|topic| self.output.iter().all(|output| output.topic != *topic));
        outputs.chain(unlisted)
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let manifest = Self::deserialize(deserializer)?;
        manifest.check().map_err(de::Error::custom)?;
        Ok(manifest)
    }
}

impl Default for Retry {
    fn default() -> Self {
        let exhausted = Exhausted::default();
        Self {
            initial: Duration(100),
            max: Duration(30_000),
            factor: Factor(2000),
            max_attempts: 10,
            exhausted,
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_records: 1000,
            max_bytes: ByteSize(1 << 20),
            linger: Duration(5),
            timeout: Duration(2000),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize(64 << 20),
            output_bytes: ByteSize(8 << 20),
            state_write_bytes: ByteSize(8 << 20),
            state_bytes: ByteSize(2 << 30),
            log_lines_per_second: 50,
        }
    }
}

mod defaults {
    use alloc::string::String;

    pub(super) fn version() -> String {
        String::from("0.0.0")
    }

    pub(super) fn members() -> u32 {
        1
    }

    pub(super) fn bucket_version() -> u32 {
        1
    }
}

#[cfg(test)]
mod tests;
