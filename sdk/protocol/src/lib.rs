//! Kafka's wire protocol: frames, every served API and version, record batches. No IO.
//!
//! Bytes from a peer are hostile: nothing here panics on them, and nothing allocates more than a small multiple of them.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod admin;
pub mod api;
#[cfg(test)]
mod arbitrary;
pub mod codec;
pub mod error_code;
pub mod frame;
pub mod ids;
pub mod manifest;
pub mod records;
