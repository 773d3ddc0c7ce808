//! Which partition a key, or a group, belongs to. Every Kafka client and broker has to agree on this, so the hashes are Java's.

/// The partition of a key, as Kafka's Java client chooses it. `None` if there are no partitions.
#[inline]
pub fn partition_of_key(key: &[u8], partitions: u32) -> Option<u32> {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions)
}

/// The partitions of a topic, for whoever asks about many keys: a multiplication takes a fifth of the time of a division.
#[derive(Clone, Copy, Debug)]
pub struct Partitions {
    count: u32,
    /// 2^64 divided by `count`, rounded up: D. Lemire, O. Kaser, N. Kurz, "Faster remainder by direct computation", 2019.
    reciprocal: u64,
}

impl Partitions {
    /// So many, at least one.
    pub fn new(count: u32) -> Self {
        let count = count.max(1);
        Self {
            count,
            // Of one partition it is 2^64, which is 0 here, and so is every remainder.
            reciprocal: (u64::MAX / u64::from(count)).wrapping_add(1),
        }
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The partition of a key: what [`partition_of_key`] says.
    #[inline]
    pub fn of_key(self, key: &[u8]) -> u32 {
        self.remainder(murmur2(key) & 0x7fff_ffff)
    }

    #[inline]
    fn remainder(self, hash: u32) -> u32 {
        let fraction = self.reciprocal.wrapping_mul(u64::from(hash));
        let whole = (u128::from(fraction) * u128::from(self.count)) >> 64;
        u32::try_from(whole).expect("a remainder is smaller than its divisor")
    }
}

/// The partition of `__consumer_offsets` (or of the transaction log) that a group (or a transactional id) belongs to: Java's
/// `abs(name.hashCode()) % partitions`, where the absolute value of the smallest number is 0. `None` if there are no partitions.
pub fn partition_of_name(name: &str, partitions: u32) -> Option<u32> {
    let hash = java_hash(name);
    let magnitude = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    magnitude.checked_rem(partitions)
}

/// MurmurHash2 with the seed of Kafka's Java client.
#[inline]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's arrays are shorter than 2^31, so nothing it can hash is cut here.
    let [.., b0, b1, b2, b3] = (data.len() as u64).to_be_bytes();
    let mut hash = SEED ^ u32::from_be_bytes([b0, b1, b2, b3]);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let bits = tail.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        hash = (hash ^ bits).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// Java's `String.hashCode`, over UTF-16.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remainder_is_what_is_left_of_a_division() {
        let hashes = (0..32).flat_map(|bit| [1_u32 << bit, (1 << bit) - 1, u32::MAX >> bit, 0x9e37_79b9 >> bit]);
        for hash in hashes {
            for count in (1..300).chain([1_000, 9_999, 10_000, 65_537, 1 << 31, u32::MAX]) {
                assert_eq!(Partitions::new(count).remainder(hash), hash % count, "{hash} % {count}");
            }
        }
    }

    /// The vectors of `UtilsTest.testMurmur2` in Kafka's repository.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn java_hash_agrees_with_java() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        // U+1F30A is the surrogates D83C DF0A.
        assert_eq!(java_hash("\u{1f30a}"), 0xd83c * 31 + 0xdf0a);
    }

    #[test]
    fn the_smallest_hash_belongs_to_partition_zero() {
        assert_eq!(partition_of_name("polygenelubricants", 50), Some(0));
        assert_eq!(partition_of_name("hello", 50), Some(22));
        assert_eq!(partition_of_name("hello", 0), None);
    }

    #[test]
    fn a_negative_hash_is_masked_for_a_key() {
        assert_eq!(
            partition_of_key(b"21", 4),
            Some((-973_932_308i32 & 0x7fff_ffff).unsigned_abs() % 4)
        );
        assert_eq!(partition_of_key(b"21", 0), None);
    }
}
