//! What a task's runs took, added up on this node. Soft: since the start of the daemon.
use alloc::string::String;
use tidemill_protocol::admin;

use super::run::Processed;

/// Length of a window over which a rate is taken, milliseconds.
const RATE_WINDOW_MS: i64 = 10_000;

/// Sums over the runs of one task.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskUsage {
    sums: admin::Usage,
    rate: Rate,
}

impl TaskUsage {
    /// Takes in a run, whatever came of it.
    pub(super) fn add(&mut self, processed: &Processed) {
        let usage = &processed.usage;
        let bytes_out = processed.outputs.iter().map(|(.., batch)| batch.len() as u64).sum();
        self.sums.add(&admin::Usage {
            runs: 1,
            records: u64::from(usage.records),
            bytes_in: usage.bytes,
            bytes_out,
            guest_us: usage.guest_us,
            cpu_us: usage.cpu_us,
            host_calls: u64::from(usage.host_calls),
            memory_bytes_max: usage.memory_bytes,
            ..admin::Usage::default()
        });
    }

    /// Takes in records whose effect is committed.
    pub(super) fn committed(&mut self, now: i64, records: u64) {
        self.rate.add(now, records);
    }

    /// Takes in a run that failed.
    pub(super) fn failed(&mut self, now: i64, message: Option<&String>) {
        self.sums.failures += 1;
        if let Some(message) = message {
            self.sums.last_error = Some(admin::LastError {
                time: now,
                message: message.clone(),
            });
        }
    }

    /// As it stands now.
    pub(super) fn status(&self, now: i64) -> admin::Usage {
        admin::Usage {
            records_per_second: self.rate.per_second(now),
            ..self.sums.clone()
        }
    }
}

/// Records of the window at hand, and the rate of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    since: i64,
    count: u64,
    before: u64,
}

impl Rate {
    fn add(&mut self, now: i64, count: u64) {
        if RATE_WINDOW_MS <= now - self.since {
            self.before = self.per_second(now);
            (self.since, self.count) = (now, 0);
        }
        self.count += count;
    }

    fn per_second(&self, now: i64) -> u64 {
        let elapsed = now.saturating_sub(self.since).max(1);
        match elapsed {
            // Nothing came for a while: the rate falls.
            _ if RATE_WINDOW_MS <= elapsed => self.count.saturating_mul(1000) / elapsed.unsigned_abs(),
            // The window at hand counts as far as it goes, the one before for the rest.
            _ => {
                let rest = (RATE_WINDOW_MS - elapsed).unsigned_abs();
                (self.count.saturating_mul(1000) + self.before.saturating_mul(rest)) / RATE_WINDOW_MS.unsigned_abs()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::module::run::{Processed, TaskKey, Usage, Verdict};

    #[test]
    fn runs_are_added_up_and_the_memory_is_the_most() {
        let task = TaskKey {
            module: "m".into(),
            deployment: 1,
            number: 0,
        };
        let mut usage = TaskUsage::default();
        for (memory_bytes, output) in [(65_536, &b"four"[..]), (131_072, b""), (65_536, b"three")] {
            let mut run = Processed::nothing_of(task.clone(), 1, Verdict::Ack);
            run.outputs.push(("out".into(), 0, Bytes::from_static(output)));
            run.usage = Usage {
                records: 10,
                bytes: 100,
                guest_us: 7,
                cpu_us: 9,
                memory_bytes,
                host_calls: 3,
            };
            usage.add(&run);
        }
        usage.failed(5, Some(&"trap".into()));
        let sums = admin::Usage {
            runs: 3,
            records: 30,
            records_per_second: 0,
            bytes_in: 300,
            bytes_out: 9,
            guest_us: 21,
            cpu_us: 27,
            host_calls: 9,
            memory_bytes_max: 131_072,
            failures: 1,
            last_error: Some(admin::LastError {
                time: 5,
                message: "trap".into(),
            }),
        };
        assert_eq!(usage.status(6), sums);
        assert_eq!(sums.ns_per_record(), 700);
    }

    #[test]
    fn a_rate_follows_what_comes() {
        let mut rate = Rate::default();
        for second in 0..60 {
            rate.add(1_000_000 + second * 1000, 500);
        }
        assert!(
            (450..=550).contains(&rate.per_second(1_059_500)),
            "{}",
            rate.per_second(1_059_500)
        );
        assert!(rate.per_second(1_120_000) < 100);
    }
}
