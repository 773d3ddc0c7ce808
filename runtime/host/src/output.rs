//! What a call produces: records encoded into record batches as they come, one batch for each partition, in memory until the commit.
//!
//! Guarantees: the same calls give the same bytes; a batch fits its topic; the call's quota holds. A request is checked as a whole before
//! any of it is written ([`Outputs::check`], then [`Outputs::take`]), so a refused `send` leaves nothing behind.
use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tidemill_broker::module::run::OutputTopic;
use tidemill_protocol::{
    batch::{Builder, HEADER_BYTES, RecordHeader},
    partitioner::{Partitions, partition_of_key},
};

/// What a record takes at most beside its bytes: lengths, counts and deltas.
const RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
/// What a header takes at most beside its bytes.
const HEADER_OVERHEAD: usize = 5 + 5;

/// Why records are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not among the topics granted.
    Denied,
    /// Granted, but it does not exist.
    NoSuchTopic,
    /// Larger than a record batch of the topic may be.
    TooLarge,
    /// The topic has no such partition.
    NoSuchPartition,
    /// The call's quota is used up.
    Quota,
}

/// A record on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a, H> {
    /// Key.
    pub(crate) key: Option<&'a [u8]>,
    /// Value.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers, in order.
    pub(crate) headers: H,
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// `None`: the key decides.
    pub(crate) partition: Option<u32>,
}

impl<'a, H: Iterator<Item = RecordHeader<'a>> + Clone> Message<'a, H> {
    /// Bytes that it counts for.
    #[inline]
    fn size(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self
            .headers
            .clone()
            .map(|header| header.key.len() + length(header.value));
        size(
            length(self.key) + length(self.value) + headers.sum::<usize>(),
            self.headers.clone().count(),
        )
    }
}

/// Bytes that a record counts for, given the bytes of key, value and so many headers.
fn size(bytes: usize, headers: usize) -> usize {
    RECORD_OVERHEAD + bytes + headers * HEADER_OVERHEAD
}

/// A record on its way from an input to an output as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded<'a> {
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// Key, which decides on the partition.
    pub(crate) key: Option<&'a [u8]>,
    /// Key, value and headers as they were written.
    pub(crate) encoded: &'a [u8],
}

impl Forwarded<'_> {
    /// Bytes that a record counts for that is encoded in so many.
    pub(crate) fn size(encoded_bytes: usize) -> usize {
        Builder::RECORD_OVERHEAD_MAX + encoded_bytes
    }
}

/// Records of one call, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    granted: Arc<BTreeMap<String, OutputTopic>>,
    topics: Vec<Topic>,
    bytes: usize,
    bytes_max: usize,
    records: u64,
    sticky: (u32, i64),
}

/// Where the records of one topic go.
#[derive(Debug)]
pub(crate) struct Topic {
    name: String,
    partitions: Partitions,
    batch_bytes_max: usize,
    /// Room that the next batch is begun with.
    expected: usize,
    /// Partition of records without a key.
    sticky: u32,
    /// One more than the index of the partition's last builder; 0 is none.
    last: Vec<u32>,
    builders: Vec<(u32, Builder)>,
}

/// A topic that this call may write to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicIndex(usize);

impl Outputs {
    /// Nothing yet. `sticky` is the task and first offset that records without a key are spread by.
    pub(crate) fn new(granted: Arc<BTreeMap<String, OutputTopic>>, bytes_max: usize, sticky: (u32, i64)) -> Self {
        Self {
            granted,
            bytes_max,
            sticky,
            ..Self::default()
        }
    }

    /// Finds a topic by name.
    pub(crate) fn topic(&mut self, name: &str) -> Result<TopicIndex, Refused> {
        if let Some(index) = self.topics.iter().position(|topic| topic.name == name) {
            return Ok(TopicIndex(index));
        }
        let granted = self.granted.get(name).ok_or(Refused::Denied)?;
        if granted.partitions == 0 {
            return Err(Refused::NoSuchTopic);
        }
        self.topics.push(Topic {
            name: name.to_owned(),
            partitions: Partitions::new(granted.partitions),
            batch_bytes_max: granted.batch_bytes_max,
            expected: 0,
            sticky: sticky(self.sticky.0, self.sticky.1, granted.partitions),
            last: vec![0; granted.partitions as usize],
            builders: Vec::new(),
        });
        Ok(TopicIndex(self.topics.len() - 1))
    }

    /// A check over all the records of one request, to be made before the first is written.
    pub(crate) fn check(&self, topic: TopicIndex) -> Check<'_> {
        Check {
            outputs: self,
            topic: &self.topics[topic.0],
            passed: Passed {
                topic,
                bytes: 0,
                records: 0,
            },
        }
    }

    /// Counts a request's records, and gives where to write them.
    pub(crate) fn take(&mut self, request: Passed) -> &mut Topic {
        self.bytes += request.bytes;
        self.records += request.records;
        let topic = &mut self.topics[request.topic.0];
        // Batches that are begun get their share of room at once. Keys do not spread evenly.
        let share = request.bytes / topic.partitions.count() as usize / 4 * 5;
        topic.expected = share.min(topic.batch_bytes_max);
        topic
    }

    /// Records so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Lets dead letters of records given up in though the guest's output fills its quota.
    pub(crate) fn lift_quota(&mut self) {
        self.bytes_max = usize::MAX;
    }

    /// Record batches in the order in which they were begun, topic by topic.
    pub(crate) fn finish(self) -> Vec<(String, u32, Bytes)> {
        let mut batches = Vec::new();
        for topic in self.topics {
            for (partition, builder) in topic.builders {
                batches.push((topic.name.clone(), partition, builder.finish()));
            }
        }
        batches
    }
}

/// See [`Outputs::check`].
#[derive(Debug)]
pub(crate) struct Check<'a> {
    outputs: &'a Outputs,
    topic: &'a Topic,
    passed: Passed,
}

/// Records of one request that fit.
#[derive(Debug)]
pub(crate) struct Passed {
    topic: TopicIndex,
    bytes: usize,
    records: u64,
}

impl Check<'_> {
    /// One more record.
    pub(crate) fn record<'a, H>(&mut self, message: &Message<'a, H>) -> Result<(), Refused>
    where
        H: Iterator<Item = RecordHeader<'a>> + Clone,
    {
        self.place(message.partition)?;
        self.size(message.size())
    }

    /// One more record, given the bytes of its key, value and so many headers.
    pub(crate) fn encoded(&mut self, partition: Option<u32>, bytes: usize, headers: usize) -> Result<(), Refused> {
        self.place(partition)?;
        self.size(size(bytes, headers))
    }

    fn place(&self, partition: Option<u32>) -> Result<(), Refused> {
        if partition.is_some_and(|partition| self.topic.partitions.count() <= partition) {
            return Err(Refused::NoSuchPartition);
        }
        Ok(())
    }

    /// One more record of so many bytes.
    pub(crate) fn size(&mut self, size: usize) -> Result<(), Refused> {
        if self.topic.batch_bytes_max < HEADER_BYTES + size {
            return Err(Refused::TooLarge);
        }
        self.passed.records += 1;
        self.passed.bytes = self.passed.bytes.saturating_add(size);
        if self.outputs.bytes_max < self.outputs.bytes.saturating_add(self.passed.bytes) {
            return Err(Refused::Quota);
        }
        Ok(())
    }

    /// All records were checked.
    pub(crate) fn end(self) -> Passed {
        self.passed
    }
}

impl Topic {
    /// Adds a record as it was written.
    #[inline]
    pub(crate) fn forward(&mut self, record: &Forwarded<'_>) {
        let partition = self.partition_of(record.key);
        self.builder(partition, Forwarded::size(record.encoded.len()))
            .append_encoded(record.timestamp, record.encoded);
    }

    /// Adds a record.
    // Inlined, as whatever makes the message: one that goes through memory stalls the processor each time.
    #[inline(always)]
    pub(crate) fn push<'a, H>(&mut self, message: Message<'a, H>)
    where
        H: Iterator<Item = RecordHeader<'a>> + Clone,
    {
        let partition = message.partition.unwrap_or_else(|| self.partition_of(message.key));
        self.builder(partition, message.size())
            .append(message.timestamp, message.key, message.value, message.headers);
    }

    #[inline]
    fn partition_of(&self, key: Option<&[u8]>) -> u32 {
        key.map_or(self.sticky, |key| self.partitions.of_key(key))
    }

    /// The partition's batch that has room for so many bytes more.
    #[inline]
    fn builder(&mut self, partition: u32, size: usize) -> &mut Builder {
        let last = self.last[partition as usize] as usize;
        if last == 0 || self.batch_bytes_max < self.builders[last - 1].1.size() + size {
            let mut builder = Builder::new();
            builder.reserve(self.expected);
            self.builders.push((partition, builder));
            self.last[partition as usize] =
                u32::try_from(self.builders.len()).expect("fewer batches than bytes of quota");
        }
        &mut self.builders[self.last[partition as usize] as usize - 1].1
    }
}

/// Partition of records without a key: one for the whole batch, and another one for the next, the same whenever the batch is run again.
fn sticky(task: u32, first_offset: i64, partitions: u32) -> u32 {
    let mut seed = [0; 12];
    seed[..4].copy_from_slice(&task.to_be_bytes());
    seed[4..].copy_from_slice(&first_offset.to_be_bytes());
    partition_of_key(&seed, partitions).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_gets_batches_without_keys() {
        let hit: std::collections::BTreeSet<u32> = (0..200).map(|n| sticky(3, n * 1_000, 10)).collect();
        assert_eq!(hit.len(), 10);
    }
}
