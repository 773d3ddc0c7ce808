//! How long to wait before trying again: exponential, with jitter, from a seeded sequence.

use std::time::Duration;

use crate::random::Random;

/// Bounds of the wait between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Wait after the first failure. Default 50 ms.
    pub initial: Duration,
    /// Longest wait. Default 2 s.
    pub max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> BackoffConfig {
        BackoffConfig {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(2),
        }
    }
}

/// Counts failures in a row and says how long to wait for the next attempt.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig) -> Backoff {
        Backoff { config, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait: doubled with each failure, up to the maximum, of which a random half to whole is taken,
    /// so that clients that failed together do not come back together.
    pub(crate) fn next_wait(&mut self, random: &Random) -> Duration {
        let doubled = self
            .config
            .initial
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        let wait = doubled.min(self.config.max);
        let half_us = u64::try_from(wait.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half_us + random.below(half_us.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_start_again_after_a_success() {
        let random = Random::from_seed(1);
        let config = BackoffConfig {
            initial: Duration::from_millis(10),
            max: Duration::from_millis(100),
        };
        let mut backoff = Backoff::new(config);
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait(&random)).collect();
        assert!(waits[0] <= Duration::from_millis(10) && Duration::from_millis(5) <= waits[0]);
        assert!(
            waits[10..]
                .iter()
                .all(|wait| *wait <= config.max && Duration::from_millis(50) <= *wait)
        );
        backoff.reset();
        assert!(backoff.next_wait(&random) <= config.initial);
    }
}
