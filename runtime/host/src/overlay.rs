//! A call's own state writes over the committed state: reads see both, the commit gets the writes.
//!
//! Guarantees: keys in byte order, own writes visible in gets and scans, the quota holds. A key written twice is committed once. Does not
//! decide who may open a bucket.
use std::{
    collections::{BTreeMap, VecDeque, btree_map},
    ops::Bound,
};

use bytes::Bytes;
use tidemill_broker::module::run::{StateReader, TaskKey};

use crate::limits;

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The call's quota is used up.
    Quota,
    /// The key is larger than any may be.
    KeyTooLarge,
    /// The value is larger than any may be.
    ValueTooLarge,
    /// `increment` on what is not eight bytes.
    NotACounter,
    /// The sum does not fit.
    Overflow,
}

/// Keys `start..end` in byte order; an empty end has no bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRange {
    /// Inclusive.
    pub(crate) start: Vec<u8>,
    /// Exclusive.
    pub(crate) end: Vec<u8>,
    /// From the last key down.
    pub(crate) reverse: bool,
}

/// One page of a scan.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Entries in the order asked for.
    pub(crate) entries: Vec<(Bytes, Bytes)>,
    /// Where the next page starts (`start`, or `end` when reversed).
    pub(crate) next: Option<Vec<u8>>,
}

/// The committed state of one bucket of one task.
#[derive(Clone, Copy)]
pub(crate) struct Committed<'a> {
    /// Where it is read.
    pub(crate) reader: &'a dyn StateReader,
    /// Whose it is.
    pub(crate) task: &'a TaskKey,
    /// Which bucket.
    pub(crate) bucket: &'a str,
}

/// Writes of one call to one bucket.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    writes: BTreeMap<Bytes, Option<Bytes>>,
}

/// What a call may still write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Bytes used.
    pub(crate) used: usize,
    /// Bytes allowed.
    pub(crate) max: usize,
}

impl Overlay {
    /// Value of a key.
    pub(crate) fn get(&self, committed: Committed<'_>, key: &[u8]) -> Option<Bytes> {
        match self.writes.get(key) {
            Some(written) => written.clone(),
            None => committed.reader.get(committed.task, committed.bucket, key),
        }
    }

    /// Writes a value, or deletes the key.
    pub(crate) fn write(&mut self, key: Bytes, value: Option<Bytes>, quota: &mut Quota) -> Result<(), Refused> {
        if limits::STATE_KEY_BYTES_MAX < key.len() {
            return Err(Refused::KeyTooLarge);
        }
        if value
            .as_ref()
            .is_some_and(|value| limits::STATE_VALUE_BYTES_MAX < value.len())
        {
            return Err(Refused::ValueTooLarge);
        }
        let before = self.writes.get(&key).map_or(0, |old| cost(&key, old.as_ref()));
        let used = quota.used - before + cost(&key, value.as_ref());
        if quota.max < used {
            return Err(Refused::Quota);
        }
        quota.used = used;
        self.writes.insert(key, value);
        Ok(())
    }

    /// Adds to a counter kept as eight bytes, little endian; the sum.
    pub(crate) fn increment(
        &mut self,
        committed: Committed<'_>,
        key: Bytes,
        delta: i64,
        quota: &mut Quota,
    ) -> Result<i64, Refused> {
        let before = match self.get(committed, &key) {
            Some(bytes) => i64::from_le_bytes(bytes.as_ref().try_into().map_err(|_| Refused::NotACounter)?),
            None => 0,
        };
        let sum = before.checked_add(delta).ok_or(Refused::Overflow)?;
        self.write(key, Some(Bytes::copy_from_slice(&sum.to_le_bytes())), quota)?;
        Ok(sum)
    }

    /// Deletes every key of a range; how many there were. `go_on` is asked between pages.
    pub(crate) fn delete_range(
        &mut self,
        committed: Committed<'_>,
        mut range: KeyRange,
        quota: &mut Quota,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<u64, Refused> {
        let mut deleted = 0;
        range.reverse = false;
        while go_on() {
            let page = self.scan(committed, &range, limits::SCAN_ENTRIES_MAX, limits::SCAN_BYTES_MAX);
            for (key, _) in page.entries {
                self.write(key, None, quota)?;
                deleted += 1;
            }
            match page.next {
                Some(next) => range.start = next,
                None => break,
            }
        }
        Ok(deleted)
    }

    /// Entries of a range: at most so many, and so many bytes (but always one if there is one).
    pub(crate) fn scan(
        &self,
        committed: Committed<'_>,
        range: &KeyRange,
        entries_max: usize,
        bytes_max: usize,
    ) -> Page {
        let mut page = Page::default();
        let mut bytes = 0;
        for (key, value) in Merged::new(&self.writes, committed, range, entries_max) {
            let size = key.len() + value.len();
            let full = entries_max <= page.entries.len() || bytes_max < bytes + size;
            if full && !page.entries.is_empty() {
                page.next = page
                    .entries
                    .last()
                    .map(|(last, _)| if range.reverse { last.to_vec() } else { after(last) });
                break;
            }
            bytes += size;
            page.entries.push((key, value));
        }
        page
    }

    /// The writes, in order of keys.
    pub(crate) fn into_writes(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        self.writes.into_iter()
    }
}

fn cost(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + limits::STATE_WRITE_OVERHEAD
}

/// The first key after this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Committed entries and own writes in one order; deleted keys are left out.
struct Merged<'a> {
    own: Own<'a>,
    own_head: Option<(&'a Bytes, &'a Option<Bytes>)>,
    committed: Pages<'a>,
    committed_head: Option<(Bytes, Bytes)>,
    reverse: bool,
}

enum Own<'a> {
    Forward(btree_map::Range<'a, Bytes, Option<Bytes>>),
    Reverse(std::iter::Rev<btree_map::Range<'a, Bytes, Option<Bytes>>>),
    Empty,
}

impl<'a> Merged<'a> {
    fn new(
        writes: &'a BTreeMap<Bytes, Option<Bytes>>,
        committed: Committed<'a>,
        range: &KeyRange,
        expected: usize,
    ) -> Self {
        let mut merged = Self {
            own: Own::new(writes, range),
            own_head: None,
            committed: Pages {
                committed,
                range: range.clone(),
                page: VecDeque::new(),
                page_entries: expected.saturating_add(1).min(512),
                done: false,
            },
            committed_head: None,
            reverse: range.reverse,
        };
        merged.own_head = merged.own.next();
        merged.committed_head = merged.committed.next();
        merged
    }
}

impl Iterator for Merged<'_> {
    type Item = (Bytes, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let own_first = match (&self.own_head, &self.committed_head) {
                (None, None) => return None,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((own, _)), Some((committed, _))) => {
                    if own.as_ref() == committed.as_ref() {
                        self.committed_head = self.committed.next();
                        continue;
                    }
                    (own.as_ref() < committed.as_ref()) != self.reverse
                }
            };
            if !own_first {
                let next = self.committed.next();
                return std::mem::replace(&mut self.committed_head, next);
            }
            let (key, value) = self.own_head.take()?;
            self.own_head = self.own.next();
            if let Some(value) = value {
                return Some((key.clone(), value.clone()));
            }
        }
    }
}

impl<'a> Own<'a> {
    fn new(writes: &'a BTreeMap<Bytes, Option<Bytes>>, range: &KeyRange) -> Self {
        if !range.end.is_empty() && range.end <= range.start {
            return Self::Empty;
        }
        let end = if range.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(range.end.as_slice())
        };
        let own = writes.range::<[u8], _>((Bound::Included(range.start.as_slice()), end));
        if range.reverse {
            Self::Reverse(own.rev())
        } else {
            Self::Forward(own)
        }
    }

    fn next(&mut self) -> Option<(&'a Bytes, &'a Option<Bytes>)> {
        match self {
            Self::Forward(own) => own.next(),
            Self::Reverse(own) => own.next(),
            Self::Empty => None,
        }
    }
}

/// Committed entries, a page at a time.
struct Pages<'a> {
    committed: Committed<'a>,
    range: KeyRange,
    page: VecDeque<(Bytes, Bytes)>,
    page_entries: usize,
    done: bool,
}

impl Pages<'_> {
    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        if self.page.is_empty() && !self.done {
            self.fetch();
        }
        self.page.pop_front()
    }

    fn fetch(&mut self) {
        let KeyRange { start, end, reverse } = &self.range;
        let empty = !end.is_empty() && end <= start;
        if !empty {
            let Committed { reader, task, bucket } = self.committed;
            self.page = reader
                .scan(task, bucket, start, end, *reverse, self.page_entries)
                .into();
        }
        self.done = self.page.len() < self.page_entries;
        if let Some((last, _)) = self.page.back() {
            if self.range.reverse {
                self.range.end = last.to_vec();
                // An empty end means no bound: nothing lies below the empty key.
                self.done |= last.is_empty();
            } else {
                self.range.start = after(last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Committed state for tests.
    struct Rows(BTreeMap<Vec<u8>, Bytes>);

    impl StateReader for Rows {
        fn get(&self, _: &TaskKey, _: &str, key: &[u8]) -> Option<Bytes> {
            self.0.get(key).cloned()
        }

        fn scan(
            &self,
            _: &TaskKey,
            _: &str,
            start: &[u8],
            end: &[u8],
            reverse: bool,
            entries_max: usize,
        ) -> Vec<(Bytes, Bytes)> {
            let inside = self
                .0
                .iter()
                .filter(|(key, _)| start <= key.as_slice() && (end.is_empty() || key.as_slice() < end));
            let mut rows: Vec<_> = inside
                .map(|(key, value)| (Bytes::from(key.clone()), value.clone()))
                .collect();
            if reverse {
                rows.reverse();
            }
            rows.truncate(entries_max);
            rows
        }
    }

    fn key(n: u32) -> Vec<u8> {
        n.to_be_bytes()[2..].to_vec()
    }

    #[test]
    fn pages_of_a_scan_are_the_model_in_order() {
        let task = TaskKey {
            module: "m".into(),
            deployment: 1,
            number: 0,
        };
        let rows = Rows(
            (0..1_500)
                .step_by(2)
                .map(|n| (key(n), Bytes::from_static(b"old")))
                .collect(),
        );
        let committed = Committed {
            reader: &rows,
            task: &task,
            bucket: "b",
        };
        let (mut overlay, mut quota) = (Overlay::default(), Quota { used: 0, max: 1 << 20 });
        let mut model = rows.0.clone();
        for n in (0..1_500).step_by(3) {
            let value = (n % 2 == 0).then(|| Bytes::from_static(b"new"));
            overlay.write(key(n).into(), value.clone(), &mut quota).unwrap();
            match value {
                Some(value) => model.insert(key(n), value),
                None => model.remove(&key(n)),
            };
        }
        overlay
            .write(Bytes::new(), Some(Bytes::from_static(b"empty key")), &mut quota)
            .unwrap();
        model.insert(Vec::new(), Bytes::from_static(b"empty key"));
        for (reverse, start, end) in [
            (false, vec![], vec![]),
            (true, vec![], vec![]),
            (false, key(7), key(1_000)),
            (true, key(7), key(1_000)),
        ] {
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(k, _)| start <= **k && (end.is_empty() || **k < end))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if reverse {
                expected.reverse();
            }
            let (mut found, mut range) = (Vec::new(), KeyRange { start, end, reverse });
            loop {
                let page = overlay.scan(committed, &range, 37, 1 << 20);
                found.extend(page.entries.into_iter().map(|(k, v)| (k.to_vec(), v)));
                match page.next {
                    Some(next) if reverse => range.end = next,
                    Some(next) => range.start = next,
                    None => break,
                }
            }
            assert_eq!(found, expected);
        }
        let deleted = overlay
            .delete_range(
                committed,
                KeyRange {
                    start: key(1),
                    ..KeyRange::default()
                },
                &mut quota,
                || true,
            )
            .unwrap();
        assert_eq!(deleted, model.len() as u64 - 2);
        assert_eq!(overlay.scan(committed, &KeyRange::default(), 10, 100).entries.len(), 2);
    }

    #[test]
    fn a_key_written_again_counts_once() {
        let (mut overlay, mut quota) = (Overlay::default(), Quota { used: 0, max: 100 });
        for _ in 0..1_000 {
            overlay
                .write(Bytes::from_static(b"k"), Some(Bytes::from_static(b"value")), &mut quota)
                .unwrap();
        }
        let refused = overlay.write(Bytes::from_static(b"l"), Some(Bytes::from(vec![0; 100])), &mut quota);
        assert_eq!(refused, Err(Refused::Quota));
    }
}
