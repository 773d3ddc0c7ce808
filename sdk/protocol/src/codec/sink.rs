//! Where encoded bytes go: first a counter, then a rope of exactly that size.

use alloc::vec::Vec;
use bytes::{BufMut, Bytes, BytesMut};

use super::EncodeError;

/// Encoded bytes in pieces, so that payloads are shared instead of copied. Send the pieces in order.
pub type Rope = Vec<Bytes>;

/// Payloads shorter than this are copied into the surrounding bytes: a piece of its own would cost more than the copy.
const SHARED_BYTES_MIN: usize = 1024;

/// Takes what a value encodes to.
pub trait Sink {
    /// Takes bytes by copy.
    fn put(&mut self, bytes: &[u8]);
    /// Takes bytes by reference, if they are worth it.
    fn share(&mut self, bytes: &Bytes);
    /// Told that a value is longer than its length field can say; what was put is then no message.
    fn fail(&mut self);

    /// Puts an unsigned variable-length integer.
    fn put_unsigned_varint(&mut self, mut value: u32) {
        let mut bytes = [0; 5];
        let mut len = 0;
        while value >= 0x80 {
            bytes[len] = value.to_le_bytes()[0] | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value.to_le_bytes()[0];
        self.put(&bytes[..=len]);
    }
}

/// Measures an encoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    copied: usize,
    shared: usize,
    failed: bool,
}

/// What a [`Counter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    copied: usize,
    shared: usize,
}

impl Size {
    /// Bytes in all.
    pub fn total(self) -> usize {
        self.copied + self.shared
    }
}

impl Counter {
    /// The size, if everything counted fits its length fields.
    pub fn finish(self) -> Result<Size, EncodeError> {
        if self.failed {
            Err(EncodeError::TooLong)
        } else {
            Ok(Size {
                copied: self.copied,
                shared: self.shared,
            })
        }
    }

    /// Bytes so far.
    pub(crate) fn total(self) -> usize {
        self.copied + self.shared
    }
}

impl Sink for Counter {
    fn put(&mut self, bytes: &[u8]) {
        self.copied += bytes.len();
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.copied += bytes.len();
        } else {
            self.shared += bytes.len();
        }
    }

    fn fail(&mut self) {
        self.failed = true;
    }
}

/// Writes an encoding. All pieces but the shared ones are slices of one allocation.
#[derive(Debug)]
pub struct Writer {
    rope: Rope,
    tail: BytesMut,
}

impl Writer {
    /// A writer with room for `size`.
    pub fn for_size(size: Size) -> Self {
        Self {
            rope: Rope::new(),
            tail: BytesMut::with_capacity(size.copied),
        }
    }

    /// What was written.
    pub fn finish(mut self) -> Rope {
        self.cut();
        self.rope
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.rope.push(self.tail.split().freeze());
        }
    }
}

impl Sink for Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.tail.put_slice(bytes);
        } else {
            self.cut();
            self.rope.push(bytes.clone());
        }
    }

    /// Nothing to do: a [`Counter`] saw the same value and refused it.
    fn fail(&mut self) {}
}
