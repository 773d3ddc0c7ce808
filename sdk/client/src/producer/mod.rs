//! The producer: accepts records, collects them into batches by partition, and sees each batch through.
//!
//! ```text
//! send ─ partitioner ─┬─ Queue of partition 0 ─ Sender ─ stream ─┐
//!                     ├─ Queue of partition 1 ─ Sender ─ stream ─┼─ connection
//!                     └─ ...                                     ┘
//! ```
//!
//! Guarantees: `send` never blocks and fixes the order within a partition; what is accepted and not acknowledged never
//! exceeds `buffer_bytes_max`; every accepted record is answered, once, within its delivery timeout (and the time of one
//! attempt more); with idempotence an acknowledged record is stored exactly once and in order. It knows nothing of
//! transactions.

mod config;
mod delivery;
mod encode;
mod queue;
mod sender;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::task::coop;
use tokio::time::Instant;

pub use self::config::{Acks, ProducerConfig};
pub use self::delivery::Delivery;
use self::delivery::Placed;
use self::encode::Identity;
use self::queue::{Pushed, Queue, Room};
use crate::client::{AutoCreate, Inner};
use crate::clock;
use crate::error::{Error, Result};
use crate::limits::PRODUCE_STREAMS_MAX;
use crate::metadata::Topic;
use crate::partitioner::Partitioner;
use crate::record::Record;

/// Appends records to topics. Share it by reference or in an `Arc`; one is enough for a program.
///
/// Dropping it sends in the background what it has accepted; [`Producer::close`] waits for that.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> tidemill_client::Result<()> {
/// use tidemill_client::{ProducerConfig, Record};
///
/// let producer = client.producer(ProducerConfig::default())?;
/// let mut deliveries = Vec::new();
/// for n in 0..10_000 {
///     // Waits while the buffer is full; the delivery is the acknowledgement to come.
///     deliveries.push(producer.enqueue(Record::to("numbers").value(n.to_string())).await?);
/// }
/// producer.flush().await?;
/// for delivery in deliveries {
///     let metadata = delivery.await?;
///     assert!(metadata.offset.is_some());
/// }
/// producer.close().await
/// # }
/// ```
pub struct Producer {
    shared: Arc<Shared>,
}

/// What the producer shares with its senders.
pub(crate) struct Shared {
    client: Arc<Inner>,
    config: ProducerConfig,
    room: Arc<Semaphore>,
    state: Mutex<State>,
    closed: watch::Sender<bool>,
    /// The identity that partitions begin with.
    identity: tokio::sync::Mutex<Option<Identity>>,
    /// The first failure since the last flush, for those who drop deliveries.
    failure: Mutex<Option<Error>>,
}

struct State {
    topics: BTreeMap<String, TopicState>,
    partitioner: Box<dyn Partitioner>,
    senders: usize,
}

enum TopicState {
    /// Its partitions are being asked for; records wait in order, and the mark rises when they are distributed.
    Resolving(VecDeque<Unplaced>, watch::Sender<bool>),
    Known(Partitions),
}

/// A record that has no place yet, and whoever is told of it.
struct Unplaced {
    record: Record,
    room: Room,
    since: Instant,
    reply: oneshot::Sender<Result<Placed>>,
}

/// The queues of a topic's partitions, made when first used.
struct Partitions {
    topic: Arc<str>,
    count: i32,
    queues: BTreeMap<i32, Arc<Queue>>,
}

impl Producer {
    pub(crate) fn start(client: Arc<Inner>, mut config: ProducerConfig) -> Result<Producer> {
        config.check()?;
        let partitioner = std::mem::replace(&mut config.partitioner, Box::new(|_: &Record, _| 0));
        let shared = Shared {
            client,
            room: Arc::new(Semaphore::new(config.buffer_bytes_max)),
            config,
            state: Mutex::new(State {
                topics: BTreeMap::new(),
                partitioner,
                senders: 0,
            }),
            closed: watch::Sender::new(false),
            identity: tokio::sync::Mutex::new(None),
            failure: Mutex::new(None),
        };
        Ok(Producer {
            shared: Arc::new(shared),
        })
    }

    /// Sends a record. It takes its place in the order of its partition at once if the buffer has room, otherwise when
    /// the returned future is polled and room comes. The future gives the acknowledgement; dropping it does not take
    /// back a record that has its place.
    #[must_use = "while the buffer is full, the record is not sent unless this is polled; see Producer::enqueue"]
    pub fn send(&self, mut record: Record) -> Delivery {
        let permits = match self.shared.measure(&record) {
            Ok(permits) => permits,
            Err(error) => return Delivery::failed(error),
        };
        if let Ok(room) = self.shared.room.try_acquire_many(permits) {
            return self.shared.accept(&mut record, room);
        }
        let shared = self.shared.clone();
        Delivery::waiting_for_room(async move { shared.accept_with_room(&mut record, permits).await?.await })
    }

    /// Sends a record, waiting first for room in the buffer. When it returns, the record has its place; the delivery
    /// gives the acknowledgement and need not be polled for the record to be sent.
    pub async fn enqueue(&self, mut record: Record) -> Result<Delivery> {
        let permits = self.shared.measure(&record)?;
        // Who never waits would never let others run.
        coop::consume_budget().await;
        match self.shared.room.try_acquire_many(permits) {
            Ok(room) => Ok(self.shared.accept(&mut record, room)),
            Err(_) => self.shared.accept_with_room(&mut record, permits).await,
        }
    }

    /// Sends what was accepted before this call without lingering, and waits until each record of it is acknowledged
    /// or has failed. Gives the first failure since the last flush, so that deliveries may be dropped.
    pub async fn flush(&self) -> Result<()> {
        self.shared.flush().await;
        match self.shared.failure().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Flushes and ends the producer. Nothing accepted is lost: it is acknowledged, or its delivery says why not.
    pub async fn close(self) -> Result<()> {
        let result = self.flush().await;
        self.shared.closed.send_replace(true);
        result
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
        self.shared.flush_marks();
    }
}

impl Shared {
    /// The record's bytes at most: permits of the buffer.
    fn measure(&self, record: &Record) -> Result<u32> {
        let bytes = record.encoded_bytes_max();
        let bytes_max = self
            .config
            .batch_bytes_max
            .max(crate::limits::RECORD_BYTES_MAX)
            .min(self.config.buffer_bytes_max);
        match u32::try_from(bytes) {
            Ok(permits) if bytes <= bytes_max => Ok(permits),
            _ => Err(Error::RecordTooLarge { bytes, bytes_max }),
        }
    }

    async fn accept_with_room(self: &Arc<Self>, record: &mut Record, permits: u32) -> Result<Delivery> {
        let room = self.room.acquire_many(permits).await.map_err(|_| Error::Closed)?;
        Ok(self.accept(record, room))
    }

    /// Gives a record its place, or lets it wait for one; then nothing is left in `record`.
    fn accept(self: &Arc<Self>, record: &mut Record, room: SemaphorePermit<'_>) -> Delivery {
        if *self.closed.borrow() {
            return Delivery::failed(Error::Closed);
        }
        record.timestamp.get_or_insert_with(clock::now_ms);
        let bytes = room.num_permits();
        let mut state = self.state();
        let State {
            topics,
            partitioner,
            senders,
        } = &mut *state;
        let resolving = match topics.get_mut(&record.topic) {
            Some(TopicState::Known(partitions)) => {
                return match self.place(partitions, partitioner.as_mut(), senders, record, bytes, None) {
                    Ok(placed) => {
                        room.forget();
                        Delivery::placed(placed)
                    }
                    Err(error) => Delivery::failed(error),
                };
            }
            Some(TopicState::Resolving(waiting, _)) => Some(waiting),
            None => None,
        };
        room.forget();
        let topic = record.topic.clone();
        let (reply, place) = oneshot::channel();
        let unplaced = Unplaced {
            record: std::mem::take(record),
            room: Room {
                buffer: self.room.clone(),
                bytes,
            },
            since: Instant::now(),
            reply,
        };
        match resolving {
            Some(waiting) => waiting.push_back(unplaced),
            None => {
                let waiting = TopicState::Resolving(VecDeque::from([unplaced]), watch::Sender::new(false));
                topics.insert(topic.clone(), waiting);
                tokio::spawn(self.clone().resolve(topic));
            }
        }
        Delivery::resolving(place)
    }

    /// Puts a record of a known topic into the queue of its partition, which its room then belongs to.
    fn place(
        self: &Arc<Self>,
        partitions: &mut Partitions,
        partitioner: &mut dyn Partitioner,
        senders: &mut usize,
        record: &Record,
        bytes: usize,
        since: Option<Instant>,
    ) -> Result<Placed> {
        let topic = &partitions.topic;
        let is_free = record.partition.is_none() && record.key.is_none();
        let partition = record
            .partition
            .unwrap_or_else(|| partitioner.partition(record, partitions.count));
        if !(0..partitions.count).contains(&partition) {
            let reason = format!("{topic} has no partition {partition}, it has {}", partitions.count);
            return Err(Error::InvalidArgument(reason));
        }
        let queue = partitions.queues.entry(partition).or_insert_with(|| {
            let queue = Arc::new(Queue::new(topic.clone(), partition, self.room.clone()));
            let slot = *senders % PRODUCE_STREAMS_MAX;
            *senders += 1;
            sender::spawn(self.clone(), queue.clone(), topic.to_string(), partition, slot);
            queue
        });
        let (pushed, placed) = queue.push(record, bytes, since, self.config.batch_bytes_max);
        if pushed == Pushed::IntoNext && is_free {
            partitioner.batch_full(topic, partition);
        }
        Ok(placed)
    }

    /// Asks for a topic's partitions and distributes the records that wait for them.
    async fn resolve(self: Arc<Self>, topic: String) {
        let create = match self.config.allow_auto_topic_creation {
            true => AutoCreate::Allowed,
            false => AutoCreate::Denied,
        };
        let within = self.config.delivery_timeout;
        let found = tokio::time::timeout(within, self.client.topic(&topic, create)).await;
        let found = found.unwrap_or_else(|_| {
            let what = format!("finding topic {topic}");
            Err(Error::timed_out(what, within, crate::error::Reach::NotSent))
        });
        let mut state = self.state();
        let Some(TopicState::Resolving(waiting, distributed)) = state.topics.remove(&topic) else {
            return;
        };
        match found {
            Ok(found) => self.distribute(&mut state, &found, waiting),
            Err(error) => {
                self.note_failure(&error);
                for unplaced in waiting {
                    // Whoever dropped the delivery does not want to know.
                    let _ = unplaced.reply.send(Err(error.clone()));
                }
            }
        }
        distributed.send_replace(true);
    }

    fn distribute(self: &Arc<Self>, state: &mut State, found: &Topic, waiting: VecDeque<Unplaced>) {
        let mut partitions = Partitions {
            topic: found.name.as_str().into(),
            count: found.partition_count(),
            queues: BTreeMap::new(),
        };
        let (partitioner, senders) = (state.partitioner.as_mut(), &mut state.senders);
        for unplaced in waiting {
            let (record, bytes, since) = (&unplaced.record, unplaced.room.bytes, Some(unplaced.since));
            let placed = self.place(&mut partitions, partitioner, senders, record, bytes, since);
            if placed.is_ok() {
                unplaced.room.forget();
            }
            let _ = unplaced.reply.send(placed);
        }
        state.topics.insert(found.name.clone(), TopicState::Known(partitions));
    }

    /// A later look at the topic showed this many partitions: fewer, if it was deleted and created again.
    fn partitions_are(&self, topic: &str, count: i32) {
        if let Some(TopicState::Known(partitions)) = self.state().topics.get_mut(topic) {
            partitions.count = count;
        }
    }

    async fn flush(&self) {
        let resolving: Vec<_> = self
            .state()
            .topics
            .values()
            .filter_map(TopicState::distributed)
            .collect();
        for mut distributed in resolving {
            // An error means that the topic is gone from the map, its records answered.
            let _ = distributed.wait_for(|distributed| *distributed).await;
        }
        for (queue, mark) in self.flush_marks() {
            queue.settled(mark).await;
        }
    }

    /// Tells every sender to send now, and gives what to wait for.
    fn flush_marks(&self) -> Vec<(Arc<Queue>, u64)> {
        let state = self.state();
        let known = state.topics.values().filter_map(TopicState::known);
        known
            .flat_map(|partitions| partitions.queues.values())
            .map(|queue| (queue.clone(), queue.flush()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while records are accepted")
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().expect("no panic while a failure is noted")
    }

    fn note_failure(&self, error: &Error) {
        self.failure().get_or_insert_with(|| error.clone());
    }
}

impl TopicState {
    fn distributed(&self) -> Option<watch::Receiver<bool>> {
        match self {
            TopicState::Resolving(_, distributed) => Some(distributed.subscribe()),
            TopicState::Known(_) => None,
        }
    }

    fn known(&self) -> Option<&Partitions> {
        match self {
            TopicState::Known(partitions) => Some(partitions),
            TopicState::Resolving(..) => None,
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}
