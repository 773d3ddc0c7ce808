//! The coordinator under random clients. Scripts in `testscripts/groups` show single behaviours; here are the invariants.
#![allow(clippy::unwrap_used)]

mod classic;
mod consumer;
mod sim;
