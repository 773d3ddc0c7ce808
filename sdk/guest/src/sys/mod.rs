//! The host as functions: the component's imports on `wasm32`, a host in memory elsewhere. Same names, same types.
pub(crate) use crate::bindings::tidemill::processor::{
    producer::{Error as SendError, OutputColumns},
    records::{Columns, Projection},
    state::Error as StateError,
    tables::Error as TableError,
    timers::Error as TimerError,
};

#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;
