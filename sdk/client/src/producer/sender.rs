//! The task of one partition: sends its batches in order, and again when it must.
//!
//! ```text
//! queue ──> launch ──> in flight (at most in_flight_max, answers in order) ──> settled
//!             ^                          │ the first one fails and may be repeated
//!             └──── again <── drain ─────┘
//! ```
//!
//! With idempotence a batch keeps its sequence however often it is sent, so the broker recognises it. When the first
//! batch in flight fails, the answers of all others are awaited before anything is sent again, so the order is kept.
//! The identity (producer id) is given up, and the waiting batches numbered anew under another, in two cases only, in both
//! of which none of them can be in the log: the broker refused an earlier batch for good, or it says that sequences are
//! out of order and no batch before this one is unanswered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::api::ApiKey;
use tidemill_protocol::api::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::records::Records;
use tokio::time::Instant;

use super::delivery::Stored;
use super::encode::{self, Identity};
use super::queue::{Batch, Next, Queue};
use super::{Acks, Shared};
use crate::backoff::Backoff;
use crate::client::AutoCreate;
use crate::error::{Error, Reach, Result, check};
use crate::net::stream::{Answer, Answered, Outgoing, Stream};
use crate::net::wire::{self, Asked};

/// Starts the sender of a partition. It ends when the producer is closed and nothing is left to send.
pub(super) fn spawn(shared: Arc<Shared>, queue: Arc<Queue>, topic: String, partition: i32, slot: usize) {
    let backoff = Backoff::new(shared.client.network.backoff);
    let sender = Sender {
        shared,
        queue,
        topic,
        partition,
        slot,
        identity: None,
        next_sequence: 0,
        gave_up_identity: false,
        again: VecDeque::new(),
        in_flight: VecDeque::new(),
        backoff,
        trouble: None,
    };
    tokio::spawn(sender.run());
}

struct Sender {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    topic: String,
    partition: i32,
    /// Which of the connection's produce streams this partition uses.
    slot: usize,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Whether this partition has left the identity that the producer began with.
    gave_up_identity: bool,
    /// Batches to send before those of the queue.
    again: VecDeque<Batch>,
    in_flight: VecDeque<InFlight>,
    backoff: Backoff,
    /// Why it last had to send again: the error of those that it gives up in the end says so.
    trouble: Option<String>,
}

struct InFlight {
    batch: Batch,
    stream: Stream,
    asked: Asked,
    answer: Answer,
    deadline: Instant,
}

/// What there is to do next.
enum Turn {
    Launch(Batch),
    Answered(Result<ProduceResponse>),
    Look,
    Done,
}

impl Sender {
    async fn run(mut self) {
        loop {
            self.expire();
            self.settle();
            match self.turn().await {
                Turn::Launch(batch) => self.launch(batch).await,
                Turn::Answered(result) => self.answered(result).await,
                Turn::Look => {}
                Turn::Done => return,
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let config = &self.shared.config;
        let has_room = self.in_flight.len() < config.in_flight_max;
        let mut look_at = None;
        if has_room {
            if let Some(batch) = self.again.pop_front() {
                return Turn::Launch(batch);
            }
            match self.queue.next(Instant::now(), config.linger, config.batch_bytes_max) {
                Next::Ready(batch) => return Turn::Launch(batch),
                Next::At(due) => look_at = Some(due),
                Next::Empty if self.in_flight.is_empty() && *self.shared.closed.borrow() => return Turn::Done,
                Next::Empty => {}
            }
        }
        let mut closed = self.shared.closed.subscribe();
        let was_closed = *closed.borrow_and_update();
        let look = async {
            match look_at {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let first = async {
            match self.in_flight.front_mut() {
                Some(first) => first.answered().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = first => Turn::Answered(result),
            () = self.queue.wake.notified(), if has_room => Turn::Look,
            () = look => Turn::Look,
            _ = closed.changed(), if !was_closed => Turn::Look,
        }
    }

    /// Writes a batch to the stream, behind those in flight.
    async fn launch(&mut self, mut batch: Batch) {
        match self.try_launch(&mut batch).await {
            Ok((stream, asked, answer)) => {
                batch.attempts += 1;
                let deadline = Instant::now() + self.shared.client.network.request_timeout;
                self.in_flight.push_back(InFlight {
                    batch,
                    stream,
                    asked,
                    answer,
                    deadline,
                });
            }
            Err(error) if error.is_retriable() => {
                self.again.push_front(batch);
                self.drain().await;
                self.back_off(&error).await;
            }
            Err(error) => self.give_up(batch, &error).await,
        }
    }

    async fn try_launch(&mut self, batch: &mut Batch) -> Result<(Stream, Asked, Answer)> {
        let create = match self.shared.config.allow_auto_topic_creation {
            true => AutoCreate::Allowed,
            false => AutoCreate::Denied,
        };
        let client = self.shared.client.clone();
        let topic = client.topic(&self.topic, create).await?;
        self.shared.partitions_are(&self.topic, topic.partition_count());
        let connection = client.leader(&topic, self.partition)?.connection().await?;
        let stream = connection
            .produce_stream(self.slot, client.network.request_timeout)
            .await?;
        if let Some(before) = self.in_flight.back()
            && !before.stream.is_same(&stream)
        {
            // Two streams have no order between them.
            return Err(Error::disconnected("the stream changed", Reach::NotSent));
        }
        let records = self.encoded(batch).await?;
        let timeout_ms = i32::try_from(client.network.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest {
            acks: self.shared.config.acks.wire(),
            timeout_ms,
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![PartitionProduceData {
                    index: self.partition,
                    records: Some(records),
                }],
            }],
            ..Default::default()
        };
        let version = connection.versions.choose(ApiKey::Produce)?;
        let (frame, asked) = wire::request_frame(request, version, &client.network.client_id)?;
        let answered = if self.shared.config.acks == Acks::None {
            Answered::No
        } else {
            Answered::Yes
        };
        let answer = stream.send(Outgoing {
            api: ApiKey::Produce,
            frame,
            answered,
        })?;
        Ok((stream, asked, answer))
    }

    /// The batch's bytes: those of its first attempt, if it had one under this identity.
    async fn encoded(&mut self, batch: &mut Batch) -> Result<Records> {
        if let Some(sealed) = batch.sealed() {
            return Ok(Records::from(sealed));
        }
        let sequence = match self.shared.config.idempotence {
            false => None,
            true => Some((self.identity().await?, self.next_sequence)),
        };
        let sealed = batch.seal(sequence, self.shared.config.compression)?;
        if sequence.is_some() {
            self.next_sequence = encode::sequence_after(self.next_sequence, batch.count());
        }
        Ok(Records::from(sealed))
    }

    async fn identity(&mut self) -> Result<Identity> {
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let identity = match self.gave_up_identity {
            true => Identity::ask(&self.shared.client).await?,
            false => {
                let mut shared = self.shared.identity.lock().await;
                match *shared {
                    Some(identity) => identity,
                    None => *shared.insert(Identity::ask(&self.shared.client).await?),
                }
            }
        };
        self.next_sequence = 0;
        Ok(*self.identity.insert(identity))
    }

    /// Deals with the answer to the first batch in flight.
    async fn answered(&mut self, result: Result<ProduceResponse>) {
        let Some(InFlight { batch, .. }) = self.in_flight.pop_front() else {
            return;
        };
        match outcome(result, &self.topic, self.partition) {
            Ok(stored) => {
                self.backoff.reset();
                self.trouble = None;
                self.stored(batch, stored);
            }
            Err(error) => self.failed(batch, error).await,
        }
    }

    async fn failed(&mut self, batch: Batch, error: Error) {
        let lost_track = error.code().is_some_and(is_sequence_error) && self.shared.config.idempotence;
        let may_repeat = error.is_retriable() || lost_track;
        if !may_repeat || self.shared.config.acks == Acks::None || self.shared.config.retries_max < batch.attempts {
            return self.give_up(batch, &error).await;
        }
        self.again.push_front(batch);
        self.drain().await;
        if lost_track {
            self.renumber();
        }
        self.shared.client.forget_topic(&self.topic);
        self.back_off(&error).await;
    }

    /// Fails a batch for good. Those in flight behind it have sequences that now cannot fit.
    async fn give_up(&mut self, batch: Batch, error: &Error) {
        let had_sequence = self.shared.config.idempotence && batch.is_sealed();
        self.fail(batch, error);
        if had_sequence && error.has_no_side_effects() {
            self.drain().await;
            self.renumber();
        }
    }

    /// Awaits the answers of everything in flight; what is not stored goes before the queue, in order.
    async fn drain(&mut self) {
        let mut unanswered = VecDeque::new();
        while let Some(mut next) = self.in_flight.pop_front() {
            let result = next.answered().await;
            match outcome(result, &self.topic, self.partition) {
                Ok(stored) => self.stored(next.batch, stored),
                Err(error) if self.shared.config.acks == Acks::None => self.fail(next.batch, &error),
                Err(_) => unanswered.push_back(next.batch),
            }
        }
        // What waited to be sent again was before everything that was in flight, or is behind it by its count.
        self.again.append(&mut unanswered);
        self.again.make_contiguous().sort_by_key(|batch| batch.start);
    }

    /// Leaves the identity: whatever waits to be sent again is numbered from 0 under the next.
    fn renumber(&mut self) {
        tracing::debug!(topic = %self.topic, partition = self.partition, "numbering batches anew");
        self.identity = None;
        self.gave_up_identity = true;
        for batch in &mut self.again {
            batch.unnumber();
        }
    }

    async fn back_off(&mut self, error: &Error) {
        let wait = self.backoff.next_wait(&self.shared.client.network.random);
        tracing::debug!(topic = %self.topic, partition = self.partition, %error, ?wait, "sending again");
        self.trouble = Some(error.to_string());
        tokio::time::sleep(wait).await;
    }

    /// Fails what took longer than the delivery timeout and is not in flight.
    fn expire(&mut self) {
        let within = self.shared.config.delivery_timeout;
        let Some(oldest) = Instant::now().checked_sub(within) else {
            return;
        };
        while let Some(batch) = self.again.pop_front_if(|batch| batch.since < oldest) {
            // With a sequence it may be in the log. Then the next batch fits; if not, the broker says so.
            let reach = if batch.attempts == 0 {
                Reach::NotSent
            } else {
                Reach::Unknown
            };
            self.fail(batch, &self.timed_out(within, reach));
        }
        if self.again.is_empty() {
            for batch in self.queue.take_expired(oldest) {
                self.fail(batch, &self.timed_out(within, Reach::NotSent));
            }
        }
    }

    fn timed_out(&self, within: Duration, reach: Reach) -> Error {
        let trouble = self
            .trouble
            .as_ref()
            .map(|trouble| format!(" (last trouble: {trouble})"));
        let what = format!(
            "delivery to {}-{}{}",
            self.topic,
            self.partition,
            trouble.unwrap_or_default()
        );
        Error::timed_out(what, within, reach)
    }

    fn fail(&self, batch: Batch, error: &Error) {
        tracing::debug!(topic = %self.topic, partition = self.partition, %error, records = batch.count(), "failed");
        self.shared.note_failure(error);
        batch.fail(error);
    }

    fn stored(&self, batch: Batch, stored: Stored) {
        batch.succeed(stored);
    }

    /// Tells flushes how far everything is acknowledged or failed.
    fn settle(&self) {
        let first = self
            .again
            .iter()
            .chain(self.in_flight.iter().map(|flight| &flight.batch))
            .map(|batch| batch.start);
        self.queue.settle(first.min().unwrap_or_else(|| self.queue.start()));
    }
}

impl InFlight {
    /// Its answer. Silence beyond the request timeout gives up the stream and with it everything behind. Cancel-safe.
    async fn answered(&mut self) -> Result<ProduceResponse> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(Ok(frame))) if frame.is_empty() => Ok(ProduceResponse::default()),
            Ok(Ok(Ok(frame))) => wire::decode_response::<ProduceRequest>(self.asked, frame),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(Error::disconnected("the stream was closed", Reach::Unknown)),
            Err(_) => {
                self.stream.abandon("a produce request timed out");
                Err(Error::disconnected("a produce request timed out", Reach::Unknown))
            }
        }
    }
}

/// What a response says of the one batch that was asked for.
fn outcome(result: Result<ProduceResponse>, topic: &str, partition: i32) -> Result<Stored> {
    let response = result?;
    let of_topic = response.responses.into_iter().find(|answer| answer.name == topic);
    let answers = of_topic.map(|answer| answer.partition_responses).unwrap_or_default();
    let Some(answer) = answers.into_iter().find(|answer| answer.index == partition) else {
        // Without acknowledgements there is nothing to know.
        return Ok(Stored {
            base_offset: None,
            append_time: None,
        });
    };
    match answer.error_code {
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Ok(Stored {
            base_offset: None,
            append_time: None,
        }),
        code => {
            check(code, message_of(&answer).as_deref(), || format!("{topic}-{partition}"))?;
            let known = |value: i64| Some(value).filter(|value| 0 <= *value);
            Ok(Stored {
                base_offset: known(answer.base_offset),
                append_time: known(answer.log_append_time_ms),
            })
        }
    }
}

fn message_of(answer: &PartitionProduceResponse) -> Option<String> {
    let of_record = answer.record_errors.iter().find_map(|error| {
        let message = error.batch_index_error_message.as_ref()?;
        Some(format!("record {} of the batch: {message}", error.batch_index))
    });
    of_record.or_else(|| answer.error_message.clone())
}

/// The broker and this sender disagree about where the sequence is.
fn is_sequence_error(code: ErrorCode) -> bool {
    [
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::INVALID_PRODUCER_ID_MAPPING,
    ]
    .contains(&code)
}
