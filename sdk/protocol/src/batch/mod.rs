//! Record batches, version 2: the only format in which Kafka has stored records since 2017.
//!
//! ```text
//! base offset i64 | batch length i32 | leader epoch i32 |                       <- head: the broker's, outside the CRC
//! magic i8 | crc u32 |
//! attributes i16 | last offset delta i32 | base timestamp i64 | max timestamp i64
//!   | producer id i64 | producer epoch i16 | base sequence i32 | record count i32   <- covered by the CRC, as is what follows
//! records, possibly compressed as a whole
//! ```
//!
//! A broker looks at the 61 bytes of the [`Header`] and leaves the records alone: [`Batch::parse`] checks a batch that a client sends, [`patch`]
//! gives it its place in a log without copying it. Who wants the records asks for the [`Payload`] and walks over it; nothing is allocated for a
//! record. [`Builder`] makes batches.
//!
//! Formats before version 2 are refused.

mod batches;
mod builder;
mod control;
mod header;
mod payload;
#[cfg(test)]
mod tests;
mod varint;

pub use batches::{Batches, batches};
pub use builder::{Builder, Producer};
pub use control::{ControlType, EndTxnMarker};
pub use header::{Attributes, Codec, HEADER_BYTES, Header, TimestampType, add_sequence};
pub use payload::{Headers, Payload, Record, RecordHeader, Walk};

use bytes::{Bytes, BytesMut};

use crate::error_code::ErrorCode;

/// Why bytes are no record batch, or not one that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the record batch is cut short")]
    Truncated,
    /// More bytes than one batch.
    #[error("more than one record batch")]
    TrailingBytes,
    /// The length field is smaller than a header.
    #[error("a record batch cannot have length {0}")]
    InvalidLength(i32),
    /// Not version 2.
    #[error("record batch of format {0}, expected 2")]
    UnsupportedMagic(i8),
    /// The CRC does not match.
    #[error("the CRC of the record batch is {found:#010x}, it says {stored:#010x}")]
    CrcMismatch {
        /// As in the header.
        stored: u32,
        /// As computed.
        found: u32,
    },
    /// Counts, deltas, sequences or attributes that contradict each other.
    #[error("the record batch contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A codec that is not in the format, or that this build lacks.
    #[error("compression codec {0} is not supported")]
    UnsupportedCompression(i8),
    /// The compressed records cannot be decompressed.
    #[error("the compressed records are damaged")]
    DamagedCompression,
    /// The records are larger than the bound given when decompressed.
    #[error("the records are larger than {bytes_max} bytes when decompressed")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// A record is malformed.
    #[error("record {index} of the batch is malformed")]
    MalformedRecord {
        /// Which one, from 0.
        index: i32,
    },
}

impl BatchError {
    /// What to answer to the producer.
    pub const fn error_code(self) -> ErrorCode {
        match self {
            Self::Truncated | Self::InvalidLength(_) | Self::CrcMismatch { .. } | Self::DamagedCompression => {
                ErrorCode::CORRUPT_MESSAGE
            }
            Self::TrailingBytes | Self::UnsupportedMagic(_) | Self::Inconsistent(_) | Self::MalformedRecord { .. } => {
                ErrorCode::INVALID_RECORD
            }
            Self::UnsupportedCompression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        }
    }
}

/// One whole batch: its header, and all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
}

impl Batch {
    /// Takes exactly one batch, as a produce request must hold, and checks length, format, CRC, counts and attributes. Records are not looked into;
    /// [`Batch::check_records`] does that.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = Header::parse(&bytes)?;
        if header.batch_bytes() < bytes.len() {
            return Err(BatchError::TrailingBytes);
        }
        if bytes.len() < header.batch_bytes() {
            return Err(BatchError::Truncated);
        }
        header.check_crc(&bytes)?;
        Ok(Self { header, bytes })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// All bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records, decompressed if need be into at most `bytes_max` bytes.
    pub fn payload(&self, bytes_max: usize) -> Result<Payload, BatchError> {
        Payload::open(self.header, self.bytes.slice(HEADER_BYTES..), bytes_max)
    }

    /// Walks over all records of a batch that a producer sends: each is whole, their offsets are dense, the largest timestamp is the one that the
    /// header says. Decompresses if need be.
    pub fn check_records(&self, bytes_max: usize) -> Result<(), BatchError> {
        let mut largest = i64::MIN;
        for (expected, record) in (self.header.base_offset..).zip(self.payload(bytes_max)?.records()) {
            let record = record?;
            if record.offset != expected {
                return Err(BatchError::Inconsistent("offsets are not dense"));
            }
            largest = largest.max(record.timestamp);
        }
        if largest != self.header.max_timestamp {
            return Err(BatchError::Inconsistent(
                "the largest timestamp is not that of a record",
            ));
        }
        Ok(())
    }

    /// The same batch from another producer, or at another place in its sequence. Copies it.
    pub fn with_producer(&self, producer: Producer) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let mut header = Header {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            ..self.header
        };
        header.write(&mut bytes);
        header.crc = header::seal(&mut bytes);
        Self {
            header,
            bytes: bytes.freeze(),
        }
    }

    /// The same batch with every timestamp replaced by `time`, as for `message.timestamp.type=LogAppendTime`. Copies it.
    pub fn with_append_time(&self, time: i64) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let mut header = Header {
            max_timestamp: time,
            ..self.header
        };
        header.attributes.timestamp_type = TimestampType::LogAppendTime;
        header.write(&mut bytes);
        header.crc = header::seal(&mut bytes);
        Self {
            header,
            bytes: bytes.freeze(),
        }
    }
}

/// Bytes of the head, which lies outside the CRC.
const HEAD_BYTES: usize = 16;

/// Gives a batch its place in a log: a new head of 16 bytes, and the rest shared. `None` if these bytes are shorter than a header.
pub fn patch(batch: &Bytes, base_offset: i64, leader_epoch: i32) -> Option<[Bytes; 2]> {
    if batch.len() < HEADER_BYTES {
        return None;
    }
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[8..12].copy_from_slice(&batch[8..12]);
    head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    Some([Bytes::copy_from_slice(&head), batch.slice(HEAD_BYTES..)])
}

/// A batch whose records have not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    header: Header,
    records: Bytes,
}

impl Encoded {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The records, decompressed if need be into at most `bytes_max` bytes.
    pub fn payload(&self, bytes_max: usize) -> Result<Payload, BatchError> {
        Payload::open(self.header, self.records.clone(), bytes_max)
    }
}
