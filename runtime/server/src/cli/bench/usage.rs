//! Processor time and memory of a process, as Linux tells it. What it does not tell is not made up.
use std::fs;
use std::path::Path;

use serde::Serialize;

/// Linux counts processor time for user space in hundredths of a second, on every architecture that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process(pub(super) u32);

/// What a process had used at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// Processor seconds, user and system.
    pub(super) cpu_seconds: f64,
    /// Bytes in memory.
    pub(super) rss_bytes: u64,
    /// The most there ever were.
    pub(super) rss_peak_bytes: u64,
}

/// What a process used between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_gb: Option<f64>,
    pub(super) rss_mib: f64,
    pub(super) rss_peak_mib: f64,
}

impl Process {
    /// This one.
    pub(super) fn own() -> Process {
        Process(std::process::id())
    }

    /// `None` if there is no such process, or this is not Linux.
    pub(super) fn usage(self) -> Option<Usage> {
        let directory = Path::new("/proc").join(self.0.to_string());
        let stat = fs::read_to_string(directory.join("stat")).ok()?;
        let status = fs::read_to_string(directory.join("status")).ok()?;
        Some(Usage {
            cpu_seconds: cpu_seconds(&stat)?,
            rss_bytes: kib(&status, "VmRSS:")? * 1024,
            rss_peak_bytes: kib(&status, "VmHWM:")? * 1024,
        })
    }
}

impl Usage {
    /// What was used from `self` to `later`, while `bytes` of records were moved.
    pub(super) fn until(self, later: Usage, bytes: u64) -> Used {
        const MIB: f64 = 1024.0 * 1024.0;
        let cpu_seconds = later.cpu_seconds - self.cpu_seconds;
        Used {
            cpu_seconds,
            cpu_seconds_per_gb: (0 < bytes).then(|| cpu_seconds / (bytes as f64 / 1e9)),
            rss_mib: later.rss_bytes as f64 / MIB,
            rss_peak_mib: later.rss_peak_bytes as f64 / MIB,
        }
    }
}

/// Fields 14 and 15; the name in parentheses before them may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_name_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Process::own().usage().unwrap();
        assert!(0 < usage.rss_bytes && usage.rss_bytes <= usage.rss_peak_bytes);
        assert_eq!(Process(u32::MAX).usage(), None);
    }
}
