//! Entries that expire: the form of their rows, and the index by which they are found when their time has come.
//!
//! ```text
//!  row of the entry     "NAME!ttl" bucket, the guest's key   =>  expires at: i64 BE | indexed at: i64 BE | the guest's value
//!  row of the index     "!expiry" bucket                     =>  (empty)
//!                       +-----------+----------------------+----------------+-----------------+-------------+
//!                       | clock: u8 | indexed at: 8, order | length: u8     | bucket of rows  | guest's key |
//!                       +-----------+----------------------+----------------+-----------------+-------------+
//! ```
//!
//! An entry has one row in the index. Writing it again moves only its own `expires at`; the index follows when its turn comes. So an
//! entry that is written often costs one row a write, as one that stays does. A bucket with a `ttl` has other rows than one without:
//! nobody ever reads the one form as the other.
use alloc::{format, string::String, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::manifest::Clock;

use super::ordered;

/// Bucket of the index.
pub const INDEX: &str = "!expiry";
/// Bytes before the guest's value.
pub const STAMP_BYTES: usize = 16;

/// When an entry expires, and where the index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// First moment at which it is gone.
    pub expires_at: i64,
    /// Its place in the index, not later.
    pub indexed_at: i64,
}

/// One row of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// By which clock it expires.
    pub clock: Clock,
    /// Its place.
    pub at: i64,
    /// Bucket of the rows.
    pub rows: String,
    /// The guest's key.
    pub key: Bytes,
}

/// Bucket of the rows of a bucket whose entries expire. No manifest can name it.
#[must_use]
pub fn rows_of(bucket: &str) -> String {
    format!("{bucket}!ttl")
}

/// Value of an entry's row.
#[must_use]
pub fn encode(stamp: Stamp, value: &[u8]) -> Bytes {
    let mut row = Vec::with_capacity(STAMP_BYTES + value.len());
    row.extend_from_slice(&stamp.expires_at.to_be_bytes());
    row.extend_from_slice(&stamp.indexed_at.to_be_bytes());
    row.extend_from_slice(value);
    row.into()
}

/// The stamp and the guest's value of a row; `None` when it is too short to be one.
#[must_use]
pub fn decode(row: &Bytes) -> Option<(Stamp, Bytes)> {
    let (expires_at, rest) = row.split_first_chunk()?;
    let (indexed_at, _) = rest.split_first_chunk()?;
    let stamp = Stamp {
        expires_at: i64::from_be_bytes(*expires_at),
        indexed_at: i64::from_be_bytes(*indexed_at),
    };
    Some((stamp, row.slice(STAMP_BYTES..)))
}

/// Key of a row of the index.
#[must_use]
pub fn index_key(clock: Clock, at: i64, rows: &str, key: &[u8]) -> Bytes {
    let mut row = index_bound(clock, at);
    row.push(u8::try_from(rows.len()).expect("the manifest bounds names of buckets"));
    row.extend_from_slice(rows.as_bytes());
    row.extend_from_slice(key);
    row.into()
}

/// What is in the index by this clock before `until`: start and end.
#[must_use]
pub fn due(clock: Clock, until: i64) -> (Vec<u8>, Vec<u8>) {
    (index_bound(clock, i64::MIN), index_bound(clock, until))
}

/// Reads a key of the index.
#[must_use]
pub fn decode_index(row: &Bytes) -> Option<Indexed> {
    let (clock, rest) = row.split_first()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (rows, key) = rest.split_at_checked(usize::from(*length))?;
    Some(Indexed {
        clock: ordered::decode_clock(*clock)?,
        at: ordered::decode(*at),
        rows: core::str::from_utf8(rows).ok()?.into(),
        key: row.slice_ref(key),
    })
}

fn index_bound(clock: Clock, at: i64) -> Vec<u8> {
    let mut row = Vec::with_capacity(64);
    row.push(ordered::encode_clock(clock));
    row.extend_from_slice(&ordered::encode(at));
    row
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_and_its_index_come_back() {
        let stamp = Stamp {
            expires_at: -5,
            indexed_at: -7,
        };
        assert_eq!(decode(&encode(stamp, b"v")), Some((stamp, Bytes::from_static(b"v"))));
        assert_eq!(decode(&Bytes::from_static(b"short")), None);
        let row = index_key(Clock::EventTime, -7, "seen!ttl", b"k");
        let indexed = decode_index(&row).unwrap();
        assert_eq!(
            (indexed.clock, indexed.at, indexed.rows.as_str()),
            (Clock::EventTime, -7, "seen!ttl")
        );
        assert_eq!(indexed.key, "k");
    }

    #[test]
    fn what_is_due_lies_before_the_bound() {
        let (start, end) = due(Clock::WallClock, 0);
        let inside = |at| {
            let row = index_key(Clock::WallClock, at, "b!ttl", b"k");
            start <= row && row < end
        };
        assert!(inside(i64::MIN) && inside(-1) && !inside(0) && !inside(i64::MAX));
        assert!(index_key(Clock::EventTime, -1, "b!ttl", b"k") < start);
    }
}
