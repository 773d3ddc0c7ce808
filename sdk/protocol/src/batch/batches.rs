//! Goes through a record set batch by batch.

use alloc::collections::VecDeque;
use bytes::{Bytes, BytesMut};

use super::{BatchError, Encoded, HEADER_BYTES, Header, header};
use crate::records::Records;

/// The batches of a record set, in order. A batch's records are shared if they lie in one piece, as they do behind a [`patch`](super::patch)ed head.
///
/// Length, format, consistency and CRC of each are checked. After an error there are no more.
pub fn batches(records: &Records) -> Batches {
    Batches {
        chunks: records.chunks().iter().cloned().collect(),
    }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    chunks: VecDeque<Bytes>,
}

impl Iterator for Batches {
    type Item = Result<Encoded, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunks.is_empty() {
            return None;
        }
        let next = self.take_batch();
        if next.is_err() {
            self.chunks.clear();
        }
        Some(next)
    }
}

impl Batches {
    fn take_batch(&mut self) -> Result<Encoded, BatchError> {
        let head = self.take(HEADER_BYTES)?;
        let header = Header::parse(&head)?;
        let records = self.take(header.batch_bytes() - HEADER_BYTES)?;
        header.check_crc_of(&[&head[header::CRC_FROM..], &records])?;
        Ok(Encoded { header, records })
    }

    /// The next `len` bytes in one piece.
    fn take(&mut self, len: usize) -> Result<Bytes, BatchError> {
        match self.chunks.front_mut() {
            Some(first) if len < first.len() => Ok(first.split_to(len)),
            Some(first) if len == first.len() => self.chunks.pop_front().ok_or(BatchError::Truncated),
            _ => self.gather(len),
        }
    }

    /// Copies the next `len` bytes together. They are counted before anything is allocated.
    fn gather(&mut self, len: usize) -> Result<Bytes, BatchError> {
        if self.chunks.iter().map(Bytes::len).sum::<usize>() < len {
            return Err(BatchError::Truncated);
        }
        let mut gathered = BytesMut::with_capacity(len);
        while let Some(mut first) = self.chunks.pop_front() {
            let missing = len - gathered.len();
            if missing < first.len() {
                gathered.extend_from_slice(&first.split_to(missing));
                self.chunks.push_front(first);
                break;
            }
            gathered.extend_from_slice(&first);
        }
        Ok(gathered.freeze())
    }
}
