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
    limits::{AHEAD_BYTES_MAX, AHEAD_READERS_MAX},
};

#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Oldest first.
    expected: Mutex<VecDeque<Arc<Expected>>>,
}

/// A read that goes on where another ended.
#[derive(Debug)]
pub(crate) struct Expected {
    read: LogRead,
    /// Whether it is worth reading before anybody asks.
    is_promised: bool,
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
}

impl Ahead {
    /// A reader has come to where it was expected: it is not expected there any more.
    pub(crate) fn take(&self, read: &LogRead) -> Option<Arc<Expected>> {
        let mut expected = self.expected();
        let at = position(&expected, read)?;
        expected.remove(at)
    }

    /// Expects a read. Gives it back if it should be read before: the reader has gone on once already, and there is room.
    pub(crate) fn expect(&self, read: LogRead, has_gone_on: bool) -> Option<LogRead> {
        let mut expected = self.expected();
        if let Some(at) = position(&expected, &read) {
            expected.remove(at);
        }
        if expected.len() == AHEAD_READERS_MAX {
            expected.pop_front();
        }
        let promised = expected.iter().filter(|expected| expected.is_promised);
        let promised: usize = promised.map(|expected| expected.read.bytes_max).sum();
        let is_promised = has_gone_on && promised.saturating_add(read.bytes_max) <= AHEAD_BYTES_MAX;
        let answer = OnceLock::new();
        expected.push_back(Arc::new(Expected {
            read,
            is_promised,
            answer,
        }));
        is_promised.then_some(read)
    }

    /// What is still expected.
    pub(crate) fn find(&self, read: &LogRead) -> Option<Arc<Expected>> {
        let expected = self.expected();
        position(&expected, read).map(|at| expected[at].clone())
    }

    fn expected(&self) -> MutexGuard<'_, VecDeque<Arc<Expected>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn position(expected: &VecDeque<Arc<Expected>>, read: &LogRead) -> Option<usize> {
    expected
        .iter()
        .position(|expected| (expected.read.log, expected.read.from) == (read.log, read.from))
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
        assert_eq!(
            ahead.expect(read(3, half), true),
            Some(read(3, half)),
            "it takes its own place"
        );
    }

    #[test]
    fn readers_that_stay_away_are_forgotten() {
        let ahead = Ahead::default();
        assert!(ahead.expect(read(0, AHEAD_BYTES_MAX), true).is_some());
        for log in 1..u32::try_from(AHEAD_READERS_MAX).unwrap() {
            assert!(ahead.expect(read(log, 1), true).is_none());
        }
        assert!(ahead.find(&read(0, 1)).is_some());
        assert!(ahead.expect(read(999, 1), true).is_some());
        assert!(ahead.find(&read(0, 1)).is_none());
    }
}
