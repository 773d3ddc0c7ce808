//! How a consumer is configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::listener::RebalanceListener;
use crate::error::{Error, Result};
use crate::limits;

/// Where to start when a group has no committed offset, or one that is no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record that is still there.
    Earliest,
    /// Behind the last: only what comes from now on.
    #[default]
    Latest,
    /// Nowhere: [`Consumer::next`](crate::Consumer::next) gives [`Error::NoOffset`].
    None,
}

/// Configuration of a [`Consumer`](crate::Consumer).
///
/// ```
/// use tidemill_client::{ConsumerConfig, OffsetReset};
///
/// let config = ConsumerConfig {
///     auto_offset_reset: OffsetReset::Earliest,
///     auto_commit: None, // by hand, after processing
///     ..ConsumerConfig::group("billing")
/// };
/// assert_eq!(config.group_id.as_deref(), Some("billing"));
/// ```
#[derive(Clone)]
pub struct ConsumerConfig {
    /// The group whose offsets are used, and of which [`Consumer::subscribe`](crate::Consumer::subscribe) makes a
    /// member. None: partitions by hand, and no commits.
    pub group_id: Option<String>,
    /// A name that survives restarts (static membership): the member gets back what it had, without a rebalance.
    pub group_instance_id: Option<String>,
    /// The broker's assignor: `uniform` or `range`. Default: the broker's choice.
    pub server_assignor: Option<String>,
    /// Default [`OffsetReset::Latest`].
    pub auto_offset_reset: OffsetReset,
    /// Commit in this interval what is processed: the batches before the last call of `next`. `None`: by hand.
    /// Default 5 s; 10 ms to 1 h.
    pub auto_commit: Option<Duration>,
    /// A fetch waits for this many bytes. Default 1.
    pub fetch_min_bytes: i32,
    /// How long it waits for them. Default 500 ms; up to 1 min.
    pub fetch_wait_max: Duration,
    /// Bytes of one fetch. Default 16 MiB; 1 KiB to 64 MiB. A first batch that is larger comes all the same.
    pub fetch_bytes_max: i32,
    /// Bytes of one partition in one fetch, and about the bytes kept ready of it. Default 1 MiB; 1 KiB to 64 MiB.
    pub partition_fetch_bytes_max: i32,
    /// Records one call of `next` gives at most. Default 1000; 1 to 1,000,000.
    pub poll_records_max: usize,
    /// How long the application may take between two calls of `next` before its partitions are given to others.
    /// Default 5 min; 100 ms to 24 h.
    pub poll_interval_max: Duration,
    /// Told of partitions that come and go.
    pub listener: Option<Arc<dyn RebalanceListener>>,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            group_id: None,
            group_instance_id: None,
            server_assignor: None,
            auto_offset_reset: OffsetReset::default(),
            auto_commit: Some(Duration::from_secs(5)),
            fetch_min_bytes: 1,
            fetch_wait_max: Duration::from_millis(500),
            fetch_bytes_max: 16 * 1024 * 1024,
            partition_fetch_bytes_max: 1024 * 1024,
            poll_records_max: 1000,
            poll_interval_max: Duration::from_secs(300),
            listener: None,
        }
    }
}

impl ConsumerConfig {
    /// The defaults, with a group.
    pub fn group(group_id: impl Into<String>) -> ConsumerConfig {
        ConsumerConfig {
            group_id: Some(group_id.into()),
            ..ConsumerConfig::default()
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        const MIB_64: i32 = 64 * 1024 * 1024;
        let within = |key, value: i32| match (1024..=MIB_64).contains(&value) {
            true => Ok(()),
            false => Err(Error::config(key, "must be 1 KiB to 64 MiB")),
        };
        within("fetch_bytes_max", self.fetch_bytes_max)?;
        within("partition_fetch_bytes_max", self.partition_fetch_bytes_max)?;
        if self.fetch_min_bytes < 0 || self.fetch_bytes_max < self.fetch_min_bytes {
            return Err(Error::config("fetch_min_bytes", "must be 0 to `fetch_bytes_max`"));
        }
        if Duration::from_secs(60) < self.fetch_wait_max {
            return Err(Error::config("fetch_wait_max", "must be at most 1 min"));
        }
        if !(1..=limits::POLL_RECORDS_MAX).contains(&self.poll_records_max) {
            return Err(Error::config(
                "poll_records_max",
                format!("must be 1 to {}", limits::POLL_RECORDS_MAX),
            ));
        }
        if self.poll_interval_max < Duration::from_millis(100) || Duration::from_secs(86_400) < self.poll_interval_max {
            return Err(Error::config("poll_interval_max", "must be 100 ms to 24 h"));
        }
        if self
            .auto_commit
            .is_some_and(|i| i < Duration::from_millis(10) || Duration::from_secs(3600) < i)
        {
            return Err(Error::config("auto_commit", "must be 10 ms to 1 h, or none"));
        }
        if self.group_id.as_ref().is_some_and(String::is_empty) {
            return Err(Error::config("group_id", "must not be empty"));
        }
        Ok(())
    }
}

impl fmt::Debug for ConsumerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerConfig")
            .field("group_id", &self.group_id)
            .field("group_instance_id", &self.group_instance_id)
            .field("server_assignor", &self.server_assignor)
            .field("auto_offset_reset", &self.auto_offset_reset)
            .field("auto_commit", &self.auto_commit)
            .finish_non_exhaustive()
    }
}
