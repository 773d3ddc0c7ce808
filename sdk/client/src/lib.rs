//! Async client of Tidemill over QUIC: producer, consumer, administration, modules.
//!
//! Records travel in Kafka's protocol over QUIC streams: one stream for control, one for each partition produced to, one
//! for each fetch session, so that no partition waits for another. TLS 1.3 is always on. A broken connection is
//! repaired; what was asked on it is asked again when that cannot do harm.
//!
//! | what is wanted | how |
//! |---|---|
//! | each record stored once, in order | [`ProducerConfig::exactly_once`], the default |
//! | each record stored, perhaps twice | [`ProducerConfig::at_least_once`] |
//! | speed above all | [`ProducerConfig::at_most_once`] |
//! | each record processed, perhaps twice | commit after processing, or auto-commit |
//! | each record processed, or lost, never twice | commit before processing |
//! | each record's effect exactly once | a module inside the daemon: [`Admin::deploy`] |
//!
//! ```no_run
//! # async fn example() -> tidemill_client::Result<()> {
//! use tidemill_client::{Client, ConsumerConfig, OffsetReset, ProducerConfig, Record};
//!
//! // A daemon of the same user on this machine; otherwise `.bootstrap(..)` and `.ca_file(..)`.
//! let client = Client::builder().connect().await?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! producer.send(Record::to("clicks").key("user-42").value("/home")).await?;
//! producer.close().await?;
//!
//! let config = ConsumerConfig { auto_offset_reset: OffsetReset::Earliest, ..ConsumerConfig::group("reports") };
//! let mut consumer = client.consumer(config)?;
//! consumer.subscribe(["clicks"])?;
//! for record in consumer.next().await? {
//!     println!("{:?} {:?}", record.key, record.value);
//! }
//! consumer.close().await
//! # }
//! ```
//!
//! It needs a Tokio runtime with time and IO. It logs with `tracing`, at `debug` what it repairs by itself.

mod admin;
mod backoff;
mod builder;
mod client;
mod clock;
mod consumer;
mod error;
pub mod limits;
mod metadata;
mod net;
mod offsets;
mod partitioner;
mod producer;
mod random;
mod record;
mod tls;

pub use tidemill_protocol::admin as management;
pub use tidemill_protocol::api::ApiKey;
pub use tidemill_protocol::batch::Codec as Compression;
pub use tidemill_protocol::error_code::ErrorCode;
pub use tidemill_protocol::ids::TopicId;

pub use crate::admin::{
    Admin, Answers, ConfigChange, ConfigEntry, Deploy, GroupDescription, GroupListing, GroupMember, NewTopic,
};
pub use crate::backoff::BackoffConfig;
pub use crate::builder::{ClientBuilder, DEFAULT_ADDRESS};
pub use crate::client::Client;
pub use crate::consumer::{Batch, Callback, Consumer, ConsumerConfig, ConsumerHandle, OffsetReset, RebalanceListener};
pub use crate::error::{Blame, Error, Reach, Result};
pub use crate::metadata::{Node, Partition, Topic};
pub use crate::net::faults::{Fate, Faults, LoseNth};
pub use crate::offsets::{Committed, OffsetAndTimestamp, OffsetSpec};
pub use crate::partitioner::{Partitioner, RoundRobin, Sticky, partition_of_key};
pub use crate::producer::{Acks, Delivery, Producer, ProducerConfig};
pub use crate::record::{ConsumerRecord, Header, Record, RecordMetadata, TopicPartition};
pub use crate::tls::{CA_VARIABLE, default_ca_path};
