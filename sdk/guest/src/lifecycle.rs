//! Optional: set-up and hand-over of an instance.
use crate::error::Error;

pub use crate::{
    bindings::tidemill::processor::types::Task,
    exports::lifecycle::exports::tidemill::processor::lifecycle::RevokeReason,
};

/// What a module does when an instance begins, takes a task and loses it. Each function may be left out. Hand the type that implements
/// it to [`crate::module!`] as `lifecycle = MyType`.
pub trait Lifecycle {
    /// Once for each instance, before anything else: check the settings, build what is costly. There is no task yet: state, timers
    /// and outputs trap. Also called when the module is deployed.
    ///
    /// # Errors
    /// The module stops with the error.
    fn init() -> Result<(), Error> {
        Ok(())
    }

    /// The instance now serves this task: called before its first batch. What it writes is committed with that batch, or not at all;
    /// then it is called again. So it must not matter how often it is called.
    ///
    /// # Errors
    /// The module stops with the error.
    fn on_assign(_task: &Task) -> Result<(), Error> {
        Ok(())
    }

    /// The task leaves. Best effort: not called after a crash. Everything that it did is committed already; state, timers and outputs
    /// trap.
    fn on_revoke(_task: &Task, _reason: RevokeReason) {}
}
