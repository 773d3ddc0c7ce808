//! What the core needs to know of a record batch: its header, whether it may be accepted, and how to make a small one.
//!
//! ```text
//!  0        8     12    16   17   21     23          27        35        43   51    53       57    61
//!  | base   | len | l.  | m  | crc | attr | last     | base    | max     | pid| pe  | base   | n   | records ...
//!  | offset |     | ep. | =2 |     |      | o. delta | time    | time    |    |     | seq.   |     |
//!                            '------ the CRC-32C covers everything from attr on
//! ```
//! Records stay opaque, but for one question: whether all of them have keys.
use alloc::vec::Vec;
use bytes::Bytes;
use tidemill_protocol::error_code::ErrorCode;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;

const ATTRIBUTES_AT: usize = 21;
const COMPRESSION: i16 = 0b0000_0111;
const APPEND_TIME: i16 = 0b0000_1000;
const TRANSACTIONAL: i16 = 0b0001_0000;
const CONTROL: i16 = 0b0010_0000;

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole batch.
    pub batch_bytes: usize,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type, flags.
    pub attributes: i16,
    /// Offset of the last record less that of the first.
    pub last_offset_delta: i32,
    /// Timestamp of the first record.
    pub base_timestamp: i64,
    /// Largest timestamp.
    pub max_timestamp: i64,
    /// Producer id, -1 when it is not idempotent.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

impl Header {
    /// Reads the header of a batch of format 2; `None` when it is too short or of another format.
    pub fn read(batch: &[u8]) -> Option<Header> {
        if batch.len() < HEADER_BYTES || batch[16] != 2 {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(field(batch, 8))).ok()?;
        Some(Header {
            batch_bytes: length.checked_add(12)?,
            crc: u32::from_be_bytes(field(batch, 17)),
            attributes: i16::from_be_bytes(field(batch, 21)),
            last_offset_delta: i32::from_be_bytes(field(batch, 23)),
            base_timestamp: i64::from_be_bytes(field(batch, 27)),
            max_timestamp: i64::from_be_bytes(field(batch, 35)),
            producer_id: i64::from_be_bytes(field(batch, 43)),
            producer_epoch: i16::from_be_bytes(field(batch, 51)),
            base_sequence: i32::from_be_bytes(field(batch, 53)),
            count: i32::from_be_bytes(field(batch, 57)),
        })
    }

    /// Whether the records are compressed.
    pub fn is_compressed(&self) -> bool {
        self.attributes & COMPRESSION != 0
    }

    /// The batch with the broker's time instead of its producer's, and the checksum that goes with it.
    pub fn stamp(batch: &[u8], time: i64) -> Bytes {
        let mut copy = batch.to_vec();
        let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES_AT)) | APPEND_TIME;
        copy[21..23].copy_from_slice(&attributes.to_be_bytes());
        copy[35..43].copy_from_slice(&time.to_be_bytes());
        seal(&mut copy);
        copy.into()
    }
}

/// Why a batch is not accepted: code and sentence.
pub type Refused = (ErrorCode, &'static str);

/// Checks that `data` is exactly one batch that a client may write, down to its checksum.
pub fn validate(data: &[u8], batch_bytes_max: usize) -> Result<Header, Refused> {
    if 16 < data.len() && data[16] < 2 {
        return Err((
            ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            "message formats 0 and 1 are not accepted",
        ));
    }
    let header = Header::read(data).ok_or((ErrorCode::CORRUPT_MESSAGE, "not a record batch of format 2"))?;
    if data.len() < header.batch_bytes {
        return Err((ErrorCode::CORRUPT_MESSAGE, "the batch is cut short"));
    }
    if header.batch_bytes < data.len() {
        return Err((
            ErrorCode::INVALID_RECORD,
            "a partition takes exactly one batch a request",
        ));
    }
    if batch_bytes_max < data.len() {
        return Err((
            ErrorCode::MESSAGE_TOO_LARGE,
            "the batch is larger than max.message.bytes",
        ));
    }
    if crc32c::crc32c(&data[ATTRIBUTES_AT..]) != header.crc {
        return Err((ErrorCode::CORRUPT_MESSAGE, "the checksum does not match"));
    }
    if header.attributes & TRANSACTIONAL != 0 {
        return Err((ErrorCode::INVALID_TXN_STATE, "transactions are not supported"));
    }
    if header.attributes & CONTROL != 0 {
        return Err((ErrorCode::INVALID_RECORD, "clients do not write control batches"));
    }
    if 4 < header.attributes & COMPRESSION {
        return Err((ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "unknown compression"));
    }
    if header.count <= 0 || header.last_offset_delta != header.count - 1 {
        return Err((ErrorCode::INVALID_RECORD, "record count and last offset do not agree"));
    }
    // An uncompressed record takes seven bytes at the least.
    let body = data.len() - HEADER_BYTES;
    if !header.is_compressed() && body / 7 < usize::try_from(header.count).unwrap_or(usize::MAX) {
        return Err((ErrorCode::INVALID_RECORD, "more records than bytes for them"));
    }
    if 0 <= header.producer_id && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err((
            ErrorCode::INVALID_RECORD,
            "an idempotent batch needs an epoch and a sequence",
        ));
    }
    Ok(header)
}

/// Whether every record has a key. Compressed records are not looked into.
pub fn has_keys(batch: &[u8], header: &Header) -> bool {
    if header.is_compressed() {
        return true;
    }
    let mut rest = &batch[HEADER_BYTES..];
    (0..header.count).all(|_| next_record_has_key(&mut rest).unwrap_or(false))
}

/// Takes one record off and tells whether it has a key; `None` when it is malformed.
fn next_record_has_key(rest: &mut &[u8]) -> Option<bool> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let mut record = rest.get(..length)?;
    *rest = &rest[length..];
    record = record.get(1..)?;
    varint(&mut record)?; // timestamp delta
    varint(&mut record)?; // offset delta
    Some(0 <= varint(&mut record)?)
}

fn varint(from: &mut &[u8]) -> Option<i64> {
    let mut raw: u64 = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        raw |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

fn put_varint(to: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1 ^ value >> 63).cast_unsigned();
    while 0x80 <= raw {
        to.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    to.push((raw & 0x7f) as u8);
}

/// A batch of (key, value or tombstone), uncompressed, all at one time. There must be at least one record.
pub fn build(records: &[(Vec<u8>, Option<Vec<u8>>)], timestamp: i64) -> Bytes {
    let count = i32::try_from(records.len()).expect("requests are far smaller");
    let mut batch = Vec::with_capacity(HEADER_BYTES + records.iter().map(|(key, _)| key.len() + 96).sum::<usize>());
    batch.extend_from_slice(&[0; 16]);
    batch.push(2);
    batch.extend_from_slice(&[0; 6]);
    batch.extend_from_slice(&(count - 1).to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&timestamp.to_be_bytes());
    batch.extend_from_slice(&(-1i64).to_be_bytes());
    batch.extend_from_slice(&(-1i16).to_be_bytes());
    batch.extend_from_slice(&(-1i32).to_be_bytes());
    batch.extend_from_slice(&count.to_be_bytes());
    for (delta, (key, value)) in records.iter().enumerate() {
        let mut record = Vec::with_capacity(key.len() + 96);
        record.push(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, length(delta));
        put_varint(&mut record, length(key.len()));
        record.extend_from_slice(key);
        put_varint(&mut record, value.as_ref().map_or(-1, |value| length(value.len())));
        record.extend_from_slice(value.as_deref().unwrap_or(&[]));
        put_varint(&mut record, 0);
        put_varint(&mut batch, length(record.len()));
        batch.extend_from_slice(&record);
    }
    let bytes = i32::try_from(batch.len() - 12).expect("requests are far smaller");
    batch[8..12].copy_from_slice(&bytes.to_be_bytes());
    seal(&mut batch);
    batch.into()
}

fn length(len: usize) -> i64 {
    i64::try_from(len).expect("lengths fit")
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn field<const N: usize>(batch: &[u8], at: usize) -> [u8; N] {
    batch[at..at + N].try_into().expect("the slice has N bytes")
}
