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
use bytes::Bytes;

use super::run::TaskKey;

/// Key of one entry of a bucket.
#[must_use]
pub fn encode(task: &TaskKey, bucket: &str, key: &[u8]) -> Bytes {
    let mut row = bucket_prefix(task, bucket, key.len());
    row.extend_from_slice(key);
    row.into()
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

/// What the keys of all rows of a deployment begin with.
#[must_use]
pub fn deployment_prefix(deployment: u64) -> Bytes {
    Bytes::copy_from_slice(&deployment.to_be_bytes())
}

fn bucket_prefix(task: &TaskKey, bucket: &str, more: usize) -> Vec<u8> {
    let length = u8::try_from(bucket.len()).expect("the manifest bounds names of buckets");
    let mut row = Vec::with_capacity(8 + 4 + 1 + bucket.len() + more);
    row.extend_from_slice(&task.deployment.to_be_bytes());
    row.extend_from_slice(&task.number.to_be_bytes());
    row.push(length);
    row.extend_from_slice(bucket.as_bytes());
    row
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
        assert!(rows[..6].iter().all(|row| row.starts_with(&deployment_prefix(1))));
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
