//! What the core asks of a record batch: whether a client may write it, and how to make a small one.
//!
//! Uncompressed batches are walked over once, record by record, before they are proposed. Compressed ones stay closed: their header and checksum
//! are all that is known of them, because the core decompresses nothing.
use alloc::vec::Vec;
use bytes::Bytes;
use tidemill_protocol::{
    batch::{Batch, BatchError, Builder, Codec, Header},
    error_code::ErrorCode,
};

use crate::producer::Sequenced;

/// Why a batch is not accepted: code and sentence.
pub type Refused = (ErrorCode, &'static str);

/// A batch that a client may write, and what a walk over its records has shown.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The batch.
    pub batch: Batch,
    /// Whether every record has a key. Closed batches are taken at their word.
    pub has_keys: bool,
    /// Smallest timestamp of a record; of a closed batch, that of the first.
    pub min_timestamp: i64,
}

/// Takes exactly one batch that a client may write.
pub fn accept(bytes: Bytes, batch_bytes_max: usize) -> Result<Accepted, Refused> {
    if bytes.get(16).is_some_and(|magic| *magic < 2) {
        return Err((
            ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            "message formats 0 and 1 are not accepted",
        ));
    }
    if batch_bytes_max < bytes.len() {
        return Err((
            ErrorCode::MESSAGE_TOO_LARGE,
            "the batch is larger than max.message.bytes",
        ));
    }
    let batch = Batch::parse(bytes).map_err(refuse)?;
    if batch.header().attributes.is_transactional {
        return Err((ErrorCode::INVALID_TXN_STATE, "transactions are not supported"));
    }
    batch.header().check_produced().map_err(refuse)?;
    walk(batch).map_err(refuse)
}

/// Whether every record has a key. Closed batches are taken at their word.
pub fn has_keys(batch: &Batch) -> bool {
    walk(batch.clone()).is_ok_and(|accepted| accepted.has_keys)
}

fn walk(batch: Batch) -> Result<Accepted, BatchError> {
    let header = *batch.header();
    let mut accepted = Accepted {
        batch,
        has_keys: true,
        min_timestamp: header.base_timestamp,
    };
    if header.attributes.codec != Codec::None {
        return Ok(accepted);
    }
    let payload = accepted.batch.payload(usize::MAX)?;
    for (expected, record) in (header.base_offset..).zip(payload.records()) {
        let record = record?;
        if record.offset != expected {
            return Err(BatchError::Inconsistent("offsets are not dense"));
        }
        accepted.has_keys &= record.key.is_some();
        accepted.min_timestamp = accepted.min_timestamp.min(record.timestamp);
    }
    Ok(accepted)
}

fn refuse(error: BatchError) -> Refused {
    let sentence = match error {
        BatchError::Truncated | BatchError::InvalidLength(_) => "the batch is cut short",
        BatchError::TrailingBytes => "a partition takes exactly one batch a request",
        BatchError::CrcMismatch { .. } => "the checksum does not match",
        BatchError::UnsupportedCompression(_) => "unknown compression",
        BatchError::Inconsistent(sentence) => sentence,
        _ => "the batch is malformed",
    };
    (error.error_code(), sentence)
}

/// What a batch says about its producer, if it is an idempotent one.
pub(crate) fn sequenced(header: &Header) -> Option<Sequenced> {
    let last = header.last_sequence()?;
    (0 <= header.producer_id).then_some(Sequenced {
        id: header.producer_id,
        epoch: header.producer_epoch,
        first: header.base_sequence,
        last,
    })
}

/// A batch of (key, value or tombstone), uncompressed, all at one time. There must be at least one record.
pub(crate) fn build(records: &[(Vec<u8>, Option<Vec<u8>>)], timestamp: i64) -> Bytes {
    let mut builder = Builder::new();
    for (key, value) in records {
        builder.append(timestamp, Some(key), value.as_deref(), []);
    }
    builder.finish()
}
