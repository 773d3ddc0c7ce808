//! `tidemill bench raw`: what the machine can do at most, with nothing of ours in the way.
//!
//! Other numbers are ratios to these, because a disk or a processor differs from machine to machine and from hour to hour.
mod disk;
mod quic;
mod tcp;

use clap::{Args, Subcommand};

use super::Problem;
use super::report::Report;
use crate::config::Size;
use crate::config::units::Span;

/// Measure the machine: disk, QUIC and TCP.
#[derive(Debug, Subcommand)]
pub(super) enum Raw {
    Disk(disk::Disk),
    Quic(quic::Quic),
    Tcp(tcp::Tcp),
}

/// Bytes from one thread to another of this process.
#[derive(Clone, Copy, Debug, Args)]
struct Stream {
    /// Connections at once, one stream each.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Bytes of one write.
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    write_bytes: Size,
    /// How long to measure.
    #[arg(long, short, value_name = "TIME", default_value = "5s")]
    time: Span,
}

impl Raw {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        match self {
            Raw::Disk(disk) => disk.measure(),
            Raw::Quic(quic) => quic.measure().await,
            Raw::Tcp(tcp) => tcp.measure().await,
        }
    }
}
