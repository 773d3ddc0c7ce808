//! The consumer: partitions from a group or by hand, read in turn, delivered in batches.
//!
//! ```text
//! group task ── partitions come and go ──┐
//! fetcher ── positions, long polls ──────┼── State ── next() ── application
//! auto-commit task ── what is processed ─┘
//! ```
//!
//! Guarantees: within a partition records come in order, each once per position, none skipped; partitions with records
//! take turns; a partition that goes to another member is first finished, called back and committed here; what is kept
//! ready is bounded by the fetch sizes. What a crash repeats or loses is decided by when offsets are committed: before
//! processing loses, after processing repeats.
//!
//! It reads uncommitted transactional records too, and knows nothing of classic groups: a member speaks KIP-848.

mod config;
mod decode;
mod fetch;
mod group;
mod handle;
mod listener;
mod locate;
mod state;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::Stream;
use tidemill_protocol::error_code::ErrorCode;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use self::config::{ConsumerConfig, OffsetReset};
pub use self::handle::ConsumerHandle;
pub use self::listener::{Callback, RebalanceListener};
use self::state::{Delivery, Locate, Part, State};
use crate::client::{AutoCreate, Inner};
use crate::error::{Error, Result, check};
use crate::offsets::Committer;
use crate::record::{ConsumerRecord, TopicPartition};

/// Records of one partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where they are from.
    pub partition: TopicPartition,
    /// At least one.
    pub records: Vec<ConsumerRecord>,
    /// Behind the last record there was when these were fetched.
    pub high_watermark: i64,
}

impl IntoIterator for Batch {
    type Item = ConsumerRecord;
    type IntoIter = std::vec::IntoIter<ConsumerRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

/// Reads records, as a member of a group or from partitions assigned by hand. What can be asked of it while it reads is
/// on its [`ConsumerHandle`], to which it dereferences.
///
/// Dropping it leaves the group without committing; [`Consumer::close`] commits first, if it commits by itself.
///
/// ```no_run
/// # async fn example(client: tidemill_client::Client) -> tidemill_client::Result<()> {
/// use tidemill_client::ConsumerConfig;
///
/// let mut consumer = client.consumer(ConsumerConfig { auto_commit: None, ..ConsumerConfig::group("billing") })?;
/// consumer.subscribe(["orders"])?;
/// for _ in 0..100 {
///     for record in consumer.next().await? {
///         println!("{} {:?}", record.offset, record.value);
///     }
///     consumer.commit().await?; // after processing: at least once
/// }
/// consumer.close().await
/// # }
/// ```
pub struct Consumer {
    handle: ConsumerHandle,
    leave: Option<mpsc::Sender<oneshot::Sender<Result<()>>>>,
}

/// What a consumer shares with its tasks and handles.
pub(crate) struct Shared {
    client: Arc<Inner>,
    config: ConsumerConfig,
    state: Mutex<State>,
    /// Topics subscribed to.
    subscription: Mutex<Vec<String>>,
    /// Changes when polls under way are no longer what is wanted.
    generation: AtomicU64,
    fetch_wake: Notify,
    data_wake: Notify,
    group_wake: Notify,
    /// Whether the application works on what `next` gave it.
    working: watch::Sender<bool>,
    closed: watch::Sender<bool>,
}

impl Consumer {
    pub(crate) fn start(client: Arc<Inner>, config: ConsumerConfig) -> Result<Consumer> {
        config.check()?;
        let shared = Arc::new(Shared {
            client,
            config,
            state: Mutex::default(),
            subscription: Mutex::default(),
            generation: AtomicU64::new(0),
            fetch_wake: Notify::new(),
            data_wake: Notify::new(),
            group_wake: Notify::new(),
            working: watch::Sender::new(false),
            closed: watch::Sender::new(false),
        });
        tokio::spawn(fetch::run(shared.clone()));
        if shared.config.group_id.is_some() && shared.config.auto_commit.is_some() {
            tokio::spawn(group::auto_commit(shared.clone()));
        }
        Ok(Consumer {
            handle: ConsumerHandle { shared },
            leave: None,
        })
    }

    /// Becomes a member of the configured group, to read these topics with its other members. A later call replaces the
    /// topics.
    pub fn subscribe<T: Into<String>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let shared = &self.handle.shared;
        if shared.config.group_id.is_none() {
            return Err(Error::config(
                "group_id",
                "needed to subscribe; without a group, assign partitions",
            ));
        }
        if self.leave.is_none() && !shared.state().parts.is_empty() {
            return Err(Error::InvalidArgument(
                "partitions are assigned by hand: a consumer does either".to_owned(),
            ));
        }
        *shared.topics() = topics.into_iter().map(Into::into).collect();
        shared.group_wake.notify_one();
        if self.leave.is_none() {
            let (leave, commands) = mpsc::channel(1);
            tokio::spawn(group::run(shared.clone(), commands));
            self.leave = Some(leave);
        }
        Ok(())
    }

    /// Reads these partitions, and no others, from what the group committed or by the reset policy. Partitions that were
    /// assigned before keep their positions.
    pub async fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<()> {
        if self.leave.is_some() {
            return Err(Error::InvalidArgument(
                "the group assigns partitions: a consumer does either".to_owned(),
            ));
        }
        let shared = &self.handle.shared;
        let mut wanted = Vec::new();
        for place in partitions {
            let topic = shared.client.topic(&place.topic, AutoCreate::Denied).await?;
            if !(0..topic.partition_count()).contains(&place.partition) {
                return Err(Error::InvalidArgument(format!("there is no partition {place}")));
            }
            wanted.push((place, topic.id));
        }
        let mut state = shared.state();
        state
            .parts
            .retain(|place, _| wanted.iter().any(|(wanted, _)| wanted == place));
        for (place, id) in wanted {
            state
                .parts
                .entry(place)
                .or_insert_with(|| Part::new(id, Delivery::Open, Locate::Committed));
        }
        drop(state);
        shared.partitions_changed();
        Ok(())
    }

    /// Reads all partitions of a topic: see [`Consumer::assign`].
    pub async fn assign_topic(&mut self, topic: &str) -> Result<()> {
        let found = self.handle.shared.client.topic(topic, AutoCreate::Denied).await?;
        self.assign(found.partitions.iter().map(|p| TopicPartition::new(topic, p.partition)))
            .await
    }

    /// The next records, from the partitions in turn. Waits until there are some. Calling it says that everything it
    /// gave before is processed. Dropping the future before it is ready loses nothing.
    ///
    /// Errors do not end the consumer: what can be repaired is repaired without an error, and what cannot stops the
    /// partition it names until it is sought anew.
    pub async fn next(&mut self) -> Result<Batch> {
        let shared = &self.handle.shared;
        shared.state().idle();
        shared.working.send_replace(false);
        // Who has records at hand waits for nothing: in a runtime of one thread the connection would stand still until all are read.
        tokio::task::yield_now().await;
        loop {
            let taken = {
                let mut state = shared.state();
                if state.is_closed {
                    return Err(Error::Closed);
                }
                if let Some(error) = state.errors.pop_front() {
                    return Err(error);
                }
                state.take()
            };
            let Some(taken) = taken else {
                shared.data_wake.notified().await;
                continue;
            };
            shared.fetch_wake.notify_one();
            if let Some(batch) = shared.decode(taken)? {
                return Ok(batch);
            }
        }
    }

    /// The batches as a stream, for as long as the consumer is borrowed.
    pub fn stream(&mut self) -> impl Stream<Item = Result<Batch>> + '_ {
        futures_util::stream::unfold(self, |consumer| async { Some((consumer.next().await, consumer)) })
    }

    /// Something to ask and to steer the consumer by from other tasks.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Ends the consumer: everything it gave counts as processed, is committed if it commits by itself, and its
    /// partitions go to the other members at once.
    pub async fn close(mut self) -> Result<()> {
        let shared = self.handle.shared.clone();
        shared.state().idle();
        shared.working.send_replace(false);
        let result = match self.leave.take() {
            Some(leave) => {
                let (reply, left) = oneshot::channel();
                match leave.send(reply).await {
                    Ok(()) => left.await.unwrap_or(Ok(())),
                    Err(_) => Ok(()),
                }
            }
            None if shared.config.auto_commit.is_some() => shared.commit_processed(None).await,
            None => Ok(()),
        };
        shared.close();
        result
    }
}

impl Deref for Consumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.shared.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while a consumer's state is held")
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Polls under way ask for what is no longer wanted, or not for all that is.
    fn partitions_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.fetch_wake.notify_one();
        self.data_wake.notify_one();
    }

    /// Tells the application.
    fn report(&self, error: Error) {
        self.state().errors.push_back(error);
        self.data_wake.notify_one();
    }

    fn close(&self) {
        self.state().is_closed = true;
        self.closed.send_replace(true);
        self.fetch_wake.notify_one();
        self.data_wake.notify_one();
    }

    async fn closed(&self) {
        // It cannot fail: the sender is this value's own.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Waits until the application is done with what `next` gave it.
    async fn idle(&self) {
        let _ = self.working.subscribe().wait_for(|working| !*working).await;
    }

    /// Who commits: the member, or the group without one where partitions are assigned by hand. Whoever subscribed and
    /// is no member, not yet or no longer, cannot: another may own the partitions.
    fn committer(&self) -> Result<Committer> {
        let group = self.config.group_id.clone();
        let group = group.ok_or_else(|| Error::config("group_id", "needed for committed offsets"))?;
        let member = self.state().member.clone();
        if member.is_none() && !self.topics().is_empty() {
            check(ErrorCode::UNKNOWN_MEMBER_ID, None, || format!("group {group}"))?;
        }
        let instance_id = self.config.group_instance_id.clone().filter(|_| member.is_some());
        Ok(Committer {
            group,
            member,
            instance_id,
        })
    }

    /// What is subscribed to.
    fn topics(&self) -> MutexGuard<'_, Vec<String>> {
        self.subscription.lock().expect("no panic while topics are set")
    }

    /// Decodes what was taken; none if it holds nothing for the application, or no longer counts.
    fn decode(&self, taken: state::Taken) -> Result<Option<Batch>> {
        let decoded = decode::decode(&taken, self.config.poll_records_max);
        let mut state = self.state();
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                if let Some(part) = state.parts.get_mut(&taken.place) {
                    part.locate = Locate::Never;
                }
                return Err(error);
            }
        };
        if !state.deliver(&taken, decoded.position, decoded.rest) || decoded.records.is_empty() {
            return Ok(None);
        }
        state.working_since = Some(Instant::now());
        drop(state);
        self.working.send_replace(true);
        Ok(Some(Batch {
            partition: taken.place,
            records: decoded.records,
            high_watermark: taken.high_watermark,
        }))
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("config", &self.handle.shared.config)
            .finish_non_exhaustive()
    }
}
