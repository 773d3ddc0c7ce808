//! Reading logs: records by offset, by time, and how far retention may go.
use bytes::Bytes;

use crate::{
    LogId, LogRead, ReadError, Records, RetentionQuery, Storage,
    gather::{Gather, Gathered},
    log::{Batch, Extent, Place},
    segments::FoundBatch,
};

/// The first batch with a timestamp at or above the one that was looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Offset of the batch's first record.
    pub base_offset: i64,
    /// Offset of the batch's last record.
    pub last_offset: i64,
    /// Largest timestamp in the batch.
    pub max_timestamp: i64,
    /// The batch itself: which of its records is the first is for the caller to see.
    pub batch: Records,
}

impl Storage {
    /// Reads whole batches, ready to be sent, as [`LogRead`] says. Empty if there is nothing yet.
    ///
    /// # Errors
    /// [`ReadError::Gone`] below the log's start, [`ReadError::Failed`] if the disk did not give what it should have.
    pub fn read(&self, read: LogRead) -> Result<Records, ReadError> {
        self.gather(read).map(|gathered| gathered.records)
    }

    /// As [`Storage::read`], of somebody who will go on where the answer ends. Gives also what that will be, if it should be handed to
    /// [`Storage::read_ahead`] meanwhile.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub fn read_on(&self, read: LogRead) -> Result<(Records, Option<LogRead>), ReadError> {
        let expected = self.shared.ahead.take(&read);
        // It may be from before the log's start moved.
        let known = expected
            .as_ref()
            .filter(|known| known.answers(&read) && self.has(read.log, read.from));
        let known = known.map(|known| known.answer(|read| self.gather(read))).transpose()?;
        let Gathered { records, next } = match known {
            // An older end, within a batch, leaves nothing.
            Some(known) if !known.records.is_empty() => known,
            _ => self.gather(read)?,
        };
        let next = next.filter(|next| self.is_settled(read.log, *next));
        let ahead = next.and_then(|from| self.shared.ahead.expect(LogRead { from, ..read }, expected.is_some()));
        Ok((records, ahead))
    }

    /// Reads what is expected to be asked for, and what after that, unless it has been meanwhile.
    pub fn read_ahead(&self, mut read: LogRead) {
        while let Some(expected) = self.shared.ahead.find(&read) {
            // Whoever asks is told of an error.
            let answer = expected.answer(|read| self.gather(read));
            let next = answer.ok().and_then(|gathered| gathered.next);
            let next = next.filter(|next| self.is_settled(read.log, *next));
            match next.and_then(|from| self.shared.ahead.expect_after(&read, from)) {
                Some(next) => read = next,
                None => return,
            }
        }
    }

    fn has(&self, log: LogId, offset: i64) -> bool {
        let inner = self.shared.read();
        inner.logs.get(&log).is_some_and(|log| log.start <= offset)
    }

    /// True if it takes the disk to read this offset.
    fn is_settled(&self, log: LogId, offset: i64) -> bool {
        let inner = self.shared.read();
        let log = inner.logs.get(&log);
        log.is_some_and(|log| matches!(log.place(offset), Place::Segment(_)))
    }

    fn gather(&self, read: LogRead) -> Result<Gathered, ReadError> {
        let mut gather = Gather::new(read);
        while !gather.is_full() {
            let (extent, segment) = {
                let inner = self.shared.read();
                let Some(log) = inner.logs.get(&read.log) else { break };
                if gather.next() < log.start {
                    return if gather.is_empty() {
                        Err(ReadError::Gone)
                    } else {
                        Ok(gather.finish())
                    };
                }
                match log.place(gather.next()) {
                    Place::Segment(extent) => (extent, self.shared.segments.segment(extent.segment)),
                    Place::Tail(at) => {
                        for batch in log.tail.range(at..) {
                            gather.batch(batch);
                            if gather.is_full() {
                                break;
                            }
                        }
                        break;
                    }
                    Place::End => break,
                }
            };
            // Segments that hold something live are not unlinked, and this one was live when the lock was held.
            let segment = segment.ok_or(ReadError::Failed)?;
            segment
                .read(read.log, extent.last_offset, &mut gather)
                .map_err(|error| failed(read.log, &error))?;
            if !gather.is_full() {
                gather.skip_to(extent.last_offset + 1);
            }
        }
        Ok(gather.finish())
    }

    /// As [`Storage::read_on`] where memory has the answer, so that it does not wait for the disk; `None` where it has not.
    #[must_use]
    pub fn read_at_hand(&self, read: LogRead) -> Option<Result<(Records, Option<LogRead>), ReadError>> {
        let mut gather = Gather::new(read);
        let inner = self.shared.read();
        let Some(log) = inner.logs.get(&read.log) else {
            return Some(Ok((gather.finish().records, None)));
        };
        if gather.next() < log.start {
            return Some(Err(ReadError::Gone));
        }
        match log.place(gather.next()) {
            Place::Segment(_) => {
                drop(inner);
                return self.shared.ahead.has(&read).then(|| self.read_on(read));
            }
            Place::Tail(at) => {
                for batch in log.tail.range(at..) {
                    gather.batch(batch);
                    if gather.is_full() {
                        break;
                    }
                }
            }
            Place::End => {}
        }
        Some(Ok((gather.finish().records, None)))
    }

    /// The first batch whose largest timestamp is at or above `timestamp`: the record looked for is in it, if any is.
    ///
    /// # Errors
    /// [`ReadError::Failed`] if the disk did not give what it should have.
    pub fn find_time(&self, log: LogId, timestamp: i64) -> Result<Option<Found>, ReadError> {
        let mut from = i64::MIN;
        loop {
            let (start, extent, segment) = {
                let inner = self.shared.read();
                let Some(known) = inner.logs.get(&log) else {
                    return Ok(None);
                };
                let from = from.max(known.start);
                let fits = |extent: &&Extent| from <= extent.last_offset && timestamp <= extent.max_timestamp;
                let Some(&extent) = known.extents.iter().find(fits) else {
                    let mut tail = known.tail.iter();
                    return Ok(tail
                        .find(|batch| from <= batch.last_offset && timestamp <= batch.max_timestamp)
                        .map(Found::from));
                };
                (from, extent, self.shared.segments.segment(extent.segment))
            };
            let segment = segment.ok_or(ReadError::Failed)?;
            match segment
                .find_time(log, start, &extent, timestamp)
                .map_err(|error| failed(log, &error))?
            {
                Some(found) => return Ok(Some(found.into())),
                None => from = extent.last_offset + 1,
            }
        }
    }

    /// The largest timestamp in a log.
    #[must_use]
    pub fn max_timestamp(&self, log: LogId) -> Option<i64> {
        let inner = self.shared.read();
        let log = inner.logs.get(&log)?;
        let stored = log.extents.iter().map(|extent| extent.max_timestamp);
        stored.chain(log.tail.iter().map(|batch| batch.max_timestamp)).max()
    }

    /// Where the log may start now: behind the oldest chunks that are due. A chunk is due when its largest timestamp is below
    /// [`RetentionQuery::delete_before`], or when the rest of the log still has [`RetentionQuery::bytes_max`] bytes. Batches that are not settled
    /// are never due. `None` if nothing is.
    ///
    /// # Errors
    /// [`ReadError::Failed`] if the disk did not give what it should have.
    pub fn find_retention(&self, query: RetentionQuery) -> Result<Option<i64>, ReadError> {
        let (start, extents, unsettled_bytes) = {
            let inner = self.shared.read();
            let Some(log) = inner.logs.get(&query.log) else {
                return Ok(None);
            };
            let unsettled: usize = log.unsettled().map(|batch| batch.data.len()).sum();
            (log.start, log.extents.clone(), unsettled as u64)
        };
        let Some((first, later)) = extents.split_first() else {
            return Ok(None);
        };
        // Of the first extent only a part may be live, the others are live as a whole.
        let mut left: u64 = unsettled_bytes + later.iter().map(|extent| extent.bytes).sum::<u64>();
        left += self.live_bytes(query.log, first, start)?;
        let mut due = None;
        for extent in &extents {
            let Some(segment) = self.shared.segments.segment(extent.segment) else {
                break;
            };
            let mut done = false;
            let chunks = segment.chunks(query.log, start, |chunk| {
                let old = query.delete_before.is_some_and(|before| chunk.max_timestamp < before);
                let rest = left.saturating_sub(u64::from(chunk.bytes));
                let many = query.bytes_max.is_some_and(|bytes_max| bytes_max <= rest);
                done = !old && !many;
                if !done {
                    left = rest;
                    due = Some(chunk.last_offset + 1);
                }
                !done
            });
            chunks.map_err(|error| failed(query.log, &error))?;
            if done {
                break;
            }
        }
        Ok(due)
    }

    fn live_bytes(&self, log: LogId, extent: &Extent, start: i64) -> Result<u64, ReadError> {
        if start <= extent.base_offset {
            return Ok(extent.bytes);
        }
        let Some(segment) = self.shared.segments.segment(extent.segment) else {
            return Ok(0);
        };
        let mut bytes = 0;
        let chunks = segment.chunks(log, start, |chunk| {
            bytes += u64::from(chunk.bytes);
            true
        });
        chunks.map_err(|error| failed(log, &error))?;
        Ok(bytes)
    }

    /// Bytes of batches in a log, as far as storage still has them.
    #[must_use]
    pub fn log_bytes(&self, log: LogId) -> u64 {
        let inner = self.shared.read();
        inner.logs.get(&log).map_or(0, |log| {
            let unsettled: usize = log.unsettled().map(|batch| batch.data.len()).sum();
            unsettled as u64 + log.extents.iter().map(|extent| extent.bytes).sum::<u64>()
        })
    }
}

impl From<&Batch> for Found {
    fn from(batch: &Batch) -> Self {
        Self {
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
            max_timestamp: batch.max_timestamp,
            batch: [Bytes::copy_from_slice(&batch.head()), batch.rest()]
                .into_iter()
                .collect(),
        }
    }
}

impl From<FoundBatch> for Found {
    fn from(found: FoundBatch) -> Self {
        let FoundBatch {
            base_offset,
            last_offset,
            max_timestamp,
            parts,
        } = found;
        Self {
            base_offset,
            last_offset,
            max_timestamp,
            batch: parts.into_iter().collect(),
        }
    }
}

fn failed(log: LogId, error: &crate::Error) -> ReadError {
    tracing::error!(log = log.0, %error, "a log cannot be read");
    ReadError::Failed
}
