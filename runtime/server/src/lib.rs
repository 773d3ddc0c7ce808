//! The daemon and its command line: how the core is run.
//!
//! [`Node`] is a whole daemon as a value: configuration in, addresses out, `shutdown` at the end. The binary `tidemill` is [`cli::main`].
//! This crate knows sockets, threads, the clock and the file system; what is decided about requests, groups and modules is the broker's,
//! what is durable is storage's, and what a guest may do is the host's.
pub mod cli;
mod clock;
pub mod config;
mod data_dir;
mod driver;
mod error;
mod files;
mod limits;
pub mod logging;
mod net;
pub mod node;
pub mod tls;

pub use crate::{config::Config, error::StartError, net::Addresses, node::Node};
