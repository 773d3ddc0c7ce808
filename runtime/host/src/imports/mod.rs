//! The functions that a guest may import, by interface. Each is bounded in itself: an epoch does not interrupt the host.
pub(crate) mod context;
pub(crate) mod producer;
pub(crate) mod records;
pub(crate) mod state;
mod tables;
pub(crate) mod timers;

use wasmtime::component::{HasSelf, Linker};

use crate::{bindings::tidemill::processor, call::Guest};

/// Offers all of `tidemill:processor`.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    processor::types::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::records::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::state::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::tables::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::timers::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::context::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::config::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::logging::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    processor::metrics::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    producer::link(linker)
}
