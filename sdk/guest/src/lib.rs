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
#[doc(hidden)]
pub mod exports;
pub mod lifecycle;
pub mod log;
pub mod migrator;
pub mod output;
#[cfg(target_arch = "wasm32")]
mod run;
pub mod state;
mod sys;
pub mod tables;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod timers;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use run::{assigned, fired, initialized, migrated, revoked, run};

/// Everything that a module usually needs.
pub mod prelude {
    pub use crate::{
        batch::{Batch, Record},
        context,
        error::{Ack, Error},
        lifecycle::{Lifecycle, RevokeReason, Task},
        log,
        migrator::{Migrator, Progress},
        output::{Message, Output},
        state::{self, Bucket},
        tables::{self, Table},
        timers::{self, Timer},
    };
}

/// Makes a function of the shape `fn(&Batch) -> Result<Ack, Error>` the component's handler.
///
/// What else a module has is named after it, in this order; what is not named is not exported and costs nothing:
///
/// ```text
/// module!(process);
/// module!(process, timers = on_timers);                      fn(&[Timer]) -> Result<(), Error>
/// module!(process, lifecycle = MyModule);                    impl Lifecycle for MyModule
/// module!(process, timers = on_timers, lifecycle = MyModule, migrator = MyModule);
/// ```
///
/// Nothing is generated on targets other than `wasm32`: there the functions are called by their tests.
#[macro_export]
macro_rules! module {
    ($process:path $(, timers = $on_timers:path)? $(, lifecycle = $lifecycle:ty)? $(, migrator = $migrator:ty)? $(,)?) => {
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
        $($crate::__timers!($on_timers);)?
        $($crate::__lifecycle!($lifecycle);)?
        $($crate::__migrator!($migrator);)?
    };
}

/// A part of [`module!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __timers {
    ($on_timers:path) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::exports::timer_handler::exports::tidemill::processor::timer_handler as generated;

            struct Module;

            impl generated::Guest for Module {
                fn on_timers(due: Vec<generated::Timer>) -> Result<(), generated::ProcessError> {
                    $crate::fired(&due, $on_timers)
                }
            }

    $crate::exports::timer_handler::export!(Module with_types_in $crate::exports::timer_handler);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&[$crate::timers::Timer]) -> Result<(), $crate::error::Error> = $on_timers;
    };
}

/// A part of [`module!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __lifecycle {
    ($lifecycle:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::exports::lifecycle::exports::tidemill::processor::lifecycle as generated;

            struct Module;

            impl generated::Guest for Module {
                fn init() -> Result<(), String> {
                    $crate::initialized::<$lifecycle>()
                }

                fn on_assign(task: generated::Task) -> Result<(), String> {
                    $crate::assigned::<$lifecycle>(&task)
                }

                fn on_revoke(task: generated::Task, reason: generated::RevokeReason) {
                    $crate::revoked::<$lifecycle>(&task, reason)
                }
            }

    $crate::exports::lifecycle::export!(Module with_types_in $crate::exports::lifecycle);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> Result<(), $crate::error::Error> = <$lifecycle as $crate::lifecycle::Lifecycle>::init;
    };
}

/// A part of [`module!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __migrator {
    ($migrator:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::exports::migrator::exports::tidemill::processor::migrator as generated;

            struct Module;

            impl generated::Guest for Module {
                fn state_version() -> u32 {
                    <$migrator as $crate::migrator::Migrator>::STATE_VERSION
                }

                fn migrate(
                    task: generated::Task,
                    from_version: u32,
                    cursor: Option<Vec<u8>>,
                ) -> Result<generated::Progress, String> {
                    $crate::migrated::<$migrator>(&task, from_version, cursor)
                }
            }

    $crate::exports::migrator::export!(Module with_types_in $crate::exports::migrator);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: u32 = <$migrator as $crate::migrator::Migrator>::STATE_VERSION;
    };
}
