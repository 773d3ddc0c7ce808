//! Everything end to end, in one binary: real storage, real sockets, real sandbox, real clients.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::cast_possible_truncation)]

mod daemon;
mod kcat;
mod tidy;
