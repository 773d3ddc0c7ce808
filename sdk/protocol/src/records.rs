//! Record batches on their way through: bytes that nobody here looks into.

use alloc::{vec, vec::Vec};
use bytes::{Bytes, BytesMut};

/// Whole record batches, one after the other, in pieces that may be cut anywhere. Cloning shares the bytes.
///
/// Two of them are equal if their bytes are, however they are cut.
#[derive(Clone, Debug, Default, Eq)]
pub struct Records {
    chunks: Vec<Bytes>,
}

impl Records {
    /// No batches.
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.chunks.push(bytes);
        }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The bytes in order, in pieces none of which is empty.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The bytes in one piece: shared if they are in one already, else copied.
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = self.chunks.as_slice() {
            return only.clone();
        }
        let mut bytes = BytesMut::with_capacity(self.len());
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk);
        }
        bytes.freeze()
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self {
            chunks: if bytes.is_empty() { Vec::new() } else { vec![bytes] },
        }
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::new();
        records.extend(chunks);
        records
    }
}

impl Extend<Bytes> for Records {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, chunks: I) {
        for chunk in chunks {
            self.push(chunk);
        }
    }
}
