//! Real components in the real sandbox, without a broker around it.
#![allow(clippy::unwrap_used, reason = "tests")]
mod components;
mod faults;
mod fixture;
mod kept;
mod lifecycle;
mod state;
mod tables;
mod timers;
