//! How a producer is configured, and which combinations make sense.

use std::fmt;
use std::time::Duration;

use tidemill_protocol::batch::Codec as Compression;

use crate::error::{Error, Result};
use crate::limits;
use crate::partitioner::{Partitioner, Sticky};

/// What a record's acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// No answer: a record is done when it is on its way. It may be lost, silently.
    None,
    /// The leader has the record on stable storage.
    Leader,
    /// Every in-sync replica has the record on stable storage.
    #[default]
    All,
}

impl Acks {
    pub(crate) fn wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Configuration of a [`Producer`](crate::Producer). The default is exactly once: each record that is acknowledged is in
/// the log, once, in the order of `send` within its partition, whatever connections do.
///
/// ```
/// use std::time::Duration;
/// use tidemill_client::{Compression, ProducerConfig};
///
/// let config = ProducerConfig {
///     linger: Duration::from_millis(20),
///     compression: Compression::Zstd,
///     ..ProducerConfig::default()
/// };
/// assert!(config.idempotence);
/// ```
pub struct ProducerConfig {
    /// What an acknowledgement promises. Default [`Acks::All`], which idempotence needs.
    pub acks: Acks,
    /// Numbers batches, so that a retry is stored once. Default on. Off, a retry may store records twice, and more
    /// than one batch in flight may store them in another order.
    pub idempotence: bool,
    /// Bytes of records collected into one batch, before compression. Default 64 KiB; 1 KiB to 64 MiB. The topic's
    /// `max.message.bytes` bounds what the broker takes.
    pub batch_bytes_max: usize,
    /// How long a batch waits for more records. Default 5 ms; up to 1 min. With 0 a batch collects what comes while
    /// earlier ones are on their way.
    pub linger: Duration,
    /// Compression of batches. Default none.
    pub compression: Compression,
    /// Bytes of records accepted and not yet acknowledged, over all partitions. Above it `send` waits.
    /// Default 32 MiB; from `batch_bytes_max` to 1 GiB.
    pub buffer_bytes_max: usize,
    /// Batches of one partition on their way. Default 5; 1 to 5 with idempotence, to 64 without.
    pub in_flight_max: usize,
    /// How long a record may take from `send` to its acknowledgement, retries included. Default 2 min; 10 ms to 1 h.
    pub delivery_timeout: Duration,
    /// How many times a batch is sent again, within the delivery timeout. Default unbounded.
    pub retries_max: u32,
    /// Whether a broker may create a topic that it does not know. Default yes.
    pub allow_auto_topic_creation: bool,
    /// Chooses partitions. Default [`Sticky`].
    pub partitioner: Box<dyn Partitioner>,
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            idempotence: true,
            batch_bytes_max: 64 * 1024,
            linger: Duration::from_millis(5),
            compression: Compression::default(),
            buffer_bytes_max: 32 * 1024 * 1024,
            in_flight_max: limits::IN_FLIGHT_IDEMPOTENT_MAX,
            delivery_timeout: Duration::from_secs(120),
            retries_max: u32::MAX,
            allow_auto_topic_creation: true,
            partitioner: Box::new(Sticky::new()),
        }
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("acks", &self.acks)
            .field("idempotence", &self.idempotence)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .field("linger", &self.linger)
            .field("compression", &self.compression)
            .field("buffer_bytes_max", &self.buffer_bytes_max)
            .field("in_flight_max", &self.in_flight_max)
            .field("delivery_timeout", &self.delivery_timeout)
            .finish_non_exhaustive()
    }
}

impl ProducerConfig {
    /// A record is stored once or not at all, and nobody says which: `acks` 0. Fastest, and loses what a broken
    /// connection held.
    pub fn at_most_once() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::None,
            idempotence: false,
            ..ProducerConfig::default()
        }
    }

    /// An acknowledged record is stored at least once: a retry after a lost answer stores it again.
    pub fn at_least_once() -> ProducerConfig {
        ProducerConfig {
            idempotence: false,
            ..ProducerConfig::default()
        }
    }

    /// An acknowledged record is stored exactly once. The default.
    pub fn exactly_once() -> ProducerConfig {
        ProducerConfig::default()
    }

    pub(crate) fn check(&self) -> Result<()> {
        let in_flight_bound = if self.idempotence {
            limits::IN_FLIGHT_IDEMPOTENT_MAX
        } else {
            limits::IN_FLIGHT_MAX
        };
        if self.idempotence && self.acks != Acks::All {
            return Err(Error::config(
                "idempotence",
                "needs `acks` all: turn it off, or ask for all acknowledgements",
            ));
        }
        if !(1..=in_flight_bound).contains(&self.in_flight_max) {
            return Err(Error::config(
                "in_flight_max",
                format!("must be 1 to {in_flight_bound}"),
            ));
        }
        if !(1024..=limits::BATCH_BYTES_MAX).contains(&self.batch_bytes_max) {
            return Err(Error::config(
                "batch_bytes_max",
                format!("must be 1024 to {}", limits::BATCH_BYTES_MAX),
            ));
        }
        if !(self.batch_bytes_max..=limits::PRODUCER_BUFFER_BYTES_MAX).contains(&self.buffer_bytes_max) {
            let bound = limits::PRODUCER_BUFFER_BYTES_MAX;
            return Err(Error::config(
                "buffer_bytes_max",
                format!("must be `batch_bytes_max` to {bound}"),
            ));
        }
        if Duration::from_secs(60) < self.linger {
            return Err(Error::config("linger", "must be at most 1 min"));
        }
        if self.delivery_timeout < Duration::from_millis(10) || Duration::from_secs(3600) < self.delivery_timeout {
            return Err(Error::config("delivery_timeout", "must be 10 ms to 1 h"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotence_needs_all_acknowledgements() {
        let config = ProducerConfig {
            acks: Acks::Leader,
            ..ProducerConfig::default()
        };
        assert!(config.check().is_err());
        for config in [
            ProducerConfig::at_most_once(),
            ProducerConfig::at_least_once(),
            ProducerConfig::exactly_once(),
        ] {
            config.check().expect("a preset fits together");
        }
    }

    #[test]
    fn bounds_are_checked() {
        let small = ProducerConfig {
            batch_bytes_max: 10,
            ..ProducerConfig::default()
        };
        let flights = ProducerConfig {
            in_flight_max: 6,
            ..ProducerConfig::default()
        };
        let buffer = ProducerConfig {
            buffer_bytes_max: 10_000,
            ..ProducerConfig::default()
        };
        assert!(small.check().is_err() && flights.check().is_err() && buffer.check().is_err());
    }
}
