//! A call's own state writes over the committed state: reads see both, the commit gets the writes.
//!
//! Guarantees: keys in byte order, own writes visible in gets and scans, expired entries in neither, the quotas hold. A key written
//! twice is committed once. What a write adds to the size of the state is known exactly: the row it replaces has been looked at. Does
//! not decide who may open a bucket.
use std::{
    collections::{BTreeMap, HashMap, VecDeque, btree_map},
    ops::Bound,
};

use bytes::Bytes;
use tidemill_broker::module::{
    expiry_row::{self, Stamp},
    run::{STATE_ROW_BYTES, StateReader, StateRow, StateScan, TaskKey},
};
use tidemill_protocol::manifest::Clock;

use crate::{expiry::INDEX, limits};

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The call's quota is used up.
    Writes,
    /// The task's quota is used up.
    State,
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

/// When the entries of a bucket expire, for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// By which clock.
    pub(crate) clock: Clock,
    /// What expired at this moment or before is gone. `None`: nothing is.
    pub(crate) read_at: Option<i64>,
    /// When what is written now expires.
    pub(crate) expires_at: i64,
    /// What is there already expires when it would have without the write: a migration makes nothing younger.
    pub(crate) keeps_age: bool,
}

/// The committed state of one bucket of one task.
#[derive(Clone, Copy)]
pub(crate) struct Committed<'a> {
    /// Where it is read.
    pub(crate) reader: &'a dyn StateReader,
    /// Whose it is.
    pub(crate) task: &'a TaskKey,
    /// Which bucket of rows.
    pub(crate) bucket: &'a str,
}

impl<'a> Committed<'a> {
    /// At most so many rows from `start` up to `end`, read a few at a time.
    pub(crate) fn rows(self, start: &[u8], end: &'a [u8], most: usize) -> impl Iterator<Item = (Bytes, Bytes)> {
        let (mut page, mut from, mut left) = (Vec::new().into_iter(), start.to_vec(), most);
        std::iter::from_fn(move || {
            if page.len() == 0 && left != 0 {
                let entries_max = left.min(limits::ROWS_READ);
                let rows = self.reader.scan(StateScan {
                    task: self.task,
                    bucket: self.bucket,
                    start: &from,
                    end,
                    reverse: false,
                    entries_max,
                });
                left = if rows.len() < entries_max { 0 } else { left - rows.len() };
                if let Some((last, _)) = rows.last() {
                    from = after(last);
                }
                page = rows.into_iter();
            }
            page.next()
        })
    }
}

/// What is known of a committed row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Before {
    /// What it counts for; 0 if there is none.
    bytes: u64,
    /// Its place in the index, if it expires.
    indexed_at: Option<i64>,
    /// When it expires, if it does.
    expires_at: Option<i64>,
}

/// A write: the new value, and what it replaces.
#[derive(Debug, Default)]
struct Write {
    value: Option<Bytes>,
    before: Before,
}

/// Writes of one call to one bucket.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Where the write of a key is: writes in the nodes of the tree would make nodes of more than a kilobyte, which allocators are slow with.
    keys: BTreeMap<Bytes, usize>,
    writes: Vec<Write>,
    /// Committed rows that were looked at: who reads a key often writes it then.
    known: HashMap<Bytes, Before>,
    expiry: Option<Expiry>,
}

/// What a call may still write.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quota {
    /// Bytes written.
    pub(crate) used: usize,
    /// Bytes that may be written.
    pub(crate) max: usize,
    /// Bytes of state before the call.
    pub(crate) state: u64,
    /// Bytes that the state may have.
    pub(crate) state_max: u64,
    /// By how much the call makes it grow.
    pub(crate) growth: i64,
}

impl Overlay {
    /// No writes yet, to a bucket whose entries expire or stay.
    pub(crate) fn new(expiry: Option<Expiry>) -> Self {
        Self {
            expiry,
            ..Self::default()
        }
    }

    /// Value of a key.
    pub(crate) fn get(&mut self, committed: Committed<'_>, key: &[u8]) -> Option<Bytes> {
        if let Some(place) = self.keys.get(key) {
            return self.writes[*place].value.clone();
        }
        if self.known.get(key).is_some_and(|before| before.bytes == 0) {
            return None;
        }
        let row = committed.get(key);
        let (before, value) = open(self.expiry.as_ref(), key, row);
        if self.known.len() < limits::KNOWN_KEYS_MAX && key.len() <= limits::KNOWN_KEY_BYTES_MAX {
            self.known.insert(Bytes::copy_from_slice(key), before);
        }
        value
    }

    /// Writes a value, or deletes the key.
    pub(crate) fn write(
        &mut self,
        committed: Committed<'_>,
        key: Bytes,
        value: Option<Bytes>,
        quota: &mut Quota,
    ) -> Result<(), Refused> {
        check_sizes(&key, value.as_ref())?;
        let entry = self.keys.entry(key);
        let before = match &entry {
            btree_map::Entry::Occupied(own) => self.writes[*own.get()].before,
            btree_map::Entry::Vacant(place) => match self.known.remove(place.key()) {
                Some(before) => before,
                None => open(self.expiry.as_ref(), place.key(), committed.get(place.key())).0,
            },
        };
        put(entry, &mut self.writes, Write { value, before }, quota)
    }

    /// Adds to a counter kept as eight bytes, little endian; the sum.
    pub(crate) fn increment(
        &mut self,
        committed: Committed<'_>,
        key: Bytes,
        delta: i64,
        quota: &mut Quota,
    ) -> Result<i64, Refused> {
        check_sizes(&key, None)?;
        let entry = self.keys.entry(key);
        let (before, value) = match &entry {
            btree_map::Entry::Occupied(own) => {
                let write = &self.writes[*own.get()];
                (write.before, write.value.clone())
            }
            btree_map::Entry::Vacant(place) => open(self.expiry.as_ref(), place.key(), committed.get(place.key())),
        };
        let counted = match value {
            Some(bytes) => i64::from_le_bytes(bytes.as_ref().try_into().map_err(|_| Refused::NotACounter)?),
            None => 0,
        };
        let sum = counted.checked_add(delta).ok_or(Refused::Overflow)?;
        let value = Some(Bytes::copy_from_slice(&sum.to_le_bytes()));
        put(entry, &mut self.writes, Write { value, before }, quota)?;
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
                self.write(committed, key, None, quota)?;
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
        let mut merged = Merged::new(self, committed, range, entries_max);
        for (key, value) in merged.by_ref() {
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
        page.next = page.next.or_else(|| merged.resume());
        page
    }

    /// Own writes within a range.
    fn own(&self, range: &KeyRange) -> Own<'_> {
        if !range.end.is_empty() && range.end <= range.start {
            return Box::new(std::iter::empty());
        }
        let end = if range.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(range.end.as_slice())
        };
        let keys = self
            .keys
            .range::<[u8], _>((Bound::Included(range.start.as_slice()), end));
        let own = keys.map(|(key, place)| (key, &self.writes[*place]));
        if range.reverse {
            Box::new(own.rev())
        } else {
            Box::new(own)
        }
    }

    /// Which clock removes entries of this bucket, and what it says; nothing is removed before it says anything.
    pub(crate) fn expires(&self) -> Option<(Clock, i64)> {
        let expiry = self.expiry?;
        Some((expiry.clock, expiry.read_at?))
    }

    /// The rows to commit of a bucket whose entries stay.
    pub(crate) fn rows(&self, bucket: &str, rows: &mut Vec<StateRow>) {
        let bucket = Bytes::copy_from_slice(bucket.as_bytes());
        let row = |(key, place): (&Bytes, &usize)| (bucket.clone(), key.clone(), self.writes[*place].value.clone());
        rows.extend(self.keys.iter().map(row));
    }

    /// The rows to commit, in order of keys; those of the index follow what they are about.
    pub(crate) fn finish(mut self, bucket: &str, rows: &mut Vec<StateRow>) {
        let name = Bytes::copy_from_slice(bucket.as_bytes());
        let writes = self.keys.into_iter();
        let writes = writes.map(|(key, place)| (key, std::mem::take(&mut self.writes[place])));
        let Some(expiry) = self.expiry else {
            return rows.extend(writes.map(|(key, write)| (name.clone(), key, write.value)));
        };
        let index = |at, key: &Bytes| expiry_row::index_key(expiry.clock, at, bucket, key);
        for (key, Write { value, before }) in writes {
            let is_due = |at: i64| expiry.read_at.is_some_and(|now| at <= now);
            let own = before.expires_at.filter(|at| expiry.keeps_age && !is_due(*at));
            let expires_at = own.unwrap_or(expiry.expires_at);
            let indexed_at = before.indexed_at.filter(|at| *at <= expires_at && !is_due(*at));
            // The index keeps its row until that is due, or until there is nothing or something earlier to point at.
            let gone = before.indexed_at.filter(|_| value.is_none() || indexed_at.is_none());
            if let Some(at) = gone {
                rows.push((INDEX, index(at, &key), None));
            }
            if value.is_some() && indexed_at.is_none() {
                let row = index(expires_at, &key);
                rows.push((INDEX, row, Some(Bytes::new())));
            }
            let stamp = Stamp {
                expires_at,
                indexed_at: indexed_at.unwrap_or(expires_at),
            };
            let value = value.map(|value| expiry_row::encode(stamp, &value));
            rows.push((name.clone(), key, value));
        }
    }
}

impl Committed<'_> {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.reader.get(self.task, self.bucket, key)
    }
}

/// What a committed row says: what it counts for, and its value if it has not expired.
fn open(expiry: Option<&Expiry>, key: &[u8], row: Option<Bytes>) -> (Before, Option<Bytes>) {
    let Some(row) = row else {
        return (Before::default(), None);
    };
    let Some(expiry) = expiry else {
        let before = Before {
            bytes: size(key, Some(row.len())),
            ..Before::default()
        };
        return (before, Some(row));
    };
    let Some((stamp, value)) = expiry_row::decode(&row) else {
        return (Before::default(), None);
    };
    let before = Before {
        bytes: size(key, Some(value.len())),
        indexed_at: Some(stamp.indexed_at),
        expires_at: Some(stamp.expires_at),
    };
    let has_expired = expiry.read_at.is_some_and(|now| stamp.expires_at <= now);
    (before, Some(value).filter(|_| !has_expired))
}

/// Writes over what was found of the key; the sizes were checked.
fn put(
    entry: btree_map::Entry<'_, Bytes, usize>,
    writes: &mut Vec<Write>,
    write: Write,
    quota: &mut Quota,
) -> Result<(), Refused> {
    let (key, value) = (entry.key(), write.value.as_ref());
    let own = match &entry {
        btree_map::Entry::Occupied(own) => Some(writes[*own.get()].value.as_ref()),
        btree_map::Entry::Vacant(_) => None,
    };
    let used = quota.used - own.map_or(0, |old| cost(key, old)) + cost(key, value);
    if quota.max < used {
        return Err(Refused::Writes);
    }
    let old = own.map_or(write.before.bytes, |old| size(key, old.map(Bytes::len)));
    let new = size(key, value.map(Bytes::len));
    let growth = quota.growth + new.cast_signed() - old.cast_signed();
    if old < new && quota.state_max < quota.state.saturating_add_signed(growth) {
        return Err(Refused::State);
    }
    (quota.used, quota.growth) = (used, growth);
    match entry {
        btree_map::Entry::Occupied(own) => writes[*own.get()] = write,
        btree_map::Entry::Vacant(place) => {
            place.insert(writes.len());
            writes.push(write);
        }
    }
    Ok(())
}

/// Before anything is looked up by such a key.
fn check_sizes(key: &Bytes, value: Option<&Bytes>) -> Result<(), Refused> {
    if limits::STATE_KEY_BYTES_MAX < key.len() {
        return Err(Refused::KeyTooLarge);
    }
    if value.is_some_and(|value| limits::STATE_VALUE_BYTES_MAX < value.len()) {
        return Err(Refused::ValueTooLarge);
    }
    Ok(())
}

/// What a write counts for in the call's quota.
fn cost(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + limits::STATE_WRITE_OVERHEAD
}

/// What an entry counts for in the size of the state; no value is no entry.
pub(crate) fn size(key: &[u8], value: Option<usize>) -> u64 {
    value.map_or(0, |value| (key.len() + value) as u64 + STATE_ROW_BYTES)
}

/// The first key after this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Committed entries and own writes in one order; deleted keys are left out.
struct Merged<'a> {
    own: Own<'a>,
    own_head: Option<(&'a Bytes, &'a Write)>,
    committed: Pages<'a>,
    committed_head: Option<(Bytes, Bytes)>,
    reverse: bool,
}

type Own<'a> = Box<dyn Iterator<Item = (&'a Bytes, &'a Write)> + 'a>;

impl<'a> Merged<'a> {
    fn new(overlay: &'a Overlay, committed: Committed<'a>, range: &KeyRange, expected: usize) -> Self {
        let mut merged = Self {
            own: overlay.own(range),
            own_head: None,
            committed: Pages {
                overlay,
                committed,
                range: range.clone(),
                page: VecDeque::new(),
                page_entries: expected.saturating_add(1).min(limits::ROWS_READ),
                done: false,
                expired: 0,
                stopped: None,
            },
            committed_head: None,
            reverse: range.reverse,
        };
        merged.own_head = merged.own.next();
        merged.committed_head = merged.committed.next();
        merged
    }
}

impl Merged<'_> {
    /// Where to go on when so many entries had expired that the host stops looking.
    fn resume(&self) -> Option<Vec<u8>> {
        let stopped = self.committed.stopped.as_ref()?;
        let own = self.own_head.map(|(key, _)| key);
        let next = if self.reverse {
            own.map_or(stopped.to_vec(), |own| after(own).max(stopped.to_vec()))
        } else {
            own.map_or(after(stopped), |own| after(stopped).min(own.to_vec()))
        };
        // Below the empty key there is nothing; as an end it would mean no bound.
        Some(next).filter(|next| !next.is_empty())
    }
}

impl Iterator for Merged<'_> {
    type Item = (Bytes, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let own_first = match (&self.own_head, &self.committed_head) {
                (None, None) => return None,
                (Some(_), None) if self.committed.stopped.is_some() => return None,
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
            if let Some(value) = &value.value {
                return Some((key.clone(), value.clone()));
            }
        }
    }
}

/// Committed entries, a page at a time.
struct Pages<'a> {
    overlay: &'a Overlay,
    committed: Committed<'a>,
    range: KeyRange,
    page: VecDeque<(Bytes, Bytes)>,
    page_entries: usize,
    done: bool,
    /// Entries passed over, and the last of them if there were too many.
    expired: usize,
    stopped: Option<Bytes>,
}

impl Pages<'_> {
    fn next(&mut self) -> Option<(Bytes, Bytes)> {
        while self.stopped.is_none() {
            if self.page.is_empty() && !self.done {
                self.fetch();
            }
            let (key, row) = self.page.pop_front()?;
            if let (_, Some(value)) = open(self.overlay.expiry.as_ref(), &key, Some(row)) {
                return Some((key, value));
            }
            self.expired += 1;
            if limits::SCAN_EXPIRED_MAX <= self.expired {
                self.stopped = Some(key);
            }
        }
        None
    }

    fn fetch(&mut self) {
        let KeyRange { start, end, reverse } = &self.range;
        let empty = !end.is_empty() && end <= start;
        if !empty {
            let Committed { reader, task, bucket } = self.committed;
            let scan = StateScan {
                task,
                bucket,
                start,
                end,
                reverse: *reverse,
                entries_max: self.page_entries,
            };
            self.page = reader.scan(scan).into();
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
mod tests;
