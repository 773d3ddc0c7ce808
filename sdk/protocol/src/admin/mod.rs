//! Management, protocol `tidemill-admin/1`: modules and the node itself. Everything else is Kafka's.
//!
//! One QUIC stream a call, on a connection with that ALPN:
//!
//! ```text
//! client -> +----------------+---------------------+------------------------------------------+
//!           | length: u32 BE | JSON of a [`Call`]  | component, `component_bytes` of it       |
//!           +----------------+---------------------+------------------------------------------+
//!                                                    after `module-deploy`, `module-shadow`
//! server -> {"answer":"progress",...}\n {"answer":"module",...}\n ... {"answer":"done"}\n   then the stream ends
//! ```
//!
//! - The JSON of a call has at most [`CALL_BYTES_MAX`] bytes; a component at most [`COMPONENT_BYTES_MAX`].
//! - Every line is one [`Answer`]. The last is `done` or `error` ([`Answer::is_last`]); a stream that ends without one was cut,
//!   and what the call did is unknown.
//! - Who is calling is the connection's matter, not the message's.
//!
//! ```text
//! {"call":"module-deploy","manifest":{...},"component_bytes":118000,"digest":"<sha-256, hex>","wait":true}
//! {"call":"module-list"}                                    module ... done
//! {"call":"module-status","module":"sessions"}              module, done
//! {"call":"module-logs","module":"sessions","follow":true,"tail":100}    log ...
//! {"call":"module-history","module":"sessions"}             version ... done
//! {"call":"module-rollback","module":"sessions","to":"1.3.0","restore_state":false,"wait":true}    progress ... done
//! {"call":"module-promote","module":"sessions","wait":true}
//! {"call":"module-rewind","module":"sessions","to":"2013-01-31T12:00:00Z","reset_state":true}
//! {"call":"module-redrive","module":"sessions","code":"no-user","dry_run":true}    progress ... done
//! {"call":"module-pause","module":"sessions","reason":"upgrade of the database"}
//! {"call":"module-resume","module":"sessions"}
//! {"call":"module-delete","module":"sessions"}
//! {"call":"module-state","module":"sessions","task":0,"bucket":"open","prefix":"616e6e","entries_max":100}    state, done
//! {"call":"node-status"}                                    node, done
//! ```
//!
//! Readers skip fields that they do not know; a call or an answer that is unknown as a whole is an error.
mod module;
mod state;

use alloc::{boxed::Box, string::String};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::manifest::{Manifest, Start};

pub use module::{
    Canary, Counters, InputStatus, LastError, LogLine, ModuleState, ModuleStatus, Phase, Place, RolloutStatus,
    TableStatus, TaskStatus, Usage, VersionState, VersionStatus,
};
pub use state::{Hex, STATE_ENTRIES_MAX, STATE_PAGE_BYTES_MAX, StateEntry, StatePage, StateQuery};

/// ALPN of the management protocol.
pub const ALPN: &[u8] = b"tidemill-admin/1";
/// Bytes of a call's JSON at most: room for the largest manifest.
pub const CALL_BYTES_MAX: u32 = 4 << 20;
/// Bytes of a component at most.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one line of answer at most; a reader may refuse what is longer.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Log lines that `tail` may ask for.
pub const LOG_TAIL_MAX: u32 = 1000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// Make this module run. The component's bytes follow. An existing module of that name gets the new version and manifest.
    ModuleDeploy {
        /// What the module is and may do.
        manifest: Box<Manifest>,
        /// Length of the component that follows.
        component_bytes: u64,
        /// SHA-256 of the component; checked against what arrives.
        digest: Digest,
        /// Answer `done` only when every member of the module has loaded it and joined the group; otherwise when it is durable.
        #[serde(default)]
        wait: bool,
        /// Only on some tasks for now, if another version of it runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Canary>,
    },
    /// Run this version over what the module has processed last, beside the one that runs, and tell what differs. Nothing of it is kept.
    /// The component's bytes follow.
    ModuleShadow {
        /// What the version is and may do; its name is the deployment's.
        manifest: Box<Manifest>,
        /// Length of the component that follows.
        component_bytes: u64,
        /// SHA-256 of the component; checked against what arrives.
        digest: Digest,
        /// How many of the last batches of each task, full ones.
        batches: u32,
    },
    /// One `version` answer for each version that is kept, oldest first.
    ModuleHistory {
        /// Name of the deployment.
        module: String,
    },
    /// Run a version that is kept. Offsets and state are kept, which needs the same layout of the state.
    ModuleRollback {
        /// Name of the deployment.
        module: String,
        /// Its label or number; by default what ran before, or what still runs beside a version that is taking over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// Go back to state and offsets as of the migration away from the version's layout: outputs since then repeat.
        #[serde(default)]
        restore_state: bool,
        /// As for a deploy.
        #[serde(default)]
        wait: bool,
    },
    /// Let a canary take over everywhere.
    ModulePromote {
        /// Name of the deployment.
        module: String,
        /// As for a deploy.
        #[serde(default)]
        wait: bool,
    },
    /// Begin again elsewhere in the inputs, all partitions together. Whatever is under way is done anew.
    ModuleRewind {
        /// Name of the deployment.
        module: String,
        /// The first record at or after a moment, or an end.
        to: Start,
        /// Whether the state is forgotten, too. Without it, records that are read again are added to what is there.
        #[serde(default)]
        reset_state: bool,
    },
    /// Give the module the records of its dead letters again, each once. They are not appended to their topics.
    ModuleRedrive {
        /// Name of the deployment.
        module: String,
        /// Only those with this code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Only say which, as `progress` of stage `letter`.
        #[serde(default)]
        dry_run: bool,
    },
    /// One `module` answer for each.
    ModuleList,
    /// One `module` answer.
    ModuleStatus {
        /// Name of the deployment.
        module: String,
    },
    /// `log` answers, oldest first.
    ModuleLogs {
        /// Name of the deployment.
        module: String,
        /// Go on with new lines until the caller stops the stream.
        #[serde(default)]
        follow: bool,
        /// How many of the lines that exist to give first, at most [`LOG_TAIL_MAX`].
        #[serde(default)]
        tail: u32,
        /// Only lines of this level and above: trace, debug, info, warn, error, critical.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<String>,
    },
    /// Stop processing; offsets and state are kept.
    ModulePause {
        /// Name of the deployment.
        module: String,
        /// Shown in `status`.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Go on from the committed offsets.
    ModuleResume {
        /// Name of the deployment.
        module: String,
    },
    /// Remove the module, its state and its committed offsets.
    ModuleDelete {
        /// Name of the deployment.
        module: String,
    },
    /// One `state` answer: a page of what the module keeps.
    ModuleState(StateQuery),
    /// One `node` answer.
    NodeStatus,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Something was reached on the way.
    Progress {
        /// Stable word: received, compiled, changed, committed, loaded, migrated, switched, restored, running, letter, failed, redriven,
        /// different, compared.
        stage: String,
        /// For a person.
        message: String,
    },
    /// A module as it stands now.
    Module(Box<ModuleStatus>),
    /// A version of a module that is kept.
    Version(Box<VersionStatus>),
    /// A log line of a module.
    Log(LogLine),
    /// Entries of a module's state.
    State(StatePage),
    /// The node as it stands now.
    Node(Box<NodeStatus>),
    /// Last: it is done.
    Done,
    /// Last: it was refused or failed.
    Error {
        /// What kind.
        code: ErrorCode,
        /// What happened, for a person.
        message: String,
        /// What to do about it, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

impl Answer {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Error { .. })
    }

    /// An error without a hint.
    #[must_use]
    pub fn error(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Error {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// An error with what to do about it.
    #[must_use]
    pub fn error_with_hint(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error {
            code,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Whose fault it is and whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The call cannot be read.
    InvalidCall,
    /// The manifest breaks a rule.
    InvalidManifest,
    /// The component is damaged, of the wrong world, or asks for more than the manifest grants.
    InvalidComponent,
    /// There is no module of that name.
    UnknownModule,
    /// No such version of the module is kept.
    UnknownVersion,
    /// A topic that the manifest names does not exist and may not be created.
    UnknownTopic,
    /// The module is not in a state in which this can be done.
    WrongState,
    /// The caller may not do this.
    Denied,
    /// Something is used up: disk, memory, modules. Try again later.
    Exhausted,
    /// The node is shutting down. Try again.
    Unavailable,
    /// A fault of the daemon.
    Internal,
}

/// SHA-256 of a component, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != digest.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(digest))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a digest is 64 hexadecimal digits"))
    }
}

/// The node as a whole. Filled in by the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Node id.
    pub node_id: i32,
    /// Version of the daemon.
    pub version: String,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// Data directory.
    pub data_dir: String,
    /// Addresses served, as `kafka+tcp://127.0.0.1:9092`.
    pub listeners: alloc::vec::Vec<String>,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index up to which everything is settled into segments and state.
    pub settled: u64,
    /// Topics, internal ones included.
    pub topics: u32,
    /// Partitions of all topics.
    pub partitions: u32,
    /// Consumer groups.
    pub groups: u32,
    /// Modules.
    pub modules: u32,
    /// Client connections.
    pub connections: u32,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Times that the journal was synced since the start, each for everybody who waited.
    pub journal_commits: u64,
    /// Bytes that were made durable by that.
    pub journal_bytes: u64,
}

#[cfg(test)]
mod tests;
