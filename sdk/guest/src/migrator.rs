//! Optional: moves state from the layout of one version to that of the next, during an upgrade.
use crate::error::Error;

pub use crate::{
    bindings::tidemill::processor::types::Task, exports::migrator::exports::tidemill::processor::migrator::Progress,
};

/// How a module takes over the state of an earlier version. Hand the type that implements it to [`crate::module!`] as
/// `migrator = MyType`.
///
/// State is reached as always, through [`crate::state`]; what is read and written is a copy, which replaces the task's state when all of
/// it is done. There are no records, timers or outputs.
pub trait Migrator {
    /// The layout that this version reads and writes; a module without a migrator has 0.
    const STATE_VERSION: u32;

    /// Rewrites a part of the task's state: as much as fits in `limits.state-write-bytes` and `batch.timeout`.
    /// [`Progress::More`] has it committed and called again with that cursor.
    ///
    /// # Errors
    /// The upgrade is given up, and the earlier version goes on with its state as it was.
    fn migrate(task: &Task, from_version: u32, cursor: Option<Vec<u8>>) -> Result<Progress, Error>;
}
