//! The way from the exported function to the author's: the panic hook, the batch, the verdict.
#[cfg(target_arch = "wasm32")]
use crate::bindings::{exports::tidemill::processor::handler as generated, tidemill::processor::records};

/// Called by [`crate::module!`]; not meant for people.
#[cfg(target_arch = "wasm32")]
pub fn run(
    batch: &records::Batch,
    process: fn(&crate::batch::Batch) -> Result<crate::error::Ack, crate::error::Error>,
) -> Result<generated::Ack, generated::ProcessError> {
    hook::install();
    let answer = process(&crate::batch::Batch::borrowed(batch));
    answer.map(Into::into).map_err(Into::into)
}

/// Nothing calls the exported function on other targets.
#[cfg(not(target_arch = "wasm32"))]
pub fn run() {}

#[cfg(target_arch = "wasm32")]
mod hook {
    //! A panic becomes a line in the module's log, blamed on the record that was being read, before it becomes a trap.
    use std::sync::Once;

    use crate::{batch, bindings::tidemill::processor::context, log};

    pub(super) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|panic| {
                if let Some(index) = batch::current() {
                    context::mark(index);
                }
                log::critical(&panic.to_string());
            }));
        });
    }
}
