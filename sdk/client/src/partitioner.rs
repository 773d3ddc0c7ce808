//! Which partition a record goes to.
//!
//! By default records with a key go where Kafka's own clients put them, murmur2 of the key, so that producers in any
//! language agree; records without a key stick to one partition until its batch is full, then move to another, which
//! makes fewer and larger batches than taking turns.

use std::collections::BTreeMap;

use tidemill_protocol::partitioner;

use crate::random::Random;
use crate::record::Record;

/// Chooses partitions. It is called in the order of `send`, by one task at a time.
pub trait Partitioner: Send + Sync + 'static {
    /// A partition in `0..partitions`; `partitions` is at least 1. Anything else fails the record.
    fn partition(&mut self, record: &Record, partitions: i32) -> i32;

    /// The batch that `record`s without a key of this topic went to is full: the moment for a sticky choice to change.
    fn batch_full(&mut self, _topic: &str, _partition: i32) {}
}

impl<F: FnMut(&Record, i32) -> i32 + Send + Sync + 'static> Partitioner for F {
    fn partition(&mut self, record: &Record, partitions: i32) -> i32 {
        self(record, partitions)
    }
}

/// The partition of a key among `partitions`, as Kafka's own clients compute it.
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    let partitions = u32::try_from(partitions).unwrap_or(0);
    let partition = partitioner::partition_of_key(key, partitions).unwrap_or(0);
    i32::try_from(partition).expect("it is below a number that was an i32")
}

/// Murmur2 for keys, sticky without: the default.
#[derive(Debug)]
pub struct Sticky {
    random: Random,
    current: BTreeMap<String, i32>,
}

impl Sticky {
    /// Starts at a random partition of each topic.
    pub fn new() -> Sticky {
        Sticky {
            random: Random::from_system(),
            current: BTreeMap::new(),
        }
    }

    /// As [`Sticky::new`], with the same choices for the same seed.
    pub fn with_seed(seed: u64) -> Sticky {
        Sticky {
            random: Random::from_seed(seed),
            current: BTreeMap::new(),
        }
    }
}

impl Default for Sticky {
    fn default() -> Sticky {
        Sticky::new()
    }
}

impl Partitioner for Sticky {
    fn partition(&mut self, record: &Record, partitions: i32) -> i32 {
        if let Some(key) = &record.key {
            return partition_of_key(key, partitions);
        }
        if let Some(current) = self.current.get(&record.topic)
            && *current < partitions
        {
            return *current;
        }
        let chosen = below(&self.random, partitions);
        self.current.insert(record.topic.clone(), chosen);
        chosen
    }

    fn batch_full(&mut self, topic: &str, partition: i32) {
        if self.current.get(topic) == Some(&partition) {
            self.current.remove(topic);
        }
    }
}

/// Murmur2 for keys; records without a key take turns.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: BTreeMap<String, i32>,
}

impl RoundRobin {
    /// Starts at partition 0 of each topic.
    pub fn new() -> RoundRobin {
        RoundRobin::default()
    }
}

impl Partitioner for RoundRobin {
    fn partition(&mut self, record: &Record, partitions: i32) -> i32 {
        if let Some(key) = &record.key {
            return partition_of_key(key, partitions);
        }
        match self.next.get_mut(&record.topic) {
            Some(next) => {
                let chosen = *next % partitions.max(1);
                *next = (chosen + 1) % partitions.max(1);
                chosen
            }
            None => {
                self.next.insert(record.topic.clone(), 1);
                0
            }
        }
    }
}

fn below(random: &Random, partitions: i32) -> i32 {
    let bound = u64::try_from(partitions).unwrap_or(1);
    i32::try_from(random.below(bound)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_clients_put_them() {
        // Values of org.apache.kafka.common.utils.UtilsTest.testMurmur2, made positive and taken modulo 1000.
        assert_eq!(partition_of_key(b"21", 1000), (-973_932_308_i32 & i32::MAX) % 1000);
        assert_eq!(partition_of_key(b"foobar", 1000), (-790_332_482_i32 & i32::MAX) % 1000);
        assert_eq!(partition_of_key(b"abc", 1000), 479_470_107 % 1000);
    }

    #[test]
    fn a_keyless_record_stays_until_the_batch_is_full() {
        let mut sticky = Sticky::with_seed(5);
        let record = Record::to("t").value("v");
        let first = sticky.partition(&record, 12);
        assert!((0..50).all(|_| sticky.partition(&record, 12) == first));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let partition = sticky.partition(&record, 12);
            seen.insert(partition);
            sticky.batch_full("t", partition);
        }
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn round_robin_takes_turns_by_topic() {
        let mut round_robin = RoundRobin::new();
        let mut take = |topic: &str| round_robin.partition(&Record::to(topic), 3);
        assert_eq!((0..7).map(|_| take("a")).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(take("b"), 0);
    }

    #[test]
    fn a_closure_is_a_partitioner() {
        let mut last = |_: &Record, partitions: i32| partitions - 1;
        assert_eq!(Partitioner::partition(&mut last, &Record::to("t"), 4), 3);
    }
}
