//! Kafka's wire protocol: frames, every served API and version, record batches. No IO.
//!
//! Bytes from a peer are hostile: nothing here panics on them, and nothing allocates more than a small multiple of them.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "compression"))]
extern crate std;

pub mod admin;
#[cfg(test)]
mod allocations;
pub mod api;
#[cfg(test)]
mod arbitrary;
pub mod batch;
pub mod checksum;
pub mod codec;
#[cfg(feature = "compression")]
pub mod compression;
pub mod error_code;
pub mod frame;
#[cfg(test)]
mod hostile;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod names;
#[cfg(test)]
mod oracle;
pub mod partitioner;
pub mod records;
