//! Which dead letters of a task were processed again. Part of the task's row, so that a letter is done once.
use alloc::{collections::BTreeMap, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::change::Redriven;
use crate::{limits::REDRIVEN_RANGES_MAX, stored};

stored! {
    /// Ranges of offsets that are done, by partition of a dead-letter topic.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Marks {
        /// `[first, end)`, in order, apart from each other.
        pub done: BTreeMap<(Uuid, i32), Vec<(i64, i64)>>,
    }
}

impl Marks {
    /// Whether this letter is done.
    #[must_use]
    pub fn contains(&self, letter: &Redriven) -> bool {
        let ranges = self.done.get(&(letter.topic, letter.partition));
        let has = |(first, end): &(i64, i64)| (*first..*end).contains(&letter.offset);
        ranges.is_some_and(|ranges| ranges.iter().any(has))
    }

    /// Whether there are too many gaps between what is done to remember one more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        REDRIVEN_RANGES_MAX <= self.done.values().map(Vec::len).sum()
    }

    /// Takes note that a letter is done, and that this task has none between `from` and it.
    pub fn add(&mut self, letter: &Redriven) {
        let ranges = self.done.entry((letter.topic, letter.partition)).or_default();
        let (mut first, mut end) = (letter.from.min(letter.offset), letter.offset + 1);
        ranges.retain(|(other, other_end)| {
            let is_apart = *other_end < first || end < *other;
            if !is_apart {
                first = first.min(*other);
                end = end.max(*other_end);
            }
            is_apart
        });
        let place = ranges.partition_point(|(other, _)| *other < first);
        ranges.insert(place, (first, end));
    }

    /// Forgets what retention has deleted.
    pub fn forget_before(&mut self, topic: Uuid, partition: i32, start: i64) {
        if let Some(ranges) = self.done.get_mut(&(topic, partition)) {
            ranges.retain(|(_, end)| start < *end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(from: i64, offset: i64) -> Redriven {
        Redriven {
            topic: Uuid([1; 16]),
            partition: 0,
            from,
            offset,
        }
    }

    #[test]
    fn ranges_grow_together() {
        let mut marks = Marks::default();
        for (from, offset) in [(0, 3), (9, 12), (4, 4)] {
            marks.add(&letter(from, offset));
        }
        assert_eq!(marks.done.values().next(), Some(&alloc::vec![(0, 5), (9, 13)]));
        marks.add(&letter(5, 8));
        assert_eq!(marks.done.values().next(), Some(&alloc::vec![(0, 13)]));
        assert!(marks.contains(&letter(0, 12)) && !marks.contains(&letter(0, 13)));
        marks.forget_before(Uuid([1; 16]), 0, 13);
        assert!(!marks.contains(&letter(0, 12)));
    }
}
