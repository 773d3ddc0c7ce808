//! Applying record batches: the producer's sequence, offsets, the broker's timestamp.
use bytes::Bytes;
use tidemill_protocol::{
    batch::{Batch, Header},
    error_code::ErrorCode,
};

use super::{Appended, State};
use crate::{
    batch::sequenced,
    effect::{Append, Changes, LogId},
    entry::{Produce, Stamp},
    producer::Judgement,
};

impl State {
    pub(super) fn produce(&mut self, changes: &mut Changes, at: Stamp, part: &Produce) -> Result<Appended, ErrorCode> {
        // A topic deleted while the command was on its way took its logs with it.
        let log = self.logs.get(&part.log).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let header = Header::parse(&part.batch).map_err(|error| error.error_code())?;
        let Some(sequenced) = sequenced(&header) else {
            return Ok(self.append(changes, at, part.log, part.batch.clone()));
        };
        let judgement = self.producers.judge(part.log, &sequenced)?;
        if let Judgement::Duplicate(known) = judgement {
            return Ok(Appended {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
                append_time: -1,
                log_start: log.start,
            });
        }
        let appended = self.append(changes, at, part.log, part.batch.clone());
        self.producers.remember(
            changes,
            part.log,
            at.time,
            &sequenced,
            (appended.base_offset, appended.last_offset),
        );
        Ok(appended)
    }

    /// Appends one batch (validated, and its producer judged), for `apply` only. The log must exist. Where the topic says so the batch gets
    /// the entry's time, which is the only case in which its bytes are copied.
    pub(crate) fn append(&mut self, changes: &mut Changes, at: Stamp, id: LogId, batch: Bytes) -> Appended {
        let log = &self.logs[&id];
        let topic = self.topics.get_by_id(&log.topic).expect("a log belongs to a topic");
        let is_append_time = self.settings(topic).is_append_time();
        let batch = if is_append_time { stamped(batch, at.time) } else { batch };
        let header = Header::parse(&batch).expect("batches are validated before they are proposed");

        let log = self.logs.get_mut(&id).expect("it was found above");
        let base_offset = log.end;
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        log.end = last_offset + 1;
        if log.max_timestamp < header.max_timestamp {
            log.max_timestamp = header.max_timestamp;
        }
        log.save(id, changes);
        let log_start = log.start;
        let leader_epoch = log.leader_epoch;
        changes.appends.push(Append {
            log: id,
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            leader_epoch,
            batch,
        });
        Appended {
            base_offset,
            last_offset,
            append_time: if is_append_time { at.time } else { -1 },
            log_start,
        }
    }
}

/// The batch with the broker's time instead of its producer's.
fn stamped(batch: Bytes, time: i64) -> Bytes {
    let batch = Batch::parse(batch).expect("batches are validated before they are proposed");
    batch.with_append_time(time).into_bytes()
}
