//! What the author of a Tidemill module imports.
//!
//! A module is one function over a batch of records. What it produces, the state it changes, the records it gives up on and the
//! offsets it has read are committed together, or not at all.
//!
//! ```
//! use tidemill_guest::prelude::*;
//!
//! /// Passes on what is dear.
//! fn process(batch: &Batch) -> Result<Ack, Error> {
//!     let mut out = Output::to("expensive");
//!     for record in batch {
//!         let order: serde_json::Value = record.json()?; // not JSON: the record is poison, the batch runs again without it
//!         if order["price"].as_f64().unwrap_or(0.0) > 100.0 {
//!             out.push(Message::new().key(record.key()).value(record.value()));
//!         }
//!     }
//!     out.send()?;
//!     Ok(Ack::All)
//! }
//!
//! tidemill_guest::module!(process);
//! # fn main() {}
//! ```
//!
//! Built for `wasm32-wasip2` this is a component that exports `tidemill:processor/handler`. Built for any other target the same
//! function runs over [`testing::Bench`], a host in memory, so that `cargo test` needs no daemon.
//!
//! What it does not do: threads, clocks, files, sockets. [`context::now`] is the only clock; it stands still during a call.

pub mod batch;
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated from wit/ by wit-bindgen"
)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "processor",
        pub_export_macro: true,
        generate_all,
    });
}
pub mod context;
pub mod error;
pub mod log;
pub mod output;
mod run;
pub mod state;
mod sys;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub use run::run;

/// Everything that a module usually needs.
pub mod prelude {
    pub use crate::{
        batch::{Batch, Record},
        context,
        error::{Ack, Error},
        log,
        output::{Message, Output},
        state::{self, Bucket},
    };
}

/// Makes a function of the shape `fn(&Batch) -> Result<Ack, Error>` the component's handler.
///
/// Nothing is generated on targets other than `wasm32`: there the function is called by its tests.
#[macro_export]
macro_rules! module {
    ($process:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::exports::tidemill::processor::handler as generated;

            struct Module;

            impl generated::Guest for Module {
                fn process(
                    batch: &$crate::bindings::tidemill::processor::records::Batch,
                ) -> Result<generated::Ack, generated::ProcessError> {
                    $crate::run(batch, $process)
                }
            }

    $crate::bindings::export!(Module with_types_in $crate::bindings);
        };
        // Not a word about an unused function where there is no component to export it from.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::batch::Batch) -> Result<$crate::error::Ack, $crate::error::Error> = $process;
    };
}
