//! The 61 bytes that say what a batch is, and the rules that they keep.

use super::BatchError;
use crate::checksum;

/// Size of a header.
pub const HEADER_BYTES: usize = 61;

/// Where the length field's count begins.
const LENGTH_FROM: usize = 12;
/// Where the CRC lies.
const CRC_AT: usize = 17;
/// Where the CRC's cover begins.
pub(super) const CRC_FROM: usize = 21;

/// What a header says. A `Header` that exists is consistent: see [`Header::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record (in an emptied or compacted batch: of what was the first).
    pub base_offset: i64,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// CRC-32C of all that follows it.
    pub crc: u32,
    /// Flags.
    pub attributes: Attributes,
    /// Last offset, relative to the base offset.
    pub last_offset_delta: i32,
    /// What record timestamps are relative to.
    pub base_timestamp: i64,
    /// Largest timestamp of a record, or the time of appending.
    pub max_timestamp: i64,
    /// Who produced it; -1 for a producer that is not idempotent.
    pub producer_id: i64,
    /// Incarnation of the producer; -1 if there is none.
    pub producer_epoch: i16,
    /// Sequence number of the first record; -1 if there is none.
    pub base_sequence: i32,
    /// Number of records. Compaction leaves fewer than there are offsets.
    pub record_count: i32,
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// In the framing of xerial's Java library, or raw.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl Codec {
    fn from_number(number: i8) -> Result<Self, BatchError> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::UnsupportedCompression(other)),
        }
    }
}

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer set them.
    #[default]
    CreateTime,
    /// The broker set one for the whole batch.
    LogAppendTime,
}

/// Flags of a batch. Bits that are not known are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Compression of the records.
    pub codec: Codec,
    /// Who set the timestamps.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// Holds a marker instead of records; never delivered.
    pub is_control: bool,
    /// The base timestamp is the time at which tombstones may go.
    pub has_delete_horizon: bool,
}

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

impl Attributes {
    fn from_bits(bits: i16) -> Result<Self, BatchError> {
        let [_, codec] = (bits & CODEC_MASK).to_be_bytes();
        Ok(Self {
            codec: Codec::from_number(codec.cast_signed())?,
            timestamp_type: match bits & LOG_APPEND_TIME {
                0 => TimestampType::CreateTime,
                _ => TimestampType::LogAppendTime,
            },
            is_transactional: bits & TRANSACTIONAL != 0,
            is_control: bits & CONTROL != 0,
            has_delete_horizon: bits & DELETE_HORIZON != 0,
        })
    }

    fn to_bits(self) -> i16 {
        let flag = |is_set: bool, bit: i16| if is_set { bit } else { 0 };
        i16::from(self.codec as i8)
            | flag(self.timestamp_type == TimestampType::LogAppendTime, LOG_APPEND_TIME)
            | flag(self.is_transactional, TRANSACTIONAL)
            | flag(self.is_control, CONTROL)
            | flag(self.has_delete_horizon, DELETE_HORIZON)
    }
}

/// The bytes of a field. The header's length is checked once, before any field is read.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    core::array::from_fn(|i| header[at + i])
}

impl Header {
    /// Reads the header at the start of `bytes`, which may be longer or shorter than the batch. The CRC is not checked.
    ///
    /// What is checked: the format is 2; the length holds a header; counts and deltas are not negative, and there are no more records than offsets;
    /// a batch without records has no payload; the last offset exists.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Truncated)?;
        let [magic] = field::<1>(header, 16).map(u8::cast_signed);
        if magic != 2 {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        let parsed = Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length: i32::from_be_bytes(field(header, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: Attributes::from_bits(i16::from_be_bytes(field(header, 21)))?,
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), BatchError> {
        let length = usize::try_from(self.batch_length).unwrap_or(0);
        if length < HEADER_BYTES - LENGTH_FROM {
            return Err(BatchError::InvalidLength(self.batch_length));
        }
        if self.record_count < 0 || self.last_offset_delta < 0 {
            return Err(BatchError::Inconsistent("a count is negative"));
        }
        if i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1 {
            return Err(BatchError::Inconsistent("more records than offsets"));
        }
        if self
            .base_offset
            .checked_add(i64::from(self.last_offset_delta) + 1)
            .is_none()
        {
            return Err(BatchError::Inconsistent("the last offset does not exist"));
        }
        Ok(())
    }

    /// Checks what a batch from a client must keep beyond consistency: it has records, one for each offset; it is no control batch; a producer id
    /// comes with an epoch and a sequence.
    pub fn check_produced(&self) -> Result<(), BatchError> {
        if self.record_count < 1 {
            return Err(BatchError::Inconsistent("no records"));
        }
        if self.record_count - 1 != self.last_offset_delta {
            return Err(BatchError::Inconsistent("record count and last offset delta differ"));
        }
        if self.attributes.is_control {
            return Err(BatchError::Inconsistent("a client cannot write control batches"));
        }
        if self.attributes.has_delete_horizon {
            return Err(BatchError::Inconsistent("a client cannot set a delete horizon"));
        }
        if self.producer_id >= 0 && (self.producer_epoch < 0 || self.base_sequence < 0) {
            return Err(BatchError::Inconsistent("a producer id without epoch or sequence"));
        }
        if self.attributes.is_transactional && self.producer_id < 0 {
            return Err(BatchError::Inconsistent("a transaction without a producer id"));
        }
        Ok(())
    }

    /// Bytes of the whole batch, header included.
    pub fn batch_bytes(&self) -> usize {
        LENGTH_FROM + usize::try_from(self.batch_length).expect("a parsed length is not negative")
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Sequence number of the last record, `None` without a sequence. Numbers wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> Option<i32> {
        (self.base_sequence >= 0).then(|| add_sequence(self.base_sequence, self.last_offset_delta))
    }

    pub(super) fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        self.check_crc_of(&[&batch[CRC_FROM..]])
    }

    pub(super) fn check_crc_of(&self, pieces: &[&[u8]]) -> Result<(), BatchError> {
        let found = pieces.iter().fold(0, |crc, piece| checksum::crc32c_append(crc, piece));
        if found == self.crc {
            Ok(())
        } else {
            Err(BatchError::CrcMismatch {
                stored: self.crc,
                found,
            })
        }
    }

    /// Writes everything but the CRC over the first bytes of `batch`, which are at least a header.
    pub(super) fn write(&self, batch: &mut [u8]) {
        batch[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&self.attributes.to_bits().to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }
}

/// Sets the CRC of a batch that is otherwise complete, and returns it.
pub(super) fn seal(batch: &mut [u8]) -> u32 {
    let crc = checksum::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// The sequence number `count` after another: numbers go from 0 to 2^31-1 and around.
pub fn add_sequence(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX - 2, 2), i32::MAX);
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 2, 5), 2);
    }
}
