//! The little that storage knows of a record batch: where it ends, which offsets it has, and the 16 bytes that are patched when it is stored.
//!
//! ```text
//! base offset i64 | length of the rest i32 | leader epoch i32 | magic i8 | crc u32 | attributes i16 | last offset delta i32 | base timestamp i64 |
//! max timestamp i64 | ...            (Kafka's batch format v2, big endian; the checksum starts after its own four bytes)
//! ```
use crate::Append;

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Base offset, length and leader epoch: they lie before the checksum.
pub(crate) const HEAD_BYTES: usize = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Of the whole batch.
    pub(crate) bytes: usize,
}

impl Header {
    /// `None` if this cannot be a batch.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let header = data.get(..HEADER_BYTES)?;
        let base_offset = i64_at(header, 0);
        let rest = usize::try_from(i32_at(header, 8)).ok()?;
        let bytes = rest.checked_add(12).filter(|&bytes| HEADER_BYTES <= bytes)?;
        let last_offset = base_offset.checked_add(i64::from(i32_at(header, 23)))?;
        Some(Self {
            base_offset,
            last_offset,
            max_timestamp: i64_at(header, 35),
            bytes,
        })
    }
}

/// The first 16 bytes of a batch as they are stored and sent.
pub(crate) fn head(base_offset: i64, leader_epoch: i32, batch: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[8..12].copy_from_slice(&batch[8..12]);
    head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    head
}

/// True if the batch is as long as it says and has the offsets that the core gave it. Anything else could not be read back.
pub(crate) fn is_sound(append: &Append) -> bool {
    let delta = append.last_offset.checked_sub(append.base_offset);
    Header::parse(&append.batch).is_some_and(|header| {
        header.bytes == append.batch.len() && header.last_offset.checked_sub(header.base_offset) == delta
    }) && 0 <= append.base_offset
        && append.base_offset <= append.last_offset
}

fn i32_at(data: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(data[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(data: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(data[at..at + 8].try_into().expect("eight bytes"))
}
