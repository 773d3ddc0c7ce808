//! Bytes of the journal: file header and group frame, little endian.
//!
//! ```text
//! file header   magic "TIDEJRNL" | version u32 | shard u32 | generation u64 | salt u64 | first index u64 | zeros | crc u32 of all before, at 60
//! group header  magic u32 | entries u32 | payload bytes u64 | first index u64 | generation u64 | crc u32 of the payload | crc u32 of this header
//! ```
//! Both checksums of a group start from the file's salt. A group begins at a multiple of 64, which is what makes it findable behind a damaged one.
use bytes::Bytes;
use tidemill_protocol::checksum;

use super::rope_bytes;
use crate::{Error, disk::BLOCK_BYTES, limits};

pub(super) const FORMAT: u32 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 64;
pub(super) const GROUP_HEADER_BYTES: usize = 40;
pub(super) const GROUP_ALIGN: usize = 64;
/// Bytes copied, and then checked, at a time.
const CACHED_BYTES: usize = 16 << 10;
const FILE_MAGIC: [u8; 8] = *b"TIDEJRNL";
const GROUP_MAGIC: u32 = 0x5052_4754;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) shard: u32,
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    pub(crate) first: u64,
}

impl FileHeader {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FILE_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.resize(start + FILE_HEADER_BYTES - 4, 0);
        let crc = checksum::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub(super) fn decode(file: &str, data: &[u8]) -> Result<Self, Error> {
        let Some(header) = data.get(..FILE_HEADER_BYTES) else {
            return Err(Error::corrupt(file, 0, "it is shorter than its header"));
        };
        if header[..8] != FILE_MAGIC {
            return Err(Error::corrupt(file, 0, "it does not begin like a journal file"));
        }
        // The version decides what the rest means, so it is looked at first.
        let version = u32_at(header, 8);
        if FORMAT < version && checksum::crc32c(&header[..60]) == u32_at(header, 60) {
            return Err(Error::Newer {
                file: file.to_owned(),
                found: version,
                known: FORMAT,
            });
        }
        if checksum::crc32c(&header[..60]) != u32_at(header, 60) || version != FORMAT {
            return Err(Error::corrupt(file, 0, "the checksum of its header is wrong"));
        }
        Ok(Self {
            shard: u32_at(header, 12),
            generation: u64_at(header, 16),
            salt: u64_at(header, 24),
            first: u64_at(header, 32),
        })
    }

    /// Both checksums of a group start here.
    fn seed(&self) -> u32 {
        let crc = checksum::crc32c(&self.salt.to_le_bytes());
        checksum::crc32c_append(crc, &self.generation.to_le_bytes())
    }
}

/// What a group says of itself, once its header's checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) entries: u32,
    pub(super) payload_bytes: u64,
    pub(super) first: u64,
    payload_crc: u32,
}

impl GroupHeader {
    /// `None` unless a whole, undamaged header of this file stands at `position`.
    pub(super) fn at(file: &FileHeader, data: &[u8], position: usize) -> Option<Self> {
        let header = data.get(position..position.checked_add(GROUP_HEADER_BYTES)?)?;
        let ours = u32_at(header, 0) == GROUP_MAGIC && u64_at(header, 24) == file.generation;
        if !ours || checksum::crc32c_append(file.seed(), &header[..36]) != u32_at(header, 36) {
            return None;
        }
        Some(Self {
            entries: u32_at(header, 4),
            payload_bytes: u64_at(header, 8),
            first: u64_at(header, 16),
            payload_crc: u32_at(header, 32),
        })
    }
}

/// A group found whole: its entries, and where the next one begins.
pub(super) struct Group {
    pub(super) entries: Vec<Bytes>,
    pub(super) end: usize,
}

impl Group {
    /// `None` unless a whole, undamaged group that begins with entry `first` stands at `position`.
    pub(super) fn at(file: &FileHeader, data: &Bytes, position: usize, first: u64) -> Option<Self> {
        let header =
            GroupHeader::at(file, data, position).filter(|header| header.first == first && 0 < header.entries)?;
        let start = position + GROUP_HEADER_BYTES;
        let end = start.checked_add(usize::try_from(header.payload_bytes).ok()?)?;
        let payload = data.get(start..end)?;
        if checksum::crc32c_append(file.seed(), payload) != header.payload_crc {
            return None;
        }
        let lengths_bytes = usize::try_from(header.entries).ok()?.checked_mul(4)?;
        let lengths = payload.get(..lengths_bytes)?;
        let mut entries = Vec::with_capacity(lengths.len() / 4);
        let mut at = start + lengths_bytes;
        for length in lengths.chunks_exact(4) {
            let next = at.checked_add(usize::try_from(u32_at(length, 0)).ok()?)?;
            if end < next {
                return None;
            }
            entries.push(data.slice(at..next));
            at = next;
        }
        (at == end).then_some(Self {
            entries,
            end: end.next_multiple_of(GROUP_ALIGN),
        })
    }
}

/// Room that a group takes, alignment included.
pub(super) fn group_bytes(entries: &[Vec<Bytes>]) -> u64 {
    let payload: usize = entries.iter().map(|entry| 4 + rope_bytes(entry)).sum();
    (GROUP_HEADER_BYTES + payload).next_multiple_of(GROUP_ALIGN) as u64
}

/// Appends a group to `out`, whose first byte goes to a multiple of [`GROUP_ALIGN`] in the file.
pub(super) fn encode_group(out: &mut Vec<u8>, file: &FileHeader, first: u64, entries: &[Vec<Bytes>]) {
    let start = out.len();
    out.resize(start + GROUP_HEADER_BYTES, 0);
    for entry in entries {
        let len = u32::try_from(rope_bytes(entry)).expect("bounded by ENTRY_BYTES_MAX");
        out.extend_from_slice(&len.to_le_bytes());
    }
    let payload = start + GROUP_HEADER_BYTES;
    let mut payload_crc = checksum::crc32c_append(file.seed(), &out[payload..]);
    // Each piece is checked while the processor's cache has it.
    for piece in entries.iter().flatten().flat_map(|part| part.chunks(CACHED_BYTES)) {
        out.extend_from_slice(piece);
        payload_crc = checksum::crc32c_append(payload_crc, piece);
    }
    let payload_bytes = (out.len() - payload) as u64;
    let count = u32::try_from(entries.len()).expect("bounded by GROUP_ENTRIES_MAX");
    let header = &mut out[start..payload];
    header[..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&count.to_le_bytes());
    header[8..16].copy_from_slice(&payload_bytes.to_le_bytes());
    header[16..24].copy_from_slice(&first.to_le_bytes());
    header[24..32].copy_from_slice(&file.generation.to_le_bytes());
    header[32..36].copy_from_slice(&payload_crc.to_le_bytes());
    let crc = checksum::crc32c_append(file.seed(), &header[..36]);
    header[36..].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(GROUP_ALIGN), 0);
}

/// Where to a write of so many bytes is filled with zeros that ends at `end`: to the end of its block, because to write part of one that is not
/// in memory the system reads it first; and further, as far as `file_bytes`, if it is a small one that makes a file of `len` bytes longer. A sync
/// of bytes that have their place takes half the time of one that has to make a place durable, too.
pub(super) fn padded(bytes: u64, end: u64, len: u64, file_bytes: u64) -> u64 {
    let until = end.next_multiple_of(BLOCK_BYTES as u64);
    if until <= len || limits::GROWTH_BYTES as u64 / 8 < bytes {
        return until;
    }
    let grown = file_bytes.min(end + limits::GROWTH_BYTES as u64);
    until.max(grown.next_multiple_of(BLOCK_BYTES as u64))
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes"))
}
