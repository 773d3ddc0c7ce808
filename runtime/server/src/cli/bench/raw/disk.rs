//! Append and fdatasync: the least that a durable acknowledgement can cost.
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::payload::Payload;
use super::super::report::{Moved, Report, Spread, latencies};
use super::super::target::volatile_file_system;
use super::super::usage::Process;
use super::super::{Problem, settings};
use crate::clock;
use crate::config::Size;
use crate::config::units::Span;
use crate::data_dir;

/// The file begins anew at this size, so that a long run fills no disk.
const FILE_BYTES: u64 = 2 << 30;

/// Write and sync, over and over.
#[derive(Debug, Args)]
pub(in crate::cli::bench) struct Disk {
    /// Bytes of one write, which is then synced.
    #[arg(long, value_name = "SIZE", default_value = "256KiB")]
    commit_bytes: Size,
    /// Write over blocks that were written before, instead of making the file longer.
    #[arg(long)]
    overwrite: bool,
    /// Where.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    directory: PathBuf,
    /// How long to measure.
    #[arg(long, short, value_name = "TIME", default_value = "5s")]
    time: Span,
}

/// Bytes that are written over again and again.
const OVERWRITTEN_BYTES: u64 = 256 << 20;

impl Disk {
    pub(super) fn measure(self) -> Result<Report, Problem> {
        let mut report = Report::new(
            "raw disk",
            settings([vec![
                ("commit_bytes", json!(self.commit_bytes.0)),
                ("overwrite", json!(self.overwrite)),
            ]]),
        );
        if let Some(system) = volatile_file_system(&self.directory) {
            report
                .notes
                .push(format!("{} is a {system}, which forgets", self.directory.display()));
        }
        let path = Scratch(self.directory.join(format!(
            "tidemill-bench-{:016x}",
            u64::from_be_bytes(data_dir::random()?)
        )));
        let mut file = File::options().write(true).create_new(true).open(&path.0)?;
        let mut payload = Payload::new(self.commit_bytes.bytes(), 1);
        let bound = if self.overwrite { OVERWRITTEN_BYTES } else { FILE_BYTES };
        if self.overwrite {
            while file.stream_position()? < bound {
                file.write_all(&payload.next())?;
            }
            file.sync_all()?;
            file.rewind()?;
        }
        let mut took = latencies();
        let (begun, before) = (clock::instant(), Process::own().usage());
        let (mut commits, mut at) = (0u64, 0u64);
        while begun.elapsed() < self.time.duration() {
            if bound < at + self.commit_bytes.0 {
                at = 0;
                file.seek(SeekFrom::Start(0))?;
                if !self.overwrite {
                    file.set_len(0)?;
                }
            }
            let one = clock::instant();
            file.write_all(&payload.next())?;
            file.sync_data()?;
            took.saturating_record(u64::try_from(one.elapsed().as_nanos()).unwrap_or(u64::MAX));
            at += self.commit_bytes.0;
            commits += 1;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = commits * self.commit_bytes.0;
        let used = before.zip(Process::own().usage());
        report.client = used.map(|(before, now)| before.until(now, bytes));
        report.moved = Some(Moved::new(commits, bytes, seconds));
        report.latency_ms = Spread::of(&took);
        Ok(report)
    }
}

/// Removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the directory.
        let _ = std::fs::remove_file(&self.0);
    }
}
