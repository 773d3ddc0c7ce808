//! Timers of a task: two rows each, in a bucket that no manifest can name.
//!
//! ```text
//!  which timer   'i' | clock: u8 |               | name length: u8 | name | key   =>  at: i64 BE
//!  when          'd' | clock: u8 | at: 8, order  | name length: u8 | name | key   =>  payload
//! ```
//!
//! A range over the second kind has the timers of a clock in the order in which they fire: by time, then name, then key.
use alloc::vec::Vec;
use bytes::Bytes;
use tidemill_protocol::manifest::Clock;

use super::ordered;

/// Bucket of the rows.
pub const ROWS: &str = "!timers";
/// Bytes of a timer's name at most.
pub const NAME_BYTES_MAX: usize = 255;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    /// By which clock it fires.
    pub clock: Clock,
    /// Name, at most [`NAME_BYTES_MAX`] bytes.
    pub name: &'a str,
    /// Key.
    pub key: &'a [u8],
}

impl Id<'_> {
    /// Key of the row that says when.
    #[must_use]
    pub fn row(&self) -> Bytes {
        self.finish([b'i', ordered::encode_clock(self.clock)].to_vec())
    }

    /// Key of the row by which it fires.
    #[must_use]
    pub fn due_row(&self, at: i64) -> Bytes {
        self.finish(due_bound(self.clock, at))
    }

    fn finish(&self, mut row: Vec<u8>) -> Bytes {
        row.push(u8::try_from(self.name.len()).expect("who sets a timer checks the length of its name"));
        row.extend_from_slice(self.name.as_bytes());
        row.extend_from_slice(self.key);
        row.into()
    }
}

/// Timers of a clock up to and including `until`: start and end of their rows.
#[must_use]
pub fn due(clock: Clock, until: i64) -> (Vec<u8>, Vec<u8>) {
    let end = match until.checked_add(1) {
        Some(after) => due_bound(clock, after),
        None => [b'd', ordered::encode_clock(clock) + 1].to_vec(),
    };
    (due_bound(clock, i64::MIN), end)
}

/// Reads the key of a row by which a timer fires.
#[must_use]
pub fn decode_due(row: &[u8]) -> Option<(Id<'_>, i64)> {
    let (clock, rest) = row.strip_prefix(b"d")?.split_first()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    let (name, key) = rest.split_at_checked(usize::from(*length))?;
    let id = Id {
        clock: ordered::decode_clock(*clock)?,
        name: core::str::from_utf8(name).ok()?,
        key,
    };
    Some((id, ordered::decode(*at)))
}

fn due_bound(clock: Clock, at: i64) -> Vec<u8> {
    let mut row = [b'd', ordered::encode_clock(clock)].to_vec();
    row.extend_from_slice(&ordered::encode(at));
    row
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn timers_lie_in_the_order_in_which_they_fire() {
        let id = |clock, name| Id { clock, name, key: b"k" };
        let rows = [
            id(Clock::EventTime, "z").due_row(-1),
            id(Clock::EventTime, "a").due_row(0),
            id(Clock::EventTime, "b").due_row(0),
            id(Clock::EventTime, "a").due_row(i64::MAX),
            id(Clock::WallClock, "a").due_row(i64::MIN),
        ];
        assert!(rows.is_sorted());
        assert_eq!(decode_due(&rows[2]), Some((id(Clock::EventTime, "b"), 0)));
        for (until, count) in [(-2, 0), (-1, 1), (0, 3), (i64::MAX, 4)] {
            let (start, end) = due(Clock::EventTime, until);
            let inside = rows.iter().filter(|row| start <= **row && **row < end).count();
            assert_eq!(inside, count, "until {until}");
        }
    }
}
