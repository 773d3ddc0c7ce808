//! Tables as they are kept: views of topics, the latest value of each key over all partitions.
//!
//! ```text
//!  Table::View      topic ──► View { began, next offset of each partition }          in memory too
//!  Table::ViewRow   topic: 16 bytes | began: u64 BE | record's key ──► value         in storage only
//! ```
//!
//! Guaranteed: a view has exactly the records below its offsets, because rows and offset are one entry ([`Fill`]); so it goes on where
//! it was after any crash. There is one view of a topic however many modules name it, from the entry in which the first of them is
//! deployed to the one in which the last is gone. A topic that was deleted and created again has another view, and so has one that
//! nobody named for a while: no key of a view that is gone is ever written again.
//!
//! A key belongs in one partition, as producers see to: of two records of a key in different partitions the one read last counts. A
//! view keeps what retention takes from its topic; it forgets a key by a tombstone alone.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{
    batch::{Encoded, batches},
    ids::Uuid,
    records::Records,
};

use super::{
    apply::Applied,
    change::{Fill, Outcome, Refused},
    durable::Deployment,
};
use crate::{
    effect::{Changes, LogRead, ReadError, Table},
    entry::Stamp,
    limits::{VIEW_BATCH_BYTES_MAX, VIEW_FILL_BYTES, VIEW_FILL_RECORDS_MAX, VIEW_KEY_BYTES_MAX, VIEW_VALUE_BYTES_MAX},
    state::State,
    stored,
    stored::Stored,
};

stored! {
    /// Names the rows of one view.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct ViewId {
        /// The topic.
        pub topic: Uuid,
        /// Index of the entry that began it.
        pub began: u64,
    }
}

impl ViewId {
    /// Key of the row of a record's key, in [`Table::ViewRow`].
    #[must_use]
    pub fn row(&self, key: &[u8]) -> Bytes {
        let mut row = Vec::with_capacity(24 + key.len());
        row.extend_from_slice(&self.topic.0);
        row.extend_from_slice(&self.began.to_be_bytes());
        row.extend_from_slice(key);
        row.into()
    }
}

stored! {
    /// How far a topic is materialised.
    #[derive(Clone, Debug, PartialEq)]
    pub struct View {
        /// Which one it is.
        pub id: ViewId,
        /// Next offset to read, by partition; those that are not named were not read yet.
        pub next: BTreeMap<i32, i64>,
        /// Records that are not in it: without a key, too large, or not as the format says.
        pub left_out: u64,
    }
}

impl View {
    /// Records that are not in it yet, of one partition: (next offset, end).
    pub(super) fn rest(&self, state: &State, partition: i32) -> Option<(i64, i64)> {
        let log = state.topics.get_by_id(&self.id.topic)?.log(partition)?;
        let log = state.logs.get(&log)?;
        let next = self.next.get(&partition).copied().unwrap_or(0).max(log.start);
        Some((next, log.high_watermark()))
    }

    /// Records that are not in it yet.
    pub(super) fn behind(&self, state: &State) -> i64 {
        let rests = self
            .partitions(state)
            .filter_map(|partition| self.rest(state, partition));
        rests.map(|(next, end)| end - next).sum()
    }

    /// Numbers of the topic's partitions.
    pub(super) fn partitions(&self, state: &State) -> core::ops::Range<i32> {
        let topic = state.topics.get_by_id(&self.id.topic);
        0..topic.map_or(0, |topic| i32::try_from(topic.partitions()).unwrap_or(i32::MAX))
    }

    fn save(&self, changes: &mut Changes) {
        changes.put(Table::View, self.id.topic.to_row(), self);
    }
}

/// Begins the views that are named and not there, and drops those that nobody names. For every entry that may change which are named.
pub(crate) fn follow(state: &mut State, at: Stamp, changes: &mut Changes) {
    let named = state.modules.iter().flat_map(topics);
    let ids = named.filter_map(|topic| state.topics.get(topic).map(|topic| topic.id));
    let wanted: BTreeSet<Uuid> = ids.collect();
    for (topic, view) in state.modules.views.extract_if(.., |topic, _| !wanted.contains(topic)) {
        changes.delete(Table::View, topic.to_row());
        changes.cleared.push((Table::ViewRow, view.id.row(b"")));
    }
    for topic in wanted {
        state.modules.views.entry(topic).or_insert_with(|| {
            let began = at.index;
            let id = ViewId { topic, began };
            let (next, left_out) = (BTreeMap::new(), 0);
            let view = View { id, next, left_out };
            view.save(changes);
            view
        });
    }
}

/// Topics of the tables that a deployment names: what runs, and what takes over.
fn topics(deployment: &Deployment) -> impl Iterator<Item = &String> {
    let taking_over = deployment.rollout.as_ref().map(|rollout| rollout.to);
    let numbers = core::iter::once(deployment.current).chain(taking_over);
    let releases = numbers.filter_map(|number| deployment.release(number));
    releases.flat_map(|release| release.manifest.tables.values())
}

pub(super) fn fill(state: &mut State, fill: &Fill, changes: &mut Changes) -> Applied {
    let view = state.modules.views.get_mut(&fill.view.topic);
    let view = view.filter(|view| view.id == fill.view && view.next.get(&fill.partition).copied() == fill.expected);
    let view = view.ok_or(Refused::Fenced)?;
    for (key, value) in &fill.rows {
        changes.put_raw(Table::ViewRow, view.id.row(key), value.clone());
    }
    view.next.insert(fill.partition, fill.next);
    view.left_out += fill.left_out;
    view.save(changes);
    Ok(Outcome::Done)
}

/// What a part of a log says about its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Last value of each key; `None` deletes it.
    pub rows: BTreeMap<Bytes, Option<Bytes>>,
    /// First offset that is not in it.
    pub next: i64,
    /// Records that are not in it though they are below `next`.
    pub left_out: u64,
    records: usize,
    bytes: usize,
}

impl Rows {
    /// Takes the rows out of what [`Effect::ReadRows`](crate::effect::Effect::ReadRows) has read, as far as one entry may take them.
    /// Records may have to be decompressed: this is not for the node's thread.
    ///
    /// # Errors
    /// When a batch is not as it was appended: the disk's fault, or ours.
    pub fn of(read: &LogRead, records: &Records) -> Result<Self, ReadError> {
        let mut rows = Self {
            next: read.from,
            ..Self::default()
        };
        for batch in batches(records) {
            let batch = batch.map_err(|_| ReadError::Failed)?;
            if !rows.take(&batch) {
                break;
            }
        }
        Ok(rows)
    }

    /// False when there is room for no more.
    fn take(&mut self, batch: &Encoded) -> bool {
        let header = batch.header();
        let mut is_whole = header.attributes.is_control;
        if !is_whole && let Ok(payload) = batch.payload(VIEW_BATCH_BYTES_MAX) {
            is_whole = true;
            for record in payload.records() {
                let Ok(record) = record else {
                    is_whole = false;
                    break;
                };
                if record.offset < self.next {
                    continue;
                }
                if VIEW_FILL_RECORDS_MAX <= self.records || VIEW_FILL_BYTES <= self.bytes {
                    return false;
                }
                self.put(record.key, record.value);
                self.next = record.offset + 1;
            }
        }
        // Where its producer wrote something wrongly nobody can say where the next record begins.
        let rest = header.next_offset().saturating_sub(self.next).max(0);
        self.left_out += if is_whole { 0 } else { rest.unsigned_abs() };
        self.next += rest;
        true
    }

    fn put(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records += 1;
        let Some(key) = key.filter(|key| key.len() <= VIEW_KEY_BYTES_MAX) else {
            self.left_out += 1;
            return;
        };
        // A value that is left out hides the one before it: that is not the latest any more.
        let fits = value.filter(|value| value.len() <= VIEW_VALUE_BYTES_MAX);
        self.left_out += u64::from(fits.is_none() && value.is_some());
        self.bytes += key.len() + fits.map_or(0, <[u8]>::len);
        self.rows
            .insert(Bytes::copy_from_slice(key), fits.map(Bytes::copy_from_slice));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::{vec, vec::Vec};

    use tidemill_protocol::batch::{Builder, patch};

    use super::*;
    use crate::{effect::LogId, limits::VIEW_READ_BYTES};

    fn read(from: i64) -> LogRead {
        LogRead {
            log: LogId(0),
            from,
            until: i64::MAX,
            bytes_max: VIEW_READ_BYTES,
        }
    }

    fn batch(base: i64, facts: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder = Builder::new();
        for (key, value) in facts {
            builder.append(0, Some(key.as_bytes()), value.map(str::as_bytes), []);
        }
        patch(&builder.finish(), base, 0).unwrap().concat()
    }

    fn rows(from: i64, batches: &[&[u8]]) -> Result<Rows, ReadError> {
        Rows::of(&read(from), &Records::from(Bytes::from(batches.concat())))
    }

    #[test]
    fn the_last_of_a_key_counts_from_where_the_view_is() {
        let (one, two) = (
            batch(5, &[("a", Some("1")), ("b", Some("2"))]),
            batch(7, &[("b", None)]),
        );
        let from_6 = rows(6, &[&one, &two]).unwrap();
        assert_eq!(from_6.rows, BTreeMap::from([(Bytes::from("b"), None)]));
        assert_eq!((from_6.next, from_6.left_out), (8, 0));
        let from_5 = rows(5, &[&one]).unwrap();
        assert_eq!((from_5.rows.len(), from_5.next), (2, 7));
        assert_eq!(rows(8, &[]).unwrap().next, 8);
    }

    #[test]
    fn what_a_producer_wrote_wrongly_is_left_out_to_the_end_of_its_batch() {
        let mut broken = batch(0, &[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]);
        // The length of the second record: the first has 9 bytes.
        broken[61 + 9] = 0x7f;
        let crc = crc32c::crc32c(&broken[21..]);
        broken[17..21].copy_from_slice(&crc.to_be_bytes());
        let found = rows(0, &[&broken, &batch(3, &[("d", Some("4"))])]).unwrap();
        assert_eq!(found.rows.keys().collect::<Vec<_>>(), ["a", "d"]);
        assert_eq!((found.next, found.left_out), (4, 2));
    }

    #[test]
    fn what_the_disk_has_changed_is_no_record() {
        let mut damaged = batch(0, &[("a", Some("1"))]);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(rows(0, &[&damaged]), Err(ReadError::Failed));
    }

    #[test]
    fn one_entry_takes_no_more_than_it_may() {
        let value = "x".repeat(VIEW_VALUE_BYTES_MAX);
        let large = batch(0, &[("a", Some(&value)), ("b", Some(&value)), ("c", Some(&value))]);
        let first = rows(0, &[&large]).unwrap();
        assert_eq!((first.rows.len(), first.next), (1, 1));
        let many = batch(0, &vec![("k", Some("v")); VIEW_FILL_RECORDS_MAX + 1]);
        let first = rows(0, &[&many]).unwrap();
        assert_eq!(first.next, i64::try_from(VIEW_FILL_RECORDS_MAX).unwrap());
        assert_eq!(rows(first.next, &[&many]).unwrap().next, first.next + 1);
    }
}
