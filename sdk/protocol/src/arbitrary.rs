//! Makes up values for tests, from a seed.

use alloc::{string::String, vec};
use bytes::Bytes;

/// A small deterministic generator (SplitMix64).
pub struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Bytes of a number: often an extreme one.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.below(8) {
            0 => [0; N],
            1 => [0xff; N],
            2 => core::array::from_fn(|i| if i == 0 { 0x80 } else { 0 }),
            3 => core::array::from_fn(|i| if i == 0 { 0x7f } else { 0xff }),
            4 => core::array::from_fn(|i| if i == N - 1 { self.next().to_le_bytes()[0] } else { 0 }),
            _ => core::array::from_fn(|_| self.next().to_le_bytes()[0]),
        }
    }

    pub(crate) fn string(&mut self) -> String {
        let len = if self.below(16) == 0 { 200 } else { self.below(6) };
        (0..len)
            .map(|_| ['a', 'Z', '-', '\u{0}', 'ß', '漢', '🌊'][self.below(7)])
            .collect()
    }

    /// Bytes, now and then long enough to be shared instead of copied.
    pub(crate) fn payload(&mut self) -> Bytes {
        let len = if self.below(8) == 0 { 1500 } else { self.below(40) };
        let mut bytes = vec![0; len];
        bytes.fill_with(|| self.next().to_le_bytes()[0]);
        bytes.into()
    }
}
