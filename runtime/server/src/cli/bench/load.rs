//! How records are written: the settings that every workload with a producer has.
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tidemill_client::{Acks, Compression, ProducerConfig};

use crate::config::Size;
use crate::config::units::Span;

/// What a producer sends, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Bytes of a record's value.
    #[arg(long, short = 's', value_name = "SIZE", default_value = "1KiB")]
    pub(super) record_bytes: Size,
    /// Different keys of the records; without it they have none.
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(super) keys: u64,
    /// Bytes collected into a batch, before compression.
    #[arg(long, short, value_name = "SIZE", default_value = "64KiB")]
    pub(super) batch_bytes: Size,
    /// How long a batch of the SDK waits for more records. The plain client's batches are always full.
    #[arg(long, value_name = "TIME", default_value = "5ms")]
    pub(super) linger: Span,
    /// What an acknowledgement promises.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    pub(super) acks: AcksArg,
    /// Do not number batches.
    #[arg(long)]
    pub(super) no_idempotence: bool,
    /// Compression of batches.
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    pub(super) compression: Codec,
    /// Partitions of the topic.
    #[arg(long, short, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub(super) partitions: i32,
    /// Batches on their way: of each partition (SDK), of each connection (plain client).
    #[arg(long, value_name = "BATCHES")]
    pub(super) in_flight: Option<usize>,
    /// Threads of this process.
    #[arg(long, default_value_t = 1)]
    pub(super) threads: usize,
}

/// See [`Acks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AcksArg {
    /// No answer.
    None,
    /// The leader's word.
    Leader,
    /// That of every replica in sync.
    All,
}

/// See [`Compression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Batches of one connection of the plain client on their way, unless told otherwise.
const WIRE_IN_FLIGHT: usize = 16;

impl LoadArgs {
    /// Every record at once, as it comes.
    pub(super) fn at_once(record_bytes: Size) -> LoadArgs {
        LoadArgs {
            record_bytes,
            keys: 0,
            batch_bytes: Size(64 << 10),
            linger: Span(0),
            acks: AcksArg::All,
            no_idempotence: false,
            compression: Codec::None,
            partitions: 1,
            in_flight: None,
            threads: 1,
        }
    }

    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("record_bytes", json!(self.record_bytes.0)),
            ("keys", json!(self.keys)),
            ("batch_bytes", json!(self.batch_bytes.0)),
            ("linger_ms", json!(self.linger.0)),
            (
                "acks",
                json!(self.acks.to_possible_value().map(|v| v.get_name().to_owned())),
            ),
            ("idempotent", json!(self.is_idempotent())),
            (
                "compression",
                json!(self.compression.to_possible_value().map(|v| v.get_name().to_owned())),
            ),
            ("partitions", json!(self.partitions)),
            ("threads", json!(self.threads)),
        ]
    }

    pub(super) fn is_idempotent(&self) -> bool {
        !self.no_idempotence && self.acks == AcksArg::All
    }

    /// For the SDK.
    pub(super) fn producer(&self) -> ProducerConfig {
        let standard = ProducerConfig::default();
        ProducerConfig {
            acks: match self.acks {
                AcksArg::None => Acks::None,
                AcksArg::Leader => Acks::Leader,
                AcksArg::All => Acks::All,
            },
            idempotence: self.is_idempotent(),
            batch_bytes_max: self.batch_bytes.bytes(),
            linger: Duration::from_millis(self.linger.0),
            compression: self.codec(),
            buffer_bytes_max: standard
                .buffer_bytes_max
                .max(self.batch_bytes.bytes().saturating_mul(4)),
            in_flight_max: self.in_flight.unwrap_or(standard.in_flight_max),
            allow_auto_topic_creation: false,
            ..standard
        }
    }

    /// For the plain client.
    pub(super) fn wire_acks(&self) -> i16 {
        match self.acks {
            AcksArg::None => 0,
            AcksArg::Leader => 1,
            AcksArg::All => -1,
        }
    }

    pub(super) fn wire_in_flight(&self) -> usize {
        self.in_flight.unwrap_or(WIRE_IN_FLIGHT).max(1)
    }

    pub(super) fn codec(&self) -> Compression {
        match self.compression {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}
