//! The way from the exported function to the author's: the panic hook, the batch, the verdict.
use crate::bindings::{exports::tidemill::processor::handler as generated, tidemill::processor::records};
use crate::{
    lifecycle::{Lifecycle, RevokeReason, Task},
    migrator::{Migrator, Progress},
};

/// Called by [`crate::module!`]; not meant for people.
pub fn run(
    batch: &records::Batch,
    process: fn(&crate::batch::Batch) -> Result<crate::error::Ack, crate::error::Error>,
) -> Result<generated::Ack, generated::ProcessError> {
    hook::install();
    let answer = process(&crate::batch::Batch::borrowed(batch));
    if answer.is_err() {
        hook::blame();
    }
    answer.map(Into::into).map_err(Into::into)
}

/// Called by [`crate::module!`]; not meant for people.
pub fn fired(
    due: &[crate::timers::Timer],
    on_timers: fn(&[crate::timers::Timer]) -> Result<(), crate::error::Error>,
) -> Result<(), generated::ProcessError> {
    hook::install();
    on_timers(due).map_err(Into::into)
}

/// Called by [`crate::module!`]; not meant for people.
pub fn initialized<L: Lifecycle>() -> Result<(), String> {
    hook::install();
    L::init().map_err(|error| error.to_string())
}

/// Called by [`crate::module!`]; not meant for people.
pub fn assigned<L: Lifecycle>(task: &Task) -> Result<(), String> {
    L::on_assign(task).map_err(|error| error.to_string())
}

/// Called by [`crate::module!`]; not meant for people.
pub fn revoked<L: Lifecycle>(task: &Task, reason: RevokeReason) {
    L::on_revoke(task, reason);
}

/// Called by [`crate::module!`]; not meant for people.
pub fn migrated<M: Migrator>(task: &Task, from_version: u32, cursor: Option<Vec<u8>>) -> Result<Progress, String> {
    hook::install();
    M::migrate(task, from_version, cursor).map_err(|error| error.to_string())
}

mod hook {
    //! A panic becomes a line in the module's log, blamed on the record that was being read, before it becomes a trap.
    use std::sync::Once;

    use crate::{batch, bindings::tidemill::processor::context, log};

    /// Tells the host which record is being read.
    pub(super) fn blame() {
        if let Some(index) = batch::current() {
            context::mark(index);
        }
    }

    pub(super) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| {
                blame();
                log::critical(&panic.to_string());
            }));
        });
    }
}
