//! What readers that go on will ask for next, so that it can be read while they are sent what they asked for.
//!
//! Guarantees: whoever comes first reads, the one who waits for it and the one who works ahead, and the other gets the same answer; what is
//! read and not asked for is bounded, and forgotten when many others went on since.
//! Does not do: threads; judge whether what was read may still be given.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{
    LogRead, ReadError,
    gather::Gathered,
    limits::{AHEAD_BYTES_MAX, AHEAD_READS_MAX},
};

#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Oldest first.
    reads: Mutex<VecDeque<(Standing, Arc<Expected>)>>,
}

/// What an expected read is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Perhaps the next, to see whether the reader goes on.
    Noted,
    /// The next, read before anybody asks.
    Next,
    /// The one after the next, likewise: the disk works on while the next is taken.
    AfterNext,
}

/// A read that goes on where another ended.
#[derive(Debug)]
pub(crate) struct Expected {
    read: LogRead,
    answer: OnceLock<Result<Gathered, ReadError>>,
}

impl Expected {
    /// The answer, read now if it was not before.
    pub(crate) fn answer(
        &self,
        read: impl FnOnce(LogRead) -> Result<Gathered, ReadError>,
    ) -> Result<Gathered, ReadError> {
        self.answer.get_or_init(|| read(self.read)).clone()
    }

    /// True if its answer is one to `read`, too.
    pub(crate) fn answers(&self, read: &LogRead) -> bool {
        self.read.bytes_max <= read.bytes_max && self.read.until <= read.until
    }

    fn is_answered(&self) -> bool {
        self.answer.get().is_some()
    }
}

impl Ahead {
    /// A reader has come to where it was expected: it is not expected there any more.
    pub(crate) fn take(&self, read: &LogRead) -> Option<Arc<Expected>> {
        let mut reads = self.reads();
        let at = position(&reads, read)?;
        reads.remove(at).map(|(_, expected)| expected)
    }

    /// True if the answer is here already.
    pub(crate) fn has(&self, read: &LogRead) -> bool {
        let expected = self.find(read);
        expected.is_some_and(|expected| expected.is_answered() && expected.answers(read))
    }

    /// Expects the next read of a reader. Gives it back if it should be worked on: the reader has gone on once already, and there is room.
    pub(crate) fn expect(&self, read: LogRead, has_gone_on: bool) -> Option<LogRead> {
        let mut reads = self.reads();
        if let Some(at) = position(&reads, &read)
            && let Some((standing, known)) = reads.get_mut(at)
        {
            if *standing != Standing::Noted && known.answers(&read) {
                *standing = Standing::Next;
                // Otherwise who reads it sees that it is the next.
                return known.is_answered().then_some(read);
            }
            reads.remove(at);
        }
        let is_promised = make_room(&mut reads, &read) && has_gone_on;
        let standing = if is_promised { Standing::Next } else { Standing::Noted };
        push(&mut reads, standing, read);
        is_promised.then_some(read)
    }

    /// Expects the read that begins at `from`, where the answer to `next` ended. Gives it back if it should be worked on: `next` is the next of its
    /// reader, and there is room.
    pub(crate) fn expect_after(&self, next: &LogRead, from: i64) -> Option<LogRead> {
        let mut reads = self.reads();
        let read = LogRead { from, ..*next };
        let is_wanted = position(&reads, next).is_some_and(|at| reads[at].0 == Standing::Next)
            && position(&reads, &read).is_none()
            && make_room(&mut reads, &read);
        if is_wanted {
            push(&mut reads, Standing::AfterNext, read);
        }
        is_wanted.then_some(read)
    }

    /// What is still expected.
    pub(crate) fn find(&self, read: &LogRead) -> Option<Arc<Expected>> {
        let reads = self.reads();
        position(&reads, read).map(|at| reads[at].1.clone())
    }

    fn reads(&self) -> MutexGuard<'_, VecDeque<(Standing, Arc<Expected>)>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the oldest if too many are known. True if `read` may be worked on.
fn make_room(reads: &mut VecDeque<(Standing, Arc<Expected>)>, read: &LogRead) -> bool {
    if reads.len() == AHEAD_READS_MAX {
        reads.pop_front();
    }
    let promised = reads.iter().filter(|(standing, _)| *standing != Standing::Noted);
    let promised: usize = promised.map(|(_, expected)| expected.read.bytes_max).sum();
    promised.saturating_add(read.bytes_max) <= AHEAD_BYTES_MAX
}

fn push(reads: &mut VecDeque<(Standing, Arc<Expected>)>, standing: Standing, read: LogRead) {
    let answer = OnceLock::new();
    reads.push_back((standing, Arc::new(Expected { read, answer })));
}

fn position(reads: &VecDeque<(Standing, Arc<Expected>)>, read: &LogRead) -> Option<usize> {
    let mut known = reads.iter().map(|(_, expected)| expected.read);
    known.position(|known| (known.log, known.from) == (read.log, read.from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogId;

    fn read(log: u32, bytes_max: usize) -> LogRead {
        LogRead {
            log: LogId(log),
            from: 7,
            until: 9,
            bytes_max,
        }
    }

    #[test]
    fn what_is_read_ahead_is_bounded_and_taken_once() {
        let ahead = Ahead::default();
        let half = AHEAD_BYTES_MAX / 2;
        assert_eq!(ahead.expect(read(1, half), true), Some(read(1, half)));
        assert_eq!(ahead.expect(read(2, half), true), Some(read(2, half)));
        assert_eq!(ahead.expect(read(3, 1), true), None);
        assert!(ahead.take(&read(1, half)).is_some());
        assert!(ahead.take(&read(1, half)).is_none());
        assert_eq!(ahead.expect(read(3, half), true), Some(read(3, half)));
        assert_eq!(ahead.expect(read(3, half), true), None, "it is being worked on");
    }

    #[test]
    fn readers_that_stay_away_are_forgotten() {
        let ahead = Ahead::default();
        assert!(ahead.expect(read(0, AHEAD_BYTES_MAX), true).is_some());
        for log in 1..u32::try_from(AHEAD_READS_MAX).unwrap() {
            assert!(ahead.expect(read(log, 1), true).is_none());
        }
        assert!(ahead.find(&read(0, 1)).is_some());
        assert!(ahead.expect(read(999, 1), true).is_some());
        assert!(ahead.find(&read(0, 1)).is_none());
    }

    #[test]
    fn two_reads_are_worked_on_for_a_reader_and_more_only_as_it_goes_on() {
        let ahead = Ahead::default();
        let next = read(1, 8);
        let after = LogRead { from: 8, ..next };
        assert_eq!(ahead.expect_after(&next, 8), None, "nobody is expected there");
        assert_eq!(ahead.expect(next, true), Some(next));
        assert_eq!(ahead.expect_after(&next, 8), Some(after));
        assert_eq!(ahead.expect_after(&next, 8), None, "it is expected already");
        assert_eq!(ahead.expect_after(&after, 9), None);
        assert!(ahead.take(&next).is_some());
        assert_eq!(ahead.expect(after, true), None, "it is being worked on");
        assert!(ahead.expect_after(&after, 9).is_some());
    }
}
