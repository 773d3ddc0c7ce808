//! What applications write and read: records, where they went, and where they come from.

use std::fmt;

use bytes::Bytes;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A record's header. Names may repeat, and their order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub key: String,
    /// The value; `None` is null, which is not empty.
    pub value: Option<Bytes>,
}

/// A record to be produced.
///
/// ```
/// use tidemill_client::Record;
///
/// let record = Record::to("clicks").key("user-42").value("{\"page\":\"/\"}").header("trace", "f3a1");
/// assert_eq!(record.topic, "clicks");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Topic to append to.
    pub topic: String,
    /// Partition to append to; chosen by the producer's partitioner when `None`.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; the time of `send` when `None`.
    pub timestamp: Option<i64>,
    /// Key. Records of one key go to one partition, in order.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

impl Record {
    /// An empty record for a topic.
    pub fn to(topic: impl Into<String>) -> Record {
        Record {
            topic: topic.into(),
            ..Record::default()
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Record {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Record {
        self.value = Some(value.into());
        self
    }

    /// Adds a header behind those there are.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Record {
        self.headers.push(Header {
            key: key.into(),
            value: Some(value.into()),
        });
        self
    }

    /// Sets the partition, past the partitioner.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Record {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Record {
        self.timestamp = Some(timestamp);
        self
    }

    /// Upper bound of what the record takes in a batch, before compression.
    pub(crate) fn encoded_bytes_max(&self) -> usize {
        /// Length, attributes, deltas, and the lengths of key, value and header list, each as long as its type allows.
        const RECORD_OVERHEAD: usize = 36;
        const HEADER_OVERHEAD: usize = 10;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.key.len() + length(&h.value) + HEADER_OVERHEAD)
            .sum();
        RECORD_OVERHEAD + length(&self.key) + length(&self.value) + headers
    }
}

/// Where a produced record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset; `None` with `acks` 0, and when the broker only knows that it has had the record before.
    pub offset: Option<i64>,
    /// Milliseconds since the epoch: the record's own, or the broker's when the topic is configured for append time.
    pub timestamp: i64,
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Topic, shared by the records of a batch.
    pub topic: std::sync::Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}
