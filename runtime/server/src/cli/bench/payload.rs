//! Values to measure with: JSON as applications log it, no two alike, and as long as asked for.
//!
//! Zeros, or one value over and over, would be compressed to nothing, found in every cache and checked by nobody.
use bytes::Bytes;
use tidemill_protocol::partitioner::partition_of_key;

/// Different values; sent in turn.
const VARIETY: usize = 1024;

/// Bytes that all of them together may take.
const POOL_BYTES: usize = 16 << 20;

const PAGES: [&str; 8] = [
    "/",
    "/cart",
    "/checkout",
    "/search",
    "/product",
    "/login",
    "/help",
    "/account",
];

/// Values of one size.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    values: Vec<Bytes>,
    next: usize,
}

impl Payload {
    /// Values of `bytes` each, the same ones for the same seed.
    pub(super) fn new(bytes: usize, seed: u64) -> Payload {
        let count = (POOL_BYTES / bytes.max(1)).clamp(1, VARIETY);
        let mut chance = Chance(seed ^ 0x9e37_79b9_7f4a_7c15);
        Payload {
            values: (0..count).map(|_| value(bytes, &mut chance)).collect(),
            next: 0,
        }
    }

    /// The next value; shared, not copied.
    pub(super) fn next(&mut self) -> Bytes {
        let value = self.values[self.next].clone();
        self.next = (self.next + 1) % self.values.len();
        value
    }
}

/// Keys to count by: each as likely as any other.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    keys: Vec<Bytes>,
    chance: Chance,
}

impl Keys {
    /// So many different ones, in an order that the seed decides; of none, records have no keys.
    pub(super) fn new(count: u64, seed: u64) -> Keys {
        Keys {
            keys: (0..count)
                .map(|number| Bytes::from(format!("key-{number:06}")))
                .collect(),
            chance: Chance(seed),
        }
    }

    /// Those of them that belong to a partition: who makes batches of one partition puts keys where every client looks for them.
    pub(super) fn of_partition(mut self, partition: i32, partitions: usize) -> Keys {
        let (own, count) = (u32::try_from(partition).ok(), u32::try_from(partitions).unwrap_or(0));
        self.keys.retain(|key| partition_of_key(key, count) == own);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The next key; shared, not copied.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let count = u64::try_from(self.keys.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(self.chance.next().checked_rem(count)?).ok()?;
        self.keys.get(at).cloned()
    }
}

/// One value. What is too short for JSON is cut off.
fn value(bytes: usize, chance: &mut Chance) -> Bytes {
    let mut text = format!(
        r#"{{"user":"u-{:07}","page":"{}","ms":{},"session":"{:016x}","agent":""#,
        chance.below(10_000_000),
        PAGES[usize::try_from(chance.below(8)).unwrap_or(0)],
        chance.below(5000),
        chance.next(),
    );
    // Half words, half noise: compressible like text, not like a constant.
    while text.len() + 2 < bytes {
        match chance.below(2) {
            0 => text
                .push_str(["Mozilla ", "Linux ", "Safari ", "en-GB "][usize::try_from(chance.below(4)).unwrap_or(0)]),
            _ => text.push_str(&format!("{:08x}", chance.next() & 0xffff_ffff)),
        }
    }
    text.truncate(bytes.saturating_sub(2));
    text.push_str("\"}");
    text.truncate(bytes);
    Bytes::from(text)
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_have_the_size_asked_for_and_differ() {
        for bytes in [0, 1, 10, 100, 1024, 1 << 20] {
            let mut payload = Payload::new(bytes, 7);
            let (first, second) = (payload.next(), payload.next());
            assert_eq!((first.len(), second.len()), (bytes, bytes));
            assert!(bytes < 100 || first != second);
        }
    }

    #[test]
    fn a_key_belongs_to_one_partition() {
        let shares = (0..8).map(|partition| Keys::new(100, 7).of_partition(partition, 8));
        assert_eq!(shares.map(|share| share.keys.len()).sum::<usize>(), 100);
        let mut own = Keys::new(100, 7).of_partition(3, 8);
        assert_eq!(partition_of_key(&own.next().unwrap(), 8), Some(3));
    }

    #[test]
    fn values_of_usual_sizes_are_json() {
        let mut payload = Payload::new(200, 7);
        for _ in 0..100 {
            serde_json::from_slice::<serde_json::Value>(&payload.next()).unwrap();
        }
    }
}
