//! From the batch in which a timestamp is to the record.
use tidemill_broker::effect::{Found, LogId};
use tidemill_protocol::batch::Batch;
use tidemill_storage::Storage;

use crate::limits;

/// The first record of a log at or after a timestamp. A disk that fails is logged and found nothing: the client asks again.
pub(super) fn find_time(storage: &Storage, log: LogId, timestamp: i64) -> Option<Found> {
    let found = match storage.find_time(log, timestamp) {
        Ok(found) => found?,
        Err(error) => {
            tracing::error!(?error, log = log.0, "cannot search by time");
            return None;
        }
    };
    // A batch that cannot be opened is found as a whole: a reader that starts at its first record misses nothing.
    let whole = Found {
        offset: found.base_offset,
        timestamp: found.max_timestamp,
    };
    let Ok(payload) = Batch::parse(found.batch.to_bytes()).and_then(|batch| batch.payload(limits::BATCH_BYTES_MAX))
    else {
        return Some(whole);
    };
    let record = payload
        .records()
        .map_while(Result::ok)
        .find(|record| timestamp <= record.timestamp);
    Some(record.map_or(whole, |record| Found {
        offset: record.offset,
        timestamp: record.timestamp,
    }))
}
