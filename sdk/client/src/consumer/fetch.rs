//! Fills a consumer's partitions: finds positions, and keeps records ready, one long poll per broker on its own stream.
//!
//! A fetch asks for every readable partition of a broker, beginning with another one each time, and is not made while
//! one of them still has plenty ready: a poll that waits for quiet partitions would otherwise hold up a busy one. When
//! positions or partitions change, the poll under way is given up with its stream; a stream costs no round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidemill_protocol::api::ApiKey;
use tidemill_protocol::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use tidemill_protocol::batch::{HEADER_BYTES, Header};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::ids::TopicId;
use tidemill_protocol::records::Records;
use tokio::time::Instant;

use super::Shared;
use super::locate;
use super::state::{Locate, Part};
use crate::backoff::Backoff;
use crate::client::AutoCreate;
use crate::error::{Error, Reach, Result};
use crate::metadata::Topic;
use crate::net::broker::Broker;
use crate::net::stream::{Answered, Outgoing, Stream};
use crate::net::wire;
use crate::record::TopicPartition;

/// How long a partition rests after an error that may pass.
const REST: Duration = Duration::from_millis(200);

/// What is asked of one broker.
struct Plan {
    broker: Arc<Broker>,
    wanted: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    place: TopicPartition,
    topic_id: TopicId,
    leader_epoch: i32,
    epoch: u64,
    from: i64,
}

/// A poll that ended.
struct Polled {
    address: String,
    wanted: Vec<Wanted>,
    result: Result<FetchResponse>,
    /// To be used again.
    stream: Option<Stream>,
}

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut fetcher = Fetcher {
        backoff: Backoff::new(shared.client.network.backoff),
        shared,
        polls: FuturesUnordered::new(),
        polling: BTreeSet::new(),
        streams: BTreeMap::new(),
        generation: 0,
        turn: 0,
    };
    while !fetcher.shared.state().is_closed {
        match fetcher.step().await {
            Ok(()) => {}
            Err(error) if error.is_retriable() => fetcher.rest(&error).await,
            Err(error) => {
                fetcher.shared.report(error.clone());
                fetcher.rest(&error).await;
            }
        }
    }
}

struct Fetcher {
    shared: Arc<Shared>,
    polls: FuturesUnordered<BoxFuture<'static, Polled>>,
    /// Addresses of brokers with a poll under way.
    polling: BTreeSet<String>,
    /// Streams between two polls.
    streams: BTreeMap<String, Stream>,
    /// Of positions and partitions, when the polls under way were planned.
    generation: u64,
    turn: usize,
    backoff: Backoff,
}

impl Fetcher {
    /// Starts what can be started, then waits until a poll ends or something changes.
    async fn step(&mut self) -> Result<()> {
        let generation = self.shared.generation();
        if generation != self.generation {
            self.generation = generation;
            // Dropping a poll gives up its stream.
            self.polls.clear();
            self.polling.clear();
        }
        locate::run(&self.shared).await?;
        let (plans, look_at) = self.plan().await?;
        for plan in plans {
            self.polling.insert(plan.broker.address.clone());
            let stream = self.streams.remove(&plan.broker.address);
            self.polls.push(Box::pin(poll(self.shared.clone(), plan, stream)));
        }
        let polled = tokio::select! {
            Some(polled) = self.polls.next() => polled,
            () = self.shared.fetch_wake.notified() => return Ok(()),
            () = sleep_until(look_at) => return Ok(()),
        };
        self.polling.remove(&polled.address);
        if let Some(stream) = polled.stream {
            self.streams.insert(polled.address, stream);
        }
        match polled.result {
            Ok(response) => {
                self.backoff.reset();
                self.shared.take_fetched(&polled.wanted, response);
                Ok(())
            }
            Err(error) => {
                // Perhaps the leader is another now.
                for wanted in &polled.wanted {
                    self.shared.client.forget_topic(&wanted.place.topic);
                }
                Err(error)
            }
        }
    }

    /// What to ask of the brokers that are not being asked, and when to look again.
    async fn plan(&mut self) -> Result<(Vec<Plan>, Option<Instant>)> {
        let enough = usize::try_from(self.shared.config.partition_fetch_bytes_max).unwrap_or(usize::MAX);
        let now = Instant::now();
        let mut look_at = None;
        let mut readable = Vec::new();
        for (place, part) in &self.shared.state().parts {
            match part.not_before {
                Some(not_before) if now < not_before => {
                    look_at = Some(look_at.map_or(not_before, |at: Instant| at.min(not_before)));
                }
                _ if part.is_fetchable() => readable.push((wanted(place, part), part.fetched_bytes < enough)),
                _ => {}
            }
        }
        let mut plans: BTreeMap<String, (Plan, bool)> = BTreeMap::new();
        for (mut wanted, has_room) in readable {
            let Some((topic, broker)) = self.shared.find(&wanted.place).await else {
                continue;
            };
            if topic.id != wanted.topic_id {
                self.shared.topic_is_another(&wanted.place, topic.id);
                continue;
            }
            let index = usize::try_from(wanted.place.partition).unwrap_or(usize::MAX);
            wanted.leader_epoch = topic
                .partitions
                .get(index)
                .map_or(-1, |partition| partition.leader_epoch);
            let plan = || {
                (
                    Plan {
                        broker: broker.clone(),
                        wanted: Vec::new(),
                    },
                    true,
                )
            };
            let (plan, all_have_room) = plans.entry(broker.address.clone()).or_insert_with(plan);
            plan.wanted.push(wanted);
            *all_have_room &= has_room;
        }
        let startable = plans
            .into_values()
            .filter(|(plan, all_have_room)| *all_have_room && !self.polling.contains(&plan.broker.address));
        let mut startable: Vec<Plan> = startable.map(|(plan, _)| plan).collect();
        self.turn = self.turn.wrapping_add(1);
        for plan in &mut startable {
            let turn = self.turn % plan.wanted.len();
            plan.wanted.rotate_left(turn);
        }
        Ok((startable, look_at))
    }

    async fn rest(&mut self, error: &Error) {
        let wait = self.backoff.next_wait(&self.shared.client.network.random);
        tracing::debug!(%error, ?wait, "fetching again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.closed() => {}
        }
    }
}

fn wanted(place: &TopicPartition, part: &Part) -> Wanted {
    Wanted {
        place: place.clone(),
        topic_id: part.topic_id,
        leader_epoch: -1,
        epoch: part.epoch,
        from: part.fetch_from,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Gives up a stream on which an answer is still to come.
struct Polling(Option<Stream>);

impl Drop for Polling {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            stream.abandon("the consumer reads elsewhere");
        }
    }
}

async fn poll(shared: Arc<Shared>, plan: Plan, stream: Option<Stream>) -> Polled {
    let Plan { broker, wanted } = plan;
    let asked = ask(&shared, &broker, &wanted, stream).await;
    let (result, stream) = match asked {
        Ok((response, stream)) => (Ok(response), Some(stream)),
        Err(error) => (Err(error), None),
    };
    Polled {
        address: broker.address.clone(),
        wanted,
        result,
        stream,
    }
}

async fn ask(
    shared: &Shared,
    broker: &Arc<Broker>,
    wanted: &[Wanted],
    stream: Option<Stream>,
) -> Result<(FetchResponse, Stream)> {
    let network = &shared.client.network;
    let connection = broker.connection().await?;
    let stream = match stream {
        Some(stream) if !stream.is_broken() => stream,
        _ => connection.open_stream(network.request_timeout).await?,
    };
    let version = connection.versions.choose(ApiKey::Fetch)?;
    let (frame, asked) = wire::request_frame(request(shared, wanted), version, &network.client_id)?;
    let answer = stream.send(Outgoing {
        api: ApiKey::Fetch,
        frame,
        answered: Answered::Yes,
    })?;
    let mut polling = Polling(Some(stream));
    let within = network.request_timeout + shared.config.fetch_wait_max;
    let frame = match tokio::time::timeout(within, answer).await {
        Ok(Ok(answer)) => answer?,
        Ok(Err(_)) => return Err(Error::disconnected("the fetch stream was closed", Reach::Unknown)),
        Err(_) => return Err(Error::timed_out("a fetch", within, Reach::Unknown)),
    };
    let response = wire::decode_response::<FetchRequest>(asked, frame)?;
    let stream = polling.0.take().expect("it is taken only here");
    Ok((response, stream))
}

fn request(shared: &Shared, wanted: &[Wanted]) -> FetchRequest {
    let config = &shared.config;
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wanted in wanted {
        let partition = FetchPartition {
            partition: wanted.place.partition,
            current_leader_epoch: wanted.leader_epoch,
            fetch_offset: wanted.from,
            partition_max_bytes: config.partition_fetch_bytes_max,
            ..Default::default()
        };
        // Neighbours of one topic share its entry; the order of partitions stays as it is.
        match topics.last_mut() {
            Some(topic) if topic.topic == wanted.place.topic => topic.partitions.push(partition),
            _ => topics.push(FetchTopic {
                topic: wanted.place.topic.clone(),
                topic_id: wanted.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    FetchRequest {
        max_wait_ms: i32::try_from(config.fetch_wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_bytes_max,
        topics,
        ..Default::default()
    }
}

impl Shared {
    /// Takes over what a poll brought, where positions have not changed since.
    fn take_fetched(&self, wanted: &[Wanted], response: FetchResponse) {
        if !response.error_code.is_ok() {
            tracing::debug!(code = %response.error_code, "a fetch failed as a whole");
        }
        for topic in response.responses {
            for data in topic.partitions {
                let is_meant = |wanted: &&Wanted| {
                    wanted.place.partition == data.partition_index
                        && (wanted.place.topic == topic.topic
                            || wanted.topic_id == topic.topic_id && topic.topic.is_empty())
                };
                if let Some(wanted) = wanted.iter().find(is_meant) {
                    self.take_partition(wanted, data);
                }
            }
        }
        self.data_wake.notify_one();
    }

    fn take_partition(&self, wanted: &Wanted, data: PartitionData) {
        let mut state = self.state();
        let Some(part) = state.parts.get_mut(&wanted.place) else {
            return;
        };
        if part.epoch != wanted.epoch || part.fetch_from != wanted.from {
            return;
        }
        part.not_before = None;
        let error = match data.error_code {
            ErrorCode::NONE => match take_records(part, &data) {
                Ok(()) => return,
                Err(error) => error,
            },
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                tracing::debug!(place = %wanted.place, offset = wanted.from, "the position is out of range");
                part.relocate(Locate::Reset(self.config.auto_offset_reset));
                self.fetch_wake.notify_one();
                return;
            }
            code => Error::Broker {
                code,
                subject: wanted.place.to_string(),
                message: None,
            },
        };
        part.not_before = Some(Instant::now() + REST);
        if error.is_retriable() {
            tracing::debug!(place = %wanted.place, %error, "fetching again");
            drop(state);
            self.client.forget_topic(&wanted.place.topic);
        } else {
            part.locate = Locate::Never;
            state.errors.push_back(error);
        }
    }

    /// The topic and the leader of a partition; without them it rests, and the others are read.
    async fn find(&self, place: &TopicPartition) -> Option<(Arc<Topic>, Arc<Broker>)> {
        let client = &self.client;
        let found = match client.topic(&place.topic, AutoCreate::Denied).await {
            Ok(topic) => client.leader(&topic, place.partition).map(|broker| (topic, broker)),
            Err(error) => Err(error),
        };
        found.inspect_err(|error| self.rest_partition(place, error)).ok()
    }

    /// Leaves a partition alone for a while.
    pub(super) fn rest_partition(&self, place: &TopicPartition, error: &Error) {
        tracing::debug!(%place, %error, "cannot be read for now");
        self.client.forget_topic(&place.topic);
        if let Some(part) = self.state().parts.get_mut(place) {
            part.not_before = Some(Instant::now() + REST);
        }
    }

    /// The topic was deleted and created again: the position means nothing in the new one.
    fn topic_is_another(&self, place: &TopicPartition, id: TopicId) {
        if let Some(part) = self.state().parts.get_mut(place) {
            part.topic_id = id;
            part.relocate(Locate::Committed);
        }
        self.fetch_wake.notify_one();
    }
}

/// Keeps what was fetched, up to its last whole batch.
fn take_records(part: &mut Part, data: &PartitionData) -> Result<()> {
    part.high_watermark = Some(data.high_watermark);
    part.log_start = Some(data.log_start_offset).filter(|start| 0 <= *start);
    let Some(records) = data.records.as_ref().filter(|records| !records.is_empty()) else {
        return Ok(());
    };
    let (whole, next_offset) = whole_batches(&records.to_bytes())?;
    let Some(next_offset) = next_offset else { return Ok(()) };
    if next_offset <= part.fetch_from {
        return Err(Error::protocol(format_args!(
            "a fetch from {} ends at {next_offset}",
            part.fetch_from
        )));
    }
    part.fetch_from = next_offset;
    part.fetched_bytes += whole.len();
    part.fetched.push_back(Records::from(whole));
    Ok(())
}

/// The bytes of the batches that are whole, and the offset behind them. A broker may cut the last one short.
fn whole_batches(bytes: &Bytes) -> Result<(Bytes, Option<i64>)> {
    let (mut end, mut next_offset) = (0, None);
    while HEADER_BYTES <= bytes.len() - end {
        let header = Header::parse(&bytes[end..]).map_err(Error::protocol)?;
        let batch_end = end + header.batch_bytes();
        if bytes.len() < batch_end {
            break;
        }
        end = batch_end;
        next_offset = Some(header.next_offset());
    }
    Ok((bytes.slice(..end), next_offset))
}
