//! What a broker does, as a value: no clock, no files, no sockets, no threads.
//!
//! [`Broker`] takes what came in (`handle_*`, with `now` as an argument) and gives what must go out ([`Broker::poll_effect`],
//! [`Broker::poll_timeout`]). Everything durable is a [`Command`] in an [`Entry`]: it is proposed, made durable by somebody
//! else, and only then applied by [`State::apply`], the only mutator, which runs the same way live, in recovery and on a follower.
#![no_std]
extern crate alloc;

pub mod stored;

pub mod api;
pub mod batch;
pub mod config;
pub mod config_keys;
pub mod context;
pub mod core;
pub mod effect;
pub mod entry;
pub mod group;
mod housekeeping;
pub mod limits;
pub mod module;
pub mod offset;
pub mod producer;
pub mod state;
pub mod topic;

pub use crate::{
    config::Config,
    context::{Context, RequestContext, Requester},
    core::Broker,
    entry::{Command, Entry},
    state::State,
};
