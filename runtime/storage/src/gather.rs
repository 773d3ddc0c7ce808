//! The answer to a read while it is being put together.
use bytes::Bytes;

use crate::{LogRead, Records, batch::Header, log::Batch};

/// An answer, and where it goes on if it was cut short.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    pub(crate) records: Records,
    pub(crate) next: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Gather {
    read: LogRead,
    /// Offset wanted next.
    next: i64,
    bytes: usize,
    parts: Vec<Bytes>,
    full: bool,
}

impl Gather {
    pub(crate) fn new(read: LogRead) -> Self {
        Self {
            read,
            next: read.from,
            bytes: 0,
            parts: Vec::new(),
            full: read.until <= read.from,
        }
    }

    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// True if nothing more may be added.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// What lies below has been looked through.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Decides whether to begin a chunk of so many bytes: not if it does not fit and there is half an answer already.
    pub(crate) fn begins(&mut self, chunk_bytes: usize) -> bool {
        let left = self.read.bytes_max.saturating_sub(self.bytes);
        self.full |= self.read.bytes_max / 2 <= self.bytes && left < chunk_bytes && 0 < self.bytes;
        !self.full
    }

    /// Decides on the next batch. A batch below what is wanted is passed over; the first that does not fit ends the answer.
    pub(crate) fn wants(&mut self, last_offset: i64, bytes: usize) -> bool {
        if self.full || last_offset < self.next {
            return false;
        }
        let fits = 0 == self.bytes || self.bytes.saturating_add(bytes) <= self.read.bytes_max;
        if !fits || self.read.until <= last_offset {
            self.full = true;
            return false;
        }
        self.bytes += bytes;
        self.next = last_offset + 1;
        true
    }

    /// Adds a batch from memory.
    pub(crate) fn batch(&mut self, batch: &Batch) {
        if self.wants(batch.last_offset, batch.data.len()) {
            self.parts.push(Bytes::copy_from_slice(&batch.head()));
            self.parts.push(batch.rest());
        }
    }

    /// Decides on the next batch of a chunk.
    pub(crate) fn wants_header(&mut self, header: &Header) -> bool {
        self.wants(header.last_offset, header.bytes)
    }

    /// Adds bytes of batches that were wanted.
    pub(crate) fn parts(&mut self, parts: impl Iterator<Item = Bytes>) {
        self.parts.extend(parts);
    }

    pub(crate) fn finish(self) -> Gathered {
        let is_cut = self.full && self.next < self.read.until;
        Gathered {
            next: is_cut.then_some(self.next),
            records: self.parts.into_iter().collect(),
        }
    }
}
