//! Everything end to end, in one binary: real storage, real sockets, real sandbox, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    unreachable_pub
)]

mod bad_actors;
mod cut_short;
mod daemon;
mod delivery;
mod examples;
mod kcat;
mod kill;
mod languages;
mod member;
mod migrate;
mod modules;
mod reading;
mod security;
mod stories;
mod tables;
mod tidy;
mod tools;
mod versions;
