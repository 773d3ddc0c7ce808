//! Runs Wasm modules in a sandbox; the only crate that names wasmtime.
//!
//! [`compile`] turns a component into an artefact, once, in a process of its own. [`Lanes`] take a [`Run`](tidemill_broker::module::run::Run)
//! and answer with a [`Processed`](tidemill_broker::module::run::Processed): what the guest produced, wrote and gave up on, for the core to
//! commit in one entry, or why there is nothing to commit.
//!
//! Guarantees: no guest, whatever it does, stops the process, another guest, or the host for longer than its batch may take; what a guest
//! left behind is in the answer or nowhere; the same batch over the same state gives the same bytes. Does not know the log, storage, groups,
//! or what becomes of a failure.
mod artefact;

mod bindings;
mod call;
mod check;
mod clock;
mod code;
pub mod compile;
mod copy;
mod dead_letter;
mod delivery;
mod engine;
mod entry;
mod error;
mod expiry;
mod fair;
mod fault;
mod imports;
mod instance;
mod lanes;
pub mod limits;
mod log;
mod memory;
mod outcome;
mod output;
mod overlay;

mod sandbox;
#[cfg(test)]
mod tests;
mod timers;
mod wasi;

pub use artefact::{Artefacts, digest};
pub use call::Metering;
pub use code::RevokeReason;
pub use error::Error;
pub use lanes::{Done, Lanes, Revoke, Told};
pub use sandbox::Sandbox;
