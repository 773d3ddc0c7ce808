//! Durable changes of modules, as they stand in entries, and what each came to.
//!
//! A deployment's `incarnation` is the index of the entry that created, paused, resumed or rewound it last, or replaced what it
//! reads or the layout of its state; a task's `generation` is the index of the entry in which its owner took it, in which it was
//! switched to another release or in which its state was migrated.
//! Both only grow, so that whatever was begun before is recognised and refused.
use alloc::{string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::{error_code::ErrorCode, ids::Uuid, manifest::Manifest};

use super::{
    durable::Canary,
    event_time::EventTimes,
    migration::Step,
    run::{Due, StateRow},
    view::ViewId,
};
use crate::{
    effect::LogId,
    entry::NewTopic,
    stored,
    stored::{Malformed, Reader, Stored, Writer},
};

stored! {
    /// A durable change of one module.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Change {
        /// Make a module run, or give it another version.
        Deploy(Deploy) = 1,
        /// Stop a module.
        Pause(Pause) = 2,
        /// Let a paused module go on.
        Resume(String) = 3,
        /// Forget a module, its state and its committed offsets.
        Delete(String) = 4,
        /// Take tasks for a member.
        Claim(Claim) = 5,
        /// One batch of one task: everything it did, or nothing.
        Commit(Commit) = 6,
        /// A task goes on with another release.
        Switch(Switch) = 7,
        /// The release that takes over has every task, or none was left to ask.
        Settle(Settle) = 8,
        /// Go back to a release that is kept.
        Rollback(Rollback) = 9,
        /// A canary takes over everywhere.
        Promote(Promote) = 10,
        /// Begin again elsewhere in the inputs.
        Rewind(Rewind) = 11,
        /// A table comes further.
        Fill(Fill) = 12,
        /// A chunk of a task's state in another layout.
        Migrate(Migrate) = 13,
    }
}

impl Change {
    /// Whether it may change which topics are tables: another release runs or takes over.
    pub(crate) fn may_name_tables(&self) -> bool {
        matches!(
            self,
            Self::Deploy(_) | Self::Delete(_) | Self::Settle(_) | Self::Rollback(_)
        )
    }
}

stored! {
    /// A module to run.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Deploy {
        /// What it is and may do.
        pub manifest: Arc<Manifest>,
        /// SHA-256 of the component.
        pub digest: [u8; 32],
        /// Layout of the state that the component reads and writes.
        pub state_version: u32,
        /// Topics that it needs and that were missing when this was proposed.
        pub topics: Vec<NewTopic>,
        /// Who deploys it.
        pub by: String,
        /// Only some tasks for now, if it is another version of a module that runs.
        pub canary: Option<Canary>,
    }
}

stored! {
    /// A task to switch: what the release before was about to commit is refused from here on. Offsets and state are kept.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Switch {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation.
        pub incarnation: u64,
        /// Task number.
        pub task: u32,
        /// Only if this is still the task's generation.
        pub generation: u64,
        /// The release to go on with.
        pub release: u32,
    }
}

stored! {
    /// A rollout that is done.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Settle {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation.
        pub incarnation: u64,
        /// Only if this is what takes over.
        pub release: u32,
    }
}

stored! {
    /// A release to go back to.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rollback {
        /// Name of the deployment.
        pub module: String,
        /// The release: its label or its number. `None`: what runs besides a rollout, or else the one before what runs.
        pub to: Option<String>,
        /// Only if this release is taking over: it did not do well. `None` when an operator asks.
        pub from: Option<u32>,
        /// Why, for `history`.
        pub reason: String,
        /// Whether to go back to state and offsets as of the migration away from the release's layout.
        pub restore_state: bool,
    }
}

stored! {
    /// Who owns a task, and since when: whatever is begun by an owner is refused from every other.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Owner {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation.
        pub incarnation: u64,
        /// Task number.
        pub task: u32,
        /// Only if this is still the task's generation.
        pub generation: u64,
        /// Only if this member may commit for the group.
        pub member: String,
        /// The member's epoch.
        pub epoch: i32,
    }
}

stored! {
    /// What is done of a migration, in a copy that nobody reads but the migration itself.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Migrate {
        /// Only if it still owns the task.
        pub owner: Owner,
        /// The release whose layout the copy gets.
        pub release: u32,
        /// Only if so many chunks of it are committed: a chunk that comes twice, or late, is refused.
        pub expected: u64,
        /// Rows of the copy, in order: (bucket of the rows, key, value or delete).
        pub rows: Vec<StateRow>,
        /// By how much the copy grows with them, beyond what was copied.
        pub growth: i64,
        /// How far it is then.
        pub step: Step,
    }
}

stored! {
    /// A canary that did well.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Promote {
        /// Name of the deployment.
        pub module: String,
        /// Only if this release is the canary; `None` when an operator asks.
        pub release: Option<u32>,
    }
}

stored! {
    /// A module to stop.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Pause {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation; `None` when an operator asks.
        pub incarnation: Option<u64>,
        /// Why, for `status`.
        pub reason: String,
    }
}

stored! {
    /// Tasks to take: whoever held them before is refused from here on.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Claim {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation.
        pub incarnation: u64,
        /// Member of the group that owns the partitions.
        pub member: String,
        /// The member's epoch.
        pub epoch: i32,
        /// The tasks, each with the release that it is to run.
        pub tasks: Vec<(u32, u32)>,
        /// Where to begin where nothing is committed: (topic, partition, offset). Committed, so that a restart begins there too.
        pub starts: Vec<(Uuid, i32, i64)>,
    }
}

stored! {
    /// One batch of one task.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Commit {
        /// Only if it still owns the task.
        pub owner: Owner,
        /// What was read.
        pub inputs: Vec<Progress>,
        /// Record batches to append, in order, dead letters included.
        pub outputs: Vec<(LogId, Bytes)>,
        /// State writes, in order: (bucket of the rows, key, value or delete).
        pub state: Vec<StateRow>,
        /// By how much the state grows with them.
        pub state_growth: i64,
        /// How far event time has come, if the module has it.
        pub event_time: Option<EventTimes>,
        /// When timers are due after this, if any was set, cancelled or fired.
        pub due: Option<Due>,
        /// For timers that fired: only if the task's timers have fired so many times. Without an offset, this is the key that makes
        /// a second commit of the same timers impossible.
        pub firing: Option<u64>,
        /// What it adds to the counters.
        pub totals: Totals,
        /// A dead letter that was processed again, instead of inputs.
        pub redriven: Option<Redriven>,
    }
}

stored! {
    /// A dead letter that is done.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Redriven {
        /// The dead-letter topic.
        pub topic: Uuid,
        /// Its partition.
        pub partition: i32,
        /// From here to the letter there is no other of this task.
        pub from: i64,
        /// The letter. Only if it is not done yet.
        pub offset: i64,
    }
}

stored! {
    /// Where to begin again. Whatever is under way is refused.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Rewind {
        /// Name of the deployment.
        pub module: String,
        /// Only if this is still its incarnation.
        pub incarnation: u64,
        /// (topic, partition, offset). Committed.
        pub offsets: Vec<(Uuid, i32, i64)>,
        /// Whether the state is forgotten, too.
        pub reset_state: bool,
    }
}

stored! {
    /// Rows of a view, from one partition of its topic.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Fill {
        /// Only if it is still this view.
        pub view: ViewId,
        /// The partition.
        pub partition: i32,
        /// Only if it is this far, `None` when nothing of the partition was read.
        pub expected: Option<i64>,
        /// How far it is then.
        pub next: i64,
        /// Last value of each key; `None` deletes it.
        pub rows: Vec<(Bytes, Option<Bytes>)>,
        /// Records that are in no row.
        pub left_out: u64,
    }
}

stored! {
    /// How far one input partition was read.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Progress {
        /// The topic.
        pub topic: Uuid,
        /// The partition.
        pub partition: i32,
        /// Only if this is what is committed, `None` for nothing: the offset is the key that makes a second commit of the
        /// same records impossible.
        pub expected: Option<i64>,
        /// What is committed then.
        pub next: i64,
    }
}

stored! {
    /// Sums that are committed with the batches.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Totals {
        /// Records read, given up ones included.
        pub records_in: u64,
        /// Records appended, dead letters included.
        pub records_out: u64,
        /// Batches.
        pub batches: u64,
        /// Records given up.
        pub given_up: u64,
    }
}

impl Totals {
    /// Adds another sum.
    pub fn add(&mut self, more: Totals) {
        self.records_in += more.records_in;
        self.records_out += more.records_out;
        self.batches += more.batches;
        self.given_up += more.given_up;
    }
}

/// What a [`Change`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied.
    Done,
    /// The tasks are taken, with this generation.
    Claimed(u64),
    /// State and offsets are as of this moment again, milliseconds.
    Restored(i64),
    /// Nothing was changed.
    Refused(Refused),
}

/// Why a [`Change`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such module.
    UnknownModule,
    /// There are too many modules.
    TooManyModules,
    /// A topic that the manifest names does not exist.
    MissingTopic(String),
    /// The module does not fit the topics, or the state that is there; a sentence.
    Unfit(String),
    /// A topic cannot be created.
    Topic(String, ErrorCode),
    /// The deployment was changed, or the task was taken, since this was begun.
    Fenced,
    /// The member may not commit for the group.
    Member(ErrorCode),
    /// Somebody else committed an offset of this input partition, or its topic is gone.
    Moved(Uuid, i32),
    /// An output log is gone.
    OutputGone(LogId),
    /// No such release is kept.
    UnknownRelease(Option<String>),
    /// Too many dead letters were left out between those that are done.
    TooManyGaps,
    /// No canary is on trial.
    NoCanary,
    /// A canary must read the topics that the running release reads.
    CanaryReads,
    /// A canary must keep the layout that the running release has: (that, its own).
    CanaryLayout(u32, u32),
    /// The release has an older layout than the state: (its own, the state's, whether the state of before is kept).
    OlderLayout(u32, u32, bool),
    /// The state of this layout is not kept any more.
    NotKept(u32),
    /// There is nothing to restore: the state has no newer layout than the release.
    NothingToRestore,
}

/// Kept as JSON, whose form the manifest already has to keep for the management protocol. Its bounds may only ever be widened.
impl Stored for Arc<Manifest> {
    fn store(&self, to: &mut Writer) {
        let json = serde_json::to_vec(&**self).expect("a manifest has only text keys and finite numbers");
        Bytes::from(json).store(to);
    }

    fn restore(from: &mut Reader) -> Result<Self, Malformed> {
        let json = Bytes::restore(from)?;
        let manifest = serde_json::from_slice(&json).map_err(|_| Malformed("the manifest cannot be read"))?;
        Ok(Arc::new(manifest))
    }
}
