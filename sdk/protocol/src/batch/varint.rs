//! Zigzag variable-length integers, as in protocol buffers, and a cursor over borrowed bytes that reads them quickly.

use alloc::vec::Vec;

/// Bytes yet to be read. Every method takes a whole value or nothing and returns `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// Most are one byte long, nearly all others two: lengths under 64 and under 8192, deltas.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let first = self.byte()?;
        let unsigned = if first < 0x80 {
            u32::from(first)
        } else {
            u32::try_from(self.long(first, 5)?).ok()?
        };
        Some((unsigned >> 1).cast_signed() ^ -(unsigned & 1).cast_signed())
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let first = self.byte()?;
        let unsigned = if first < 0x80 {
            u64::from(first)
        } else {
            self.long(first, 10)?
        };
        Some((unsigned >> 1).cast_signed() ^ -(unsigned & 1).cast_signed())
    }

    /// The rest of a number of at most `bytes_max` bytes, whose first byte says that there is more.
    #[inline]
    fn long(&mut self, first: u8, bytes_max: u32) -> Option<u64> {
        match self.0.split_first() {
            Some((&second, rest)) if second < 0x80 => {
                self.0 = rest;
                Some(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.longer(first, bytes_max),
        }
    }

    fn longer(&mut self, first: u8, bytes_max: u32) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        for index in 1..bytes_max {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return None;
            }
            value |= shifted;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Bytes behind their length; the inner `None` is null.
    #[inline(always)]
    pub(super) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            len => self.take(usize::try_from(len).ok()?).map(Some),
        }
    }
}

/// Bytes that a number takes.
#[inline]
pub(super) fn varint_bytes(value: i64) -> usize {
    let number = zigzag(value);
    if number < 0x4000 {
        return 1 + usize::from(0x80 <= number);
    }
    (64 - number.leading_zeros()).div_ceil(7) as usize
}

/// Appends a number. A 32-bit one takes the same bytes as a 64-bit one.
#[inline]
pub(super) fn put_varint(to: &mut Vec<u8>, value: i64) {
    match Head::default().and(value) {
        Some(head) => head.put(to),
        None => put_long(to, value),
    }
}

fn put_long(to: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        to.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    to.push(rest.to_le_bytes()[0]);
}

/// Up to four numbers of at most two bytes each, which nearly all are, put together in a register: writing them byte by byte takes longer
/// than everything else about a small record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    bits: u64,
    bytes: usize,
}

impl Head {
    /// With one number more, if it takes at most two bytes.
    #[inline]
    pub(super) fn and(self, value: i64) -> Option<Self> {
        let number = zigzag(value);
        let is_long = usize::from(0x80 <= number);
        let encoded = number & 0x7f | (number & 0x3f80) << 1 | (is_long as u64) << 7;
        (number < 0x4000).then_some(Self {
            bits: self.bits | encoded << (8 * self.bytes),
            bytes: self.bytes + 1 + is_long,
        })
    }

    /// Appends them: all eight bytes at once, and takes back what they do not take.
    #[inline]
    pub(super) fn put(self, to: &mut Vec<u8>) {
        let length = to.len() + self.bytes;
        to.extend_from_slice(&self.bits.to_le_bytes());
        to.truncate(length);
    }
}

#[inline]
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_number_comes_back() {
        for shift in 0..64 {
            for value in [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << shift.min(62))] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len(), varint_bytes(value), "{value}");
                assert_eq!(Cursor(&bytes).varlong(), Some(value));
                assert_eq!(Cursor(&bytes).varint(), i32::try_from(value).ok());
                assert_eq!(Cursor(&bytes[..bytes.len() - 1]).varlong(), None);
            }
        }
    }

    #[test]
    fn numbers_put_together_are_the_same_bytes() {
        for numbers in [[0, -1, 63, 64], [-8192, 8191, 1, 0], [127, 0, 4096, -65]] {
            let mut one_by_one = alloc::vec![7];
            let mut together = one_by_one.clone();
            numbers.iter().for_each(|number| put_long(&mut one_by_one, *number));
            let head = numbers
                .iter()
                .try_fold(Head::default(), |head, number| head.and(*number));
            head.unwrap().put(&mut together);
            assert_eq!(together, one_by_one, "{numbers:?}");
        }
        assert!(Head::default().and(8192).is_none());
        assert!(Head::default().and(-8193).is_none());
    }

    #[test]
    fn a_number_that_is_too_long_is_refused() {
        assert_eq!(Cursor(&[0xff; 11]).varlong(), None);
        assert_eq!(Cursor(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).varint(), None);
        assert_eq!(Cursor(&[0x80, 0x80, 0x80, 0x80, 0x10]).varint(), None);
        assert_eq!(Cursor(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Some(i32::MIN));
    }
}
