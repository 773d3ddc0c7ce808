//! The records of one partition that wait to be sent, collected into batches.
//!
//! ```text
//!  push ──> [ batch | batch | open batch ] ──> take_ready
//!            full     full    by linger, flush or close
//! ```
//!
//! Records are counted from the partition's first: a batch covers `start..end` of that count, and everything below the
//! `settled` mark is acknowledged or failed. A flush waits for the mark to reach the count it saw.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::record::{Record, RecordMetadata};

/// Records of one batch at most, so that offsets and sequences within it stay small.
const BATCH_RECORDS_MAX: usize = 1 << 20;

/// A record accepted by `send`.
pub(crate) struct Queued {
    pub(crate) record: Record,
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    /// Its share of the buffer, given back when it is acknowledged or failed.
    pub(crate) room: OwnedSemaphorePermit,
    pub(crate) reply: oneshot::Sender<Result<RecordMetadata>>,
}

/// Records that are sent, acknowledged and failed together.
pub(crate) struct Batch {
    pub(crate) start: u64,
    pub(crate) since: Instant,
    pub(crate) bytes: usize,
    pub(crate) records: Vec<Record>,
    /// How often it was written to a stream.
    pub(crate) attempts: u32,
    /// Its bytes and sequence, once encoded under the sender's current identity.
    pub(crate) encoded: Option<super::encode::Encoded>,
    replies: Vec<oneshot::Sender<Result<RecordMetadata>>>,
    room: OwnedSemaphorePermit,
}

impl Batch {
    fn open(start: u64, first: Queued) -> Batch {
        Batch {
            start,
            since: first.since,
            bytes: first.bytes,
            records: vec![first.record],
            attempts: 0,
            encoded: None,
            replies: vec![first.reply],
            room: first.room,
        }
    }

    fn fits(&self, queued: &Queued, batch_bytes_max: usize) -> bool {
        self.bytes + queued.bytes <= batch_bytes_max && self.records.len() < BATCH_RECORDS_MAX
    }

    fn push(&mut self, queued: Queued) {
        self.bytes += queued.bytes;
        self.records.push(queued.record);
        self.replies.push(queued.reply);
        self.room.merge(queued.room);
    }

    /// Tells each record where it is: at `base_offset` and on, when that is known.
    pub(crate) fn succeed(self, partition: i32, base_offset: Option<i64>, append_time: Option<i64>) {
        for ((record, reply), index) in self.records.into_iter().zip(self.replies).zip(0..) {
            let metadata = RecordMetadata {
                topic: record.topic,
                partition,
                offset: base_offset.map(|base| base + index),
                timestamp: append_time.or(record.timestamp).unwrap_or(-1),
            };
            // Whoever dropped the delivery does not want to know.
            let _ = reply.send(Ok(metadata));
        }
    }

    /// Fails each record alike.
    pub(crate) fn fail(self, error: &Error) {
        for reply in self.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// Where a push went, for a sticky partitioner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Into the batch that was open.
    IntoOpen,
    /// Into a new batch, because the open one was full.
    IntoNext,
}

/// See the module.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Wakes the sender: a batch began or filled up, or a flush or close wants it.
    pub(crate) wake: Notify,
    settled: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Records ever pushed.
    end: u64,
    /// Batches that start below this are wanted now.
    flush_below: u64,
}

/// What the sender finds when it looks for work.
pub(crate) enum Next {
    /// Send this.
    Ready(Batch),
    /// There is something, to be sent at this time at the latest.
    At(Instant),
    /// Nothing.
    Empty,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            state: Mutex::default(),
            wake: Notify::new(),
            settled: watch::Sender::new(0),
        }
    }

    pub(crate) fn push(&self, queued: Queued, batch_bytes_max: usize) -> Pushed {
        let mut state = self.lock();
        let start = state.end;
        state.end += 1;
        let (pushed, wake) = match state.batches.back_mut() {
            Some(open) if open.fits(&queued, batch_bytes_max) => {
                open.push(queued);
                (Pushed::IntoOpen, batch_bytes_max <= open.bytes)
            }
            Some(_) => {
                state.batches.push_back(Batch::open(start, queued));
                (Pushed::IntoNext, true)
            }
            None => {
                state.batches.push_back(Batch::open(start, queued));
                (Pushed::IntoOpen, true)
            }
        };
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        pushed
    }

    /// The next batch if it is full, has lingered, or is wanted by a flush.
    pub(crate) fn next(&self, now: Instant, linger: Duration, batch_bytes_max: usize) -> Next {
        let mut state = self.lock();
        let Some(front) = state.batches.front() else {
            return Next::Empty;
        };
        let due = front.since + linger;
        let is_ready =
            1 < state.batches.len() || due <= now || front.start < state.flush_below || batch_bytes_max <= front.bytes;
        match is_ready {
            true => state.batches.pop_front().map_or(Next::Empty, Next::Ready),
            false => Next::At(due),
        }
    }

    /// Batches that have waited since before `oldest`.
    pub(crate) fn take_expired(&self, oldest: Instant) -> Vec<Batch> {
        let mut state = self.lock();
        let expired = state.batches.iter().take_while(|batch| batch.since < oldest).count();
        state.batches.drain(..expired).collect()
    }

    /// Wants everything pushed so far to be sent at once; returns the count to wait for.
    pub(crate) fn flush(&self) -> u64 {
        let mut state = self.lock();
        state.flush_below = state.end;
        let end = state.end;
        drop(state);
        self.wake.notify_one();
        end
    }

    /// Count of the first record that waits here; of the next, if none does.
    pub(crate) fn start(&self) -> u64 {
        let state = self.lock();
        state.batches.front().map_or(state.end, |batch| batch.start)
    }

    /// Everything below `mark` is acknowledged or failed.
    pub(crate) fn settle(&self, mark: u64) {
        self.settled.send_if_modified(|settled| {
            let moved = *settled < mark;
            *settled = (*settled).max(mark);
            moved
        });
    }

    pub(crate) async fn settled(&self, mark: u64) {
        // It cannot fail: the sender is this value's own.
        let _ = self.settled.subscribe().wait_for(|settled| mark <= *settled).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while records are queued")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use tokio::sync::Semaphore;

    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    /// Shares of one batch come from one buffer.
    static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1 << 20)));

    fn queued(bytes: usize, since: Instant) -> (Queued, oneshot::Receiver<Result<RecordMetadata>>) {
        let room = ROOM.clone().try_acquire_many_owned(1).expect("the buffer has room");
        let (reply, delivery) = oneshot::channel();
        (
            Queued {
                record: Record::to("t"),
                bytes,
                since,
                room,
                reply,
            },
            delivery,
        )
    }

    fn push(queue: &Queue, bytes: usize, since: Instant) -> Pushed {
        queue.push(queued(bytes, since).0, 1000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_ready_when_it_is_full_or_has_lingered() {
        let queue = Queue::new();
        let start = Instant::now();
        assert_eq!(push(&queue, 600, start), Pushed::IntoOpen);
        assert!(matches!(queue.next(start, LINGER, 1000), Next::At(due) if due == start + LINGER));
        assert_eq!(push(&queue, 600, start), Pushed::IntoNext);
        assert!(matches!(queue.next(start, LINGER, 1000), Next::Ready(batch) if batch.start == 0));
        assert!(matches!(queue.next(start, LINGER, 1000), Next::At(_)));
        assert!(matches!(queue.next(start + LINGER, LINGER, 1000), Next::Ready(batch) if batch.start == 1));
        assert!(matches!(queue.next(start, LINGER, 1000), Next::Empty));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_wants_what_was_pushed_before_it() {
        let queue = Queue::new();
        let now = Instant::now();
        push(&queue, 10, now);
        push(&queue, 10, now);
        assert_eq!(queue.flush(), 2);
        assert!(matches!(queue.next(now, LINGER, 1000), Next::Ready(batch) if batch.records.len() == 2));
        push(&queue, 10, now);
        assert!(matches!(queue.next(now, LINGER, 1000), Next::At(_)));
        assert_eq!(queue.start(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_gives_each_record_its_offset() {
        let queue = Queue::new();
        let now = Instant::now();
        let (first, first_delivery) = queued(10, now);
        let (second, second_delivery) = queued(10, now);
        queue.push(first, 1000);
        queue.push(second, 1000);
        queue.flush();
        let Next::Ready(batch) = queue.next(now, LINGER, 1000) else {
            panic!("flushed and not ready")
        };
        batch.succeed(3, Some(40), None);
        let offset = |delivery: Result<RecordMetadata>| delivery.expect("it was acknowledged").offset;
        assert_eq!(offset(first_delivery.await.expect("answered")), Some(40));
        assert_eq!(offset(second_delivery.await.expect("answered")), Some(41));
    }
}
