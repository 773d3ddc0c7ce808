//! The answer to a read while it is being put together.
use bytes::Bytes;

use crate::{LogRead, Records, batch::Header, log::Batch};

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

    pub(crate) fn finish(self) -> Records {
        self.parts.into_iter().collect()
    }
}
