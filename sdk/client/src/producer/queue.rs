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
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::batch::{Builder, Codec};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;

use super::delivery::{Completion, Placed, Stored};
use super::encode::{self, Identity};
use crate::error::{Error, Result};
use crate::record::Record;

/// Records of one batch at most, so that offsets and sequences within it stay small.
const BATCH_RECORDS_MAX: usize = 1 << 20;

/// A share of the producer's buffer; free again when it is dropped.
pub(crate) struct Room {
    pub(crate) buffer: Arc<Semaphore>,
    pub(crate) bytes: usize,
}

impl Room {
    /// Somebody else gives it back.
    pub(crate) fn forget(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffer.add_permits(self.bytes);
    }
}

/// Records that are sent, acknowledged and failed together. They are encoded as they come: what is kept of a record is its bytes.
pub(crate) struct Batch {
    pub(crate) start: u64,
    pub(crate) since: Instant,
    /// How often it was written to a stream.
    pub(crate) attempts: u32,
    count: usize,
    content: Content,
    completion: Completion,
    /// As many bytes as its records were thought to take at most.
    room: Room,
}

/// A batch's bytes.
enum Content {
    /// Not sent yet; more may come.
    Open(Builder),
    /// As they were sent, and will be sent again.
    Sealed {
        bytes: Bytes,
        /// Whether its number still holds; a batch without one has none to lose.
        is_numbered: bool,
    },
}

impl Batch {
    /// Bytes so far, before compression.
    fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.size(),
            Content::Sealed { bytes, .. } => bytes.len(),
        }
    }

    fn fits(&self, bytes: usize, batch_bytes_max: usize) -> bool {
        self.size() + bytes <= batch_bytes_max && self.count < BATCH_RECORDS_MAX
    }

    fn push(&mut self, record: &Record, bytes: usize) -> Placed {
        let Content::Open(builder) = &mut self.content else {
            unreachable!("batches are sealed after they have left the queue");
        };
        encode::append(builder, record);
        let index = self.count;
        self.room.bytes += bytes;
        self.count += 1;
        self.completion.place(index, record.timestamp.unwrap_or(-1))
    }

    /// Records.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether it has bytes, and a number if it needs one.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.content, Content::Sealed { is_numbered: true, .. })
    }

    /// Its bytes, once it is sealed.
    pub(crate) fn sealed(&self) -> Option<Bytes> {
        match &self.content {
            Content::Sealed {
                bytes,
                is_numbered: true,
            } => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Ends it under this number, or gives it a new one.
    pub(crate) fn seal(&mut self, sequence: Option<(Identity, i32)>, codec: Codec) -> Result<Bytes> {
        let content = std::mem::replace(&mut self.content, Content::Open(Builder::new()));
        let bytes = match (content, sequence) {
            (Content::Open(builder), sequence) => encode::seal(builder, sequence, codec)?,
            (Content::Sealed { bytes, .. }, Some(sequence)) => encode::renumber(bytes, sequence)?,
            (Content::Sealed { bytes, .. }, None) => bytes,
        };
        self.content = Content::Sealed {
            bytes: bytes.clone(),
            is_numbered: true,
        };
        Ok(bytes)
    }

    /// Its number no longer holds.
    pub(crate) fn unnumber(&mut self) {
        if let Content::Sealed { is_numbered, .. } = &mut self.content {
            *is_numbered = false;
        }
    }

    /// Tells whoever waits for a record of it where they are.
    pub(crate) fn succeed(self, stored: Stored) {
        self.completion.tell(Ok(stored));
    }

    /// Fails each record alike.
    pub(crate) fn fail(self, error: &Error) {
        self.completion.tell(Err(error.clone()));
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
    topic: Arc<str>,
    partition: i32,
    buffer: Arc<Semaphore>,
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
    /// Bytes of the last batch that left: the next one gets as much room at once.
    expected: usize,
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
    pub(crate) fn new(topic: Arc<str>, partition: i32, buffer: Arc<Semaphore>) -> Queue {
        Queue {
            topic,
            partition,
            buffer,
            state: Mutex::default(),
            wake: Notify::new(),
            settled: watch::Sender::new(0),
        }
    }

    /// Gives a record its place; it is encoded there and then, into so many `bytes` at most. Its room in the buffer is the batch's now: the
    /// caller forgets it. `since` when it waits, if it waited for anything but its batch.
    pub(crate) fn push(
        &self,
        record: &Record,
        bytes: usize,
        since: Option<Instant>,
        batch_bytes_max: usize,
    ) -> (Pushed, Placed) {
        let mut state = self.lock();
        let (start, is_first) = (state.end, state.batches.is_empty());
        state.end += 1;
        let open = state
            .batches
            .back_mut()
            .filter(|open| open.fits(bytes, batch_bytes_max));
        let (pushed, placed, wake) = match open {
            Some(open) => {
                let placed = open.push(record, bytes);
                (Pushed::IntoOpen, placed, batch_bytes_max <= open.size())
            }
            None => {
                let mut batch = self.open(start, since, state.expected);
                let placed = batch.push(record, bytes);
                state.batches.push_back(batch);
                let pushed = if is_first { Pushed::IntoOpen } else { Pushed::IntoNext };
                (pushed, placed, true)
            }
        };
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        (pushed, placed)
    }

    fn open(&self, start: u64, since: Option<Instant>, expected: usize) -> Batch {
        let mut builder = Builder::new();
        builder.reserve(expected);
        Batch {
            start,
            since: since.unwrap_or_else(Instant::now),
            count: 0,
            attempts: 0,
            content: Content::Open(builder),
            completion: Completion::new(self.topic.clone(), self.partition),
            room: Room {
                buffer: self.buffer.clone(),
                bytes: 0,
            },
        }
    }

    /// The next batch if it is full, has lingered, or is wanted by a flush.
    pub(crate) fn next(&self, now: Instant, linger: Duration, batch_bytes_max: usize) -> Next {
        let mut state = self.lock();
        let Some(front) = state.batches.front() else {
            return Next::Empty;
        };
        let due = front.since + linger;
        let is_ready =
            1 < state.batches.len() || due <= now || front.start < state.flush_below || batch_bytes_max <= front.size();
        if !is_ready {
            return Next::At(due);
        }
        state.expected = front.size();
        state.batches.pop_front().map_or(Next::Empty, Next::Ready)
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
    use std::sync::LazyLock;

    use tokio::sync::Semaphore;

    use super::super::delivery::Delivery;
    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    /// Shares of one batch come from one buffer.
    static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1 << 20)));

    fn queue() -> Queue {
        Queue::new("t".into(), 3, ROOM.clone())
    }

    fn push(queue: &Queue, bytes: usize, since: Instant) -> (Pushed, Delivery) {
        let record = Record::to("t").timestamp(7).value(vec![b'v'; bytes]);
        let (pushed, placed) = queue.push(&record, record.encoded_bytes_max(), Some(since), 1000);
        (pushed, Delivery::placed(placed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_ready_when_it_is_full_or_has_lingered() {
        let queue = queue();
        let start = Instant::now();
        assert_eq!(push(&queue, 600, start).0, Pushed::IntoOpen);
        assert!(matches!(queue.next(start, LINGER, 1000), Next::At(due) if due == start + LINGER));
        assert_eq!(push(&queue, 600, start).0, Pushed::IntoNext);
        assert!(matches!(queue.next(start, LINGER, 1000), Next::Ready(batch) if batch.start == 0));
        assert!(matches!(queue.next(start, LINGER, 1000), Next::At(_)));
        assert!(matches!(queue.next(start + LINGER, LINGER, 1000), Next::Ready(batch) if batch.start == 1));
        assert!(matches!(queue.next(start, LINGER, 1000), Next::Empty));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_wants_what_was_pushed_before_it() {
        let queue = queue();
        let now = Instant::now();
        push(&queue, 10, now);
        push(&queue, 10, now);
        assert_eq!(queue.flush(), 2);
        assert!(matches!(queue.next(now, LINGER, 1000), Next::Ready(batch) if batch.count() == 2));
        push(&queue, 10, now);
        assert!(matches!(queue.next(now, LINGER, 1000), Next::At(_)));
        assert_eq!(queue.start(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_gives_each_record_its_offset() {
        let queue = queue();
        let now = Instant::now();
        let (_, first) = push(&queue, 10, now);
        let (_, second) = push(&queue, 10, now);
        queue.flush();
        let Next::Ready(batch) = queue.next(now, LINGER, 1000) else {
            panic!("flushed and not ready")
        };
        let second = tokio::spawn(second);
        tokio::task::yield_now().await;
        batch.succeed(Stored {
            base_offset: Some(40),
            append_time: None,
        });
        let first = first.await.expect("it was acknowledged");
        assert_eq!((first.partition, first.offset, first.timestamp), (3, Some(40), 7));
        let second = second.await.expect("no panic").expect("it was acknowledged");
        assert_eq!(second.offset, Some(41));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_lost_fails_its_records() {
        let queue = queue();
        let (_, delivery) = push(&queue, 10, Instant::now());
        drop(queue);
        assert!(matches!(delivery.await, Err(Error::Closed)));
    }
}
