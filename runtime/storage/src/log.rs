//! One log: which segments hold it, and its newest batches in memory.
//!
//! ```text
//! offsets   start ........................................ end
//! segments  [ extent 3 )[ extent 4      )[ extent 7    )
//! tail                                [ settled | unsettled )
//! ```
//! Guarantees: between start and end every batch is in an extent or in the tail, or in both; the extents and the tail are each in order.
use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Append, Error, batch, limits::BATCH_OVERHEAD_BYTES};

/// A batch in memory; its bytes are as they came.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) data: Bytes,
}

impl Batch {
    /// The first 16 bytes as they are stored and sent.
    pub(crate) fn head(&self) -> [u8; batch::HEAD_BYTES] {
        batch::head(self.base_offset, self.leader_epoch, &self.data)
    }

    /// Everything behind [`Batch::head`].
    pub(crate) fn rest(&self) -> Bytes {
        self.data.slice(batch::HEAD_BYTES..)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.data.len() as u64 + BATCH_OVERHEAD_BYTES
    }
}

/// The part of a log that one segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: u64,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) bytes: u64,
}

/// Memory that a trim gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) settled_bytes: u64,
    pub(crate) unsettled_bytes: u64,
}

/// Where to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Segment(Extent),
    /// At this batch of the tail.
    Tail(usize),
    End,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) start: i64,
    pub(crate) extents: Vec<Extent>,
    pub(crate) tail: VecDeque<Batch>,
    /// Batches below this are in the extents.
    settled_end: i64,
}

impl Log {
    /// A log as a restart finds it: what was settled.
    pub(crate) fn found(start: i64) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// Adds what a segment holds. Segments come in order.
    pub(crate) fn found_extent(&mut self, extent: Extent) {
        self.settled_end = self.settled_end.max(extent.last_offset + 1);
        if self.start <= extent.last_offset {
            self.extents.push(extent);
        }
    }

    /// Offset after the last batch.
    fn end(&self) -> i64 {
        self.tail.back().map_or(self.settled_end, |last| last.last_offset + 1)
    }

    /// Takes a batch; gives the memory it uses. Zero if a restart replays what the segments hold already.
    pub(crate) fn append(&mut self, append: Append) -> Result<u64, Error> {
        if append.last_offset < self.start.max(self.settled_end) {
            return Ok(0);
        }
        if append.base_offset < self.end() || !batch::is_sound(&append) {
            let Append {
                log,
                base_offset,
                last_offset,
                ..
            } = append;
            let end = self.end();
            return Err(Error::Contract(format!(
                "batch {base_offset}..={last_offset} does not fit the end {end} of log {}",
                log.0
            )));
        }
        let batch = Batch {
            base_offset: append.base_offset,
            last_offset: append.last_offset,
            max_timestamp: append.max_timestamp,
            leader_epoch: append.leader_epoch,
            data: append.batch,
        };
        let bytes = batch.memory_bytes();
        self.tail.push_back(batch);
        Ok(bytes)
    }

    /// Moves the start up; whole batches below it leave the memory.
    pub(crate) fn trim(&mut self, start: i64) -> Freed {
        let mut freed = Freed::default();
        self.start = self.start.max(start);
        while let Some(batch) = self.tail.front().filter(|batch| batch.last_offset < self.start) {
            if batch.last_offset < self.settled_end {
                freed.settled_bytes += batch.memory_bytes();
            } else {
                freed.unsettled_bytes += batch.memory_bytes();
            }
            self.tail.pop_front();
        }
        self.extents.retain(|extent| self.start <= extent.last_offset);
        freed
    }

    /// Batches that no segment holds yet.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &Batch> {
        self.tail
            .iter()
            .skip(self.tail.partition_point(|batch| batch.last_offset < self.settled_end))
    }

    /// A segment now holds `extent` of this log. Gives the memory of each batch that thereby became settled.
    pub(crate) fn settle(&mut self, segment: u64, extent: Option<Extent>) -> Vec<u64> {
        self.extents.retain(|known| known.segment != segment);
        let Some(extent) = extent else { return Vec::new() };
        if self.start <= extent.last_offset {
            self.extents.push(extent);
        }
        let end = extent.last_offset + 1;
        let settled = self
            .unsettled()
            .take_while(|batch| batch.last_offset < end)
            .map(Batch::memory_bytes)
            .collect();
        self.settled_end = self.settled_end.max(end);
        settled
    }

    /// Forgets the oldest batch in memory if a segment holds it; gives the memory back.
    pub(crate) fn evict(&mut self) -> Option<u64> {
        let batch = self.tail.front().filter(|batch| batch.last_offset < self.settled_end)?;
        let bytes = batch.memory_bytes();
        self.tail.pop_front();
        Some(bytes)
    }

    /// Where the batch with this offset is, or else the first one above it.
    pub(crate) fn place(&self, offset: i64) -> Place {
        let in_tail = self.tail.partition_point(|batch| batch.last_offset < offset);
        let in_memory = self.tail.front().is_some_and(|first| first.base_offset <= offset);
        let extent = self.extents.iter().find(|extent| offset <= extent.last_offset);
        match extent {
            Some(extent) if !in_memory => Place::Segment(*extent),
            _ if in_tail < self.tail.len() => Place::Tail(in_tail),
            _ => Place::End,
        }
    }
}
