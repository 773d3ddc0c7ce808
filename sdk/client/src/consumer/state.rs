//! What a consumer holds of each partition: where it reads, what is fetched and not yet delivered, what is processed.
//!
//! ```text
//!  ... processed | delivered | fetched, kept ready | not fetched ...
//!              consumed    position            fetch_from
//! ```
//!
//! A partition's `epoch` changes whenever its position is set anew, so that what was fetched or decoded for an earlier
//! position is dropped. Partitions are delivered in turn: each call of `next` continues behind the partition of the last.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use tidemill_protocol::ids::TopicId;
use tidemill_protocol::records::Records;
use tokio::time::Instant;

use super::config::OffsetReset;
use crate::error::Error;
use crate::offsets::{Committed, OffsetSpec};
use crate::record::TopicPartition;

/// How a partition without a position gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locate {
    /// What the group has committed, else by the reset policy.
    Committed,
    /// By the reset policy.
    Reset(OffsetReset),
    /// As asked for.
    At(OffsetSpec),
    /// It has one.
    Done,
    /// It has none and gets none until somebody seeks.
    Never,
}

/// Whether a partition's records may be given to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It came, and its callback has not ended.
    Announced,
    Open,
    /// It is about to go.
    Revoking,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) topic_id: TopicId,
    pub(super) delivery: Delivery,
    pub(super) is_paused: bool,
    pub(super) locate: Locate,
    pub(super) epoch: u64,
    pub(super) position: i64,
    pub(super) consumed: i64,
    pub(super) committed: Option<i64>,
    pub(super) fetch_from: i64,
    pub(super) high_watermark: Option<i64>,
    pub(super) log_start: Option<i64>,
    /// Not fetched before this, after an error.
    pub(super) not_before: Option<Instant>,
    pub(super) fetched: VecDeque<Records>,
    pub(super) fetched_bytes: usize,
}

impl Part {
    pub(super) fn new(topic_id: TopicId, delivery: Delivery, locate: Locate) -> Part {
        Part {
            topic_id,
            delivery,
            is_paused: false,
            locate,
            epoch: 0,
            position: -1,
            consumed: -1,
            committed: None,
            fetch_from: -1,
            high_watermark: None,
            log_start: None,
            not_before: None,
            fetched: VecDeque::new(),
            fetched_bytes: 0,
        }
    }

    /// Reads from `offset` on; what was fetched before is dropped.
    pub(super) fn seek(&mut self, offset: i64) {
        self.relocate(Locate::Done);
        self.position = offset;
        self.consumed = offset;
        self.fetch_from = offset;
    }

    /// Looks for a new position.
    pub(super) fn relocate(&mut self, locate: Locate) {
        self.locate = locate;
        self.epoch += 1;
        self.position = -1;
        self.consumed = -1;
        self.fetched.clear();
        self.fetched_bytes = 0;
        self.not_before = None;
    }

    pub(super) fn is_fetchable(&self) -> bool {
        self.locate == Locate::Done && !self.is_paused && self.delivery == Delivery::Open
    }

    fn is_deliverable(&self) -> bool {
        self.is_fetchable() && !self.fetched.is_empty()
    }
}

/// Records taken out to be decoded.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) place: TopicPartition,
    pub(super) epoch: u64,
    pub(super) position: i64,
    pub(super) high_watermark: i64,
    pub(super) records: Records,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) parts: BTreeMap<TopicPartition, Part>,
    /// The partition delivered last.
    last: Option<TopicPartition>,
    /// Told to the application one by one.
    pub(super) errors: VecDeque<Error>,
    /// Since when the application works on what `next` gave it.
    pub(super) working_since: Option<Instant>,
    /// Member id and epoch, while a member.
    pub(super) member: Option<(String, i32)>,
    pub(super) is_closed: bool,
}

impl State {
    /// The application came back: what it had is processed.
    pub(super) fn idle(&mut self) {
        self.working_since = None;
        for part in self.parts.values_mut() {
            part.consumed = part.position;
        }
    }

    /// The next partition's records, in turn.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let behind = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let upto = self
            .last
            .clone()
            .map_or(Bound::Excluded(TopicPartition::new("", -1)), Bound::Included);
        let deliverable = |(place, part): (&TopicPartition, &Part)| part.is_deliverable().then(|| place.clone());
        let place = self.parts.range((behind, Bound::Unbounded)).find_map(deliverable);
        let place = place.or_else(|| self.parts.range((Bound::Unbounded, upto)).find_map(deliverable))?;
        let part = self.parts.get_mut(&place)?;
        let records = part.fetched.pop_front()?;
        part.fetched_bytes = part.fetched_bytes.saturating_sub(records.len());
        let taken = Taken {
            place: place.clone(),
            epoch: part.epoch,
            position: part.position,
            high_watermark: part.high_watermark.unwrap_or(-1),
            records,
        };
        self.last = Some(place);
        Some(taken)
    }

    /// Moves the position after decoding, and takes back what is left. Whether the records still count.
    pub(super) fn deliver(&mut self, taken: &Taken, position: i64, rest: Records) -> bool {
        let Some(part) = self.parts.get_mut(&taken.place) else {
            return false;
        };
        if part.epoch != taken.epoch || part.delivery != Delivery::Open {
            return false;
        }
        part.position = position;
        if !rest.is_empty() {
            part.fetched_bytes += rest.len();
            part.fetched.push_front(rest);
        }
        true
    }

    /// What is processed and not committed, of all partitions or of some.
    pub(super) fn to_commit(&self, only: Option<&[TopicPartition]>) -> BTreeMap<TopicPartition, Committed> {
        let wanted = |place: &TopicPartition| only.is_none_or(|only| only.contains(place));
        let parts = self
            .parts
            .iter()
            .filter(|(place, part)| wanted(place) && 0 <= part.consumed && part.committed != Some(part.consumed));
        parts
            .map(|(place, part)| (place.clone(), Committed::from(part.consumed)))
            .collect()
    }

    pub(super) fn note_committed(&mut self, committed: &BTreeMap<TopicPartition, Committed>) {
        for (place, committed) in committed {
            if let Some(part) = self.parts.get_mut(place) {
                part.committed = Some(committed.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn part_with(chunks: usize) -> Part {
        let mut part = Part::new(TopicId::ZERO, Delivery::Open, Locate::Committed);
        part.seek(0);
        part.fetched = (0..chunks)
            .map(|_| Records::from(Bytes::from_static(b"batch")))
            .collect();
        part.fetched_bytes = 5 * chunks;
        part
    }

    fn state(partitions: i32) -> State {
        let parts = (0..partitions).map(|p| (TopicPartition::new("t", p), part_with(3)));
        State {
            parts: parts.collect(),
            ..State::default()
        }
    }

    fn take_partition(state: &mut State) -> Option<i32> {
        state.take().map(|taken| taken.place.partition)
    }

    #[test]
    fn partitions_are_delivered_in_turn() {
        let mut state = state(3);
        let order: Vec<_> = std::iter::from_fn(|| take_partition(&mut state)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_paused_partition_keeps_its_place_and_its_records() {
        let mut state = state(2);
        state
            .parts
            .get_mut(&TopicPartition::new("t", 0))
            .expect("it is there")
            .is_paused = true;
        assert_eq!(
            (0..3).filter_map(|_| take_partition(&mut state)).collect::<Vec<_>>(),
            [1, 1, 1]
        );
        assert_eq!(take_partition(&mut state), None);
        state
            .parts
            .get_mut(&TopicPartition::new("t", 0))
            .expect("it is there")
            .is_paused = false;
        assert_eq!(take_partition(&mut state), Some(0));
    }

    #[test]
    fn records_of_an_earlier_position_do_not_count() {
        let mut state = state(1);
        let taken = state.take().expect("there are records");
        state.parts.get_mut(&taken.place).expect("it is there").seek(100);
        assert!(!state.deliver(&taken, 5, Records::new()));
        assert_eq!(state.parts[&taken.place].position, 100);
    }

    #[test]
    fn what_was_delivered_is_processed_when_the_application_comes_back() {
        let mut state = state(1);
        let taken = state.take().expect("there are records");
        assert!(state.deliver(&taken, 5, Records::new()));
        assert_eq!(
            state.to_commit(None).values().map(|c| c.offset).collect::<Vec<_>>(),
            [0]
        );
        state.idle();
        let to_commit = state.to_commit(None);
        assert_eq!(to_commit[&taken.place].offset, 5);
        state.note_committed(&to_commit);
        assert!(state.to_commit(None).is_empty());
    }
}
