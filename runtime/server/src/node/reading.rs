//! The answer to several reads in the making, and what bounds all of them together.
use tidemill_broker::effect::{LogRead, ReadAnswer, ReadError};
use tidemill_protocol::records::Records;

/// What one read found, and what will probably be asked for next.
type Found = Result<(Records, Option<LogRead>), ReadError>;

/// Answers so far, in the order of the reads.
pub(super) struct Reading {
    pub(super) answer: ReadAnswer,
    /// What to read while the answer is on its way.
    pub(super) ahead: Vec<LogRead>,
    bytes: usize,
    bytes_max: usize,
}

impl Reading {
    pub(super) fn of(reads: &[LogRead]) -> Self {
        Self {
            answer: Vec::with_capacity(reads.len()),
            ahead: Vec::new(),
            bytes: 0,
            bytes_max: reads.iter().map(|read| read.bytes_max).sum(),
        }
    }

    /// Nothing, for a read that is left out: each gives a whole batch at least, which may be a thousand times what was asked for. So no more
    /// is read than is wanted of all together, and one batch.
    pub(super) fn left_out(&self) -> Option<Found> {
        let is_full = self.bytes != 0 && self.bytes_max <= self.bytes;
        is_full.then(|| Ok((Records::new(), None)))
    }

    pub(super) fn add(&mut self, found: Found) {
        self.answer.push(found.map(|(records, next)| {
            self.bytes += records.len();
            self.ahead.extend(next);
            records
        }));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn no_more_is_read_than_is_wanted_and_one_batch() {
        let read = LogRead {
            log: tidemill_broker::effect::LogId(7),
            from: 0,
            until: 10,
            bytes_max: 100,
        };
        let mut reading = Reading::of(&[read; 5]);
        let mut read_from = 0;
        for bytes in [0, 60, 1_000, 60, 60] {
            let found = reading.left_out().unwrap_or_else(|| {
                read_from += 1;
                Ok((Records::from(Bytes::from(vec![7; bytes])), None))
            });
            reading.add(found);
        }
        let lengths: Vec<usize> = reading.answer.iter().flatten().map(Records::len).collect();
        assert_eq!((read_from, lengths), (3, vec![0, 60, 1_000, 0, 0]));
    }
}
