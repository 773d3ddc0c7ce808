//! Idempotent producers: what has been accepted from whom, so that a retry appends nothing and a gap is noticed.
//!
//! For each (log, producer id): the epoch and the last five batches, Kafka's window. Rules, as in Kafka's `ProducerAppendInfo`:
//! a lower epoch is refused; a higher one starts at sequence 0; the same batch again (first *and* last sequence) is answered with its first
//! offset; anything but the next sequence is out of order, also what is older than the window. After `i32::MAX` comes 0.
//! A producer that is not known (never seen, or expired) may start anywhere: what it had is gone, and nothing can be compared.
use alloc::{collections::BTreeMap, vec::Vec};
use bytes::Bytes;
use tidemill_protocol::error_code::ErrorCode;

use crate::{
    effect::{Changes, LogId, Row, Table},
    limits::PRODUCER_BATCHES,
    stored,
    stored::{Malformed, Stored},
};

stored! {
    /// One producer's standing in one log.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Producer {
        /// Its epoch.
        pub epoch: i16,
        /// Time of its last entry.
        pub time: i64,
        /// Its last batches, oldest first, all of this epoch; at most [`PRODUCER_BATCHES`].
        pub batches: Vec<Remembered>,
    }
}

stored! {
    /// A batch that has been appended.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Remembered {
        /// Sequence of the first record.
        pub first: i32,
        /// Sequence of the last record.
        pub last: i32,
        /// Offset of the first record.
        pub base_offset: i64,
        /// Offset of the last record.
        pub last_offset: i64,
    }
}

/// What a batch says about its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub first: i32,
    /// Sequence of the last record.
    pub last: i32,
}

/// What becomes of a sequenced batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// It is new and comes next.
    Append,
    /// It was appended before.
    Duplicate(Remembered),
}

/// All producers of all logs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Producers {
    producers: BTreeMap<(LogId, i64), Producer>,
}

impl Producers {
    /// Judges a batch before it is appended.
    pub fn judge(&self, log: LogId, batch: &Sequenced) -> Result<Judgement, ErrorCode> {
        let Some(producer) = self.producers.get(&(log, batch.id)) else {
            return Ok(Judgement::Append);
        };
        if batch.epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if producer.epoch < batch.epoch {
            return if batch.first == 0 {
                Ok(Judgement::Append)
            } else {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            };
        }
        if let Some(known) = producer
            .batches
            .iter()
            .find(|known| (known.first, known.last) == (batch.first, batch.last))
        {
            return Ok(Judgement::Duplicate(known.clone()));
        }
        let last = producer.batches.last().map_or(-1, |known| known.last);
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if batch.first == next {
            Ok(Judgement::Append)
        } else {
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        }
    }

    /// Whether anybody has been silent since before a time.
    pub fn any_before(&self, time: i64) -> bool {
        self.producers.values().any(|producer| producer.time < time)
    }

    /// Remembers a batch that has been appended.
    pub(crate) fn remember(
        &mut self,
        changes: &mut Changes,
        log: LogId,
        time: i64,
        batch: &Sequenced,
        offsets: (i64, i64),
    ) {
        let new = Producer {
            epoch: batch.epoch,
            time,
            batches: Vec::new(),
        };
        let producer = self.producers.entry((log, batch.id)).or_insert(new);
        if producer.epoch != batch.epoch {
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.remove(0);
        }
        producer.epoch = batch.epoch;
        producer.time = time;
        producer.batches.push(Remembered {
            first: batch.first,
            last: batch.last,
            base_offset: offsets.0,
            last_offset: offsets.1,
        });
        changes.put(Table::Producer, key(log, batch.id), producer);
    }

    /// Forgets whoever has been silent since before a time.
    pub(crate) fn expire(&mut self, changes: &mut Changes, before: i64) {
        self.producers.retain(|(log, id), producer| {
            let stays = before <= producer.time;
            if !stays {
                changes.delete(Table::Producer, key(*log, *id));
            }
            stays
        });
    }

    /// Forgets all producers of a log that is gone.
    pub(crate) fn drop_log(&mut self, changes: &mut Changes, log: LogId) {
        let gone: Vec<i64> = self
            .producers
            .range((log, i64::MIN)..=(log, i64::MAX))
            .map(|((_, id), _)| *id)
            .collect();
        for id in gone {
            self.producers.remove(&(log, id));
            changes.delete(Table::Producer, key(log, id));
        }
    }

    pub(crate) fn load(&mut self, row: &Row) -> Result<(), Malformed> {
        let Some(value) = &row.value else { return Ok(()) };
        self.producers
            .insert(<(LogId, i64)>::from_row(&row.key)?, Producer::from_row(value)?);
        Ok(())
    }
}

fn key(log: LogId, id: i64) -> Bytes {
    (log, id).to_row()
}
