//! Keys of [`Table::ModuleState`](crate::effect::Table::ModuleState): the only place that knows their form.
//!
//! ```text
//! +--------------------+--------------+-------------------+--------+----------+
//! | deployment: u64 BE | task: u32 BE | bucket length: u8 | bucket | guest's  |
//! +--------------------+--------------+-------------------+--------+----------+
//! ```
//!
//! Everything of a deployment, a task or a bucket is one contiguous range, and within a bucket keys have the order of the guest's
//! bytes. A bucket's name has at most 255 bytes: the manifest allows far fewer. Buckets with a `!` in their name are not the guest's:
//! see [`expiry_row`](super::expiry_row) and [`timer_row`](super::timer_row).
use alloc::vec::Vec;
use bytes::{Bytes, BytesMut};

use super::run::{StateRow, TaskKey};

/// Key of one entry of a bucket.
#[must_use]
pub fn encode(task: &TaskKey, bucket: &str, key: &[u8]) -> Bytes {
    let mut row = bucket_prefix(task, bucket, key.len());
    row.extend_from_slice(key);
    row.into()
}

/// Rows to write, by their keys in the table: these are slices of one allocation.
pub(super) fn rows(task: &TaskKey, rows: &[StateRow]) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
    let prefix = task_prefix(task);
    let bytes = |(bucket, key, _): &StateRow| prefix.len() + 1 + bucket.len() + key.len();
    let mut keys = BytesMut::with_capacity(rows.iter().map(bytes).sum());
    rows.iter().map(move |(bucket, key, value)| {
        keys.extend_from_slice(&prefix);
        keys.extend_from_slice(&[bucket_length(bucket)]);
        keys.extend_from_slice(bucket);
        keys.extend_from_slice(key);
        (keys.split().freeze(), value.clone())
    })
}

/// Rows of the guest's range `[start, end)` of a bucket, as a range `[start, end)` of the table; an empty `end` has no bound.
#[must_use]
pub fn range(task: &TaskKey, bucket: &str, start: &[u8], end: &[u8]) -> (Bytes, Bytes) {
    let first = encode(task, bucket, start);
    if !end.is_empty() {
        return (first, encode(task, bucket, end));
    }
    (first, successor(bucket_prefix(task, bucket, 0)).into())
}

/// The guest's key of a row of this bucket; `None` if the row is not of this bucket.
#[must_use]
pub fn decode<'a>(task: &TaskKey, bucket: &str, row: &'a [u8]) -> Option<&'a [u8]> {
    row.strip_prefix(bucket_prefix(task, bucket, 0).as_slice())
}

/// What the keys of all rows of a task begin with.
#[must_use]
pub fn task_prefix(task: &TaskKey) -> Bytes {
    let mut prefix = task.deployment.to_be_bytes().to_vec();
    prefix.extend_from_slice(&task.number.to_be_bytes());
    prefix.into()
}

/// All rows of a task after this one (`after` is what [`in_task`] gives; empty: from the first), as a range `[start, end)` of the table.
#[must_use]
pub fn rest(task: &TaskKey, after: &[u8]) -> (Bytes, Bytes) {
    let prefix = task_prefix(task);
    let mut start = prefix.to_vec();
    start.extend_from_slice(after);
    if !after.is_empty() {
        start.push(0);
    }
    (start.into(), successor(prefix.to_vec()).into())
}

/// What of a row's key follows the task.
#[must_use]
pub fn in_task<'a>(task: &TaskKey, row: &'a [u8]) -> Option<&'a [u8]> {
    row.strip_prefix(&*task_prefix(task))
}

/// Bucket and key of what [`in_task`] gives.
#[must_use]
pub fn split(in_task: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = in_task.split_first()?;
    let (bucket, key) = rest.split_at_checked(usize::from(*length))?;
    Some((core::str::from_utf8(bucket).ok()?, key))
}

fn bucket_prefix(task: &TaskKey, bucket: &str, more: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(8 + 4 + 1 + bucket.len() + more);
    row.extend_from_slice(&task.deployment.to_be_bytes());
    row.extend_from_slice(&task.number.to_be_bytes());
    row.push(bucket_length(bucket.as_bytes()));
    row.extend_from_slice(bucket.as_bytes());
    row
}

fn bucket_length(bucket: &[u8]) -> u8 {
    u8::try_from(bucket.len()).expect("the manifest bounds names of buckets")
}

/// The first key after all keys that begin with `prefix`.
fn successor(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return prefix;
        }
    }
    // Only 0xff: a deployment's number would have to be all ones.
    prefix
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn task(deployment: u64, number: u32) -> TaskKey {
        TaskKey {
            module: "m".into(),
            deployment,
            number,
        }
    }

    #[test]
    fn rows_have_the_order_of_deployment_task_bucket_and_key() {
        let rows = [
            encode(&task(1, 0), "a", b""),
            encode(&task(1, 0), "a", b"\0"),
            encode(&task(1, 0), "a", b"\xff\xff"),
            encode(&task(1, 0), "b", b""),
            encode(&task(1, 0), "aa", b""),
            encode(&task(1, 1), "a", b""),
            encode(&task(256, 0), "a", b""),
        ];
        assert!(rows.is_sorted());
        assert!(rows[..5].iter().all(|row| row.starts_with(&task_prefix(&task(1, 0)))));
    }

    #[test]
    fn the_rest_of_a_task_begins_behind_a_row() {
        let own = task(1, 7);
        let rows = [
            encode(&own, "a", b""),
            encode(&own, "a", b"\0"),
            encode(&own, "bb", b"k"),
        ];
        let others = [encode(&task(1, 6), "z", b"k"), encode(&task(1, 8), "a", b"")];
        let within = |after: &[u8]| {
            let (start, end) = rest(&own, after);
            let is_within = move |row: &&Bytes| start <= **row && **row < end;
            assert!(!others.iter().any(|row| is_within(&row)));
            rows.iter().filter(is_within).count()
        };
        assert_eq!(within(b""), 3);
        for (place, row) in rows.iter().enumerate() {
            assert_eq!(within(in_task(&own, row).unwrap()), 2 - place);
        }
        assert_eq!(split(in_task(&own, &rows[2]).unwrap()), Some(("bb", &b"k"[..])));
        assert_eq!((split(b""), split(b"\x02a")), (None, None));
    }

    #[test]
    fn a_range_holds_exactly_its_bucket() {
        let own = task(1, 7);
        let (start, end) = range(&own, "a", b"", b"");
        for key in [&b""[..], b"\0", b"\xff\xff\xff"] {
            let row = encode(&own, "a", key);
            assert!(start <= row && row < end);
            assert_eq!(decode(&own, "a", &row), Some(key));
        }
        for other in [
            encode(&own, "b", b""),
            encode(&own, "aa", b""),
            encode(&task(1, 8), "a", b""),
            encode(&task(1, 6), "a", b"\xff"),
        ] {
            assert!(!(start <= other && other < end));
            assert_eq!(decode(&own, "a", &other), None);
        }
        let (start, end) = range(&own, "a", b"k1", b"k3");
        assert!(
            start <= encode(&own, "a", b"k1") && encode(&own, "a", b"k2\xff") < end && end == encode(&own, "a", b"k3")
        );
    }
}
