//! How consecutive batches of one log become rows that fill redb's pages.
//!
//! redb rounds a row larger than a page up to a power of two of pages: 16,384 bytes would take 32 KiB. So a chunk is cut into pieces that each
//! fill such a leaf, or nearly, and what remains stands in the chunk's own row:
//! ```text
//! chunks  (log, last offset)         -> base offset i64 | max timestamp i64 | bytes u32 | pieces u16 | the rest of the batches
//! pages   (log, last offset, piece)  -> about 4096 * 2^k - 22 bytes of the batches
//! ```
use std::ops::Range;

use bytes::Bytes;

use crate::{
    batch::{HEAD_BYTES, HEADER_BYTES, Header},
    limits,
    log::Batch,
};

const PAGE_BYTES: usize = 4096;
/// The largest leaf that a piece fills. It is read in one piece, and while it is put together it should stay in a core's own cache.
const LEAF_BYTES_MAX: usize = PAGE_BYTES << 6;
/// A piece may leave this part of a chunk's bytes empty in its leaf: one large read instead of several that get ever smaller.
const WASTE: usize = 16;
/// What a leaf with one row of table `pages` holds besides the value: 4 of the leaf, 4 for the value's end, 14 of the key.
const LEAF_OVERHEAD_BYTES: usize = 22;
const ROW_HEADER_BYTES: usize = 22;

/// Sizes of the pieces of a chunk, first to last. What is left over belongs in the chunk's row, and is less than a page.
pub(super) fn pieces(bytes: usize) -> Vec<usize> {
    let (mut pieces, mut left) = (Vec::new(), bytes);
    let mut leaf = LEAF_BYTES_MAX;
    while PAGE_BYTES <= leaf {
        let room = leaf - LEAF_OVERHEAD_BYTES;
        if left < room && (left <= leaf / 2 || bytes / WASTE < room - left) {
            leaf /= 2;
            continue;
        }
        let piece = room.min(left);
        pieces.push(piece);
        left -= piece;
    }
    pieces
}

/// Groups a log's batches into chunks of at most [`limits::CHUNK_BYTES`], or of one batch.
pub(super) fn chunks(batches: &[Batch]) -> impl Iterator<Item = &[Batch]> {
    let mut rest = batches;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        while let Some(batch) = rest.get(count) {
            bytes += batch.data.len();
            if 0 < count && limits::CHUNK_BYTES < bytes {
                break;
            }
            count += 1;
        }
        let (chunk, after) = rest.split_at(count);
        rest = after;
        (0 < count).then_some(chunk)
    })
}

/// The row of a chunk, without the bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) bytes: u32,
    pub(crate) pieces: u16,
}

impl Chunk {
    /// `None` of nothing.
    pub(super) fn of(batches: &[Batch], pieces: usize) -> Option<Self> {
        let (first, last) = (batches.first()?, batches.last()?);
        let bytes: usize = batches.iter().map(|batch| batch.data.len()).sum();
        Some(Self {
            base_offset: first.base_offset,
            last_offset: last.last_offset,
            max_timestamp: batches.iter().map(|batch| batch.max_timestamp).max()?,
            bytes: u32::try_from(bytes).expect("an entry is at most ENTRY_BYTES_MAX"),
            pieces: u16::try_from(pieces).expect("a few dozen at most"),
        })
    }

    /// The row, with room for the rest of the batches at its end.
    pub(super) fn encode(&self, rest_bytes: usize) -> (Vec<u8>, Range<usize>) {
        let mut row = Vec::with_capacity(ROW_HEADER_BYTES + rest_bytes);
        row.extend_from_slice(&self.base_offset.to_le_bytes());
        row.extend_from_slice(&self.max_timestamp.to_le_bytes());
        row.extend_from_slice(&self.bytes.to_le_bytes());
        row.extend_from_slice(&self.pieces.to_le_bytes());
        row.resize(ROW_HEADER_BYTES + rest_bytes, 0);
        (row, ROW_HEADER_BYTES..ROW_HEADER_BYTES + rest_bytes)
    }

    /// The chunk, and what of it stands in its row.
    pub(super) fn decode(last_offset: i64, row: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = row.split_at_checked(ROW_HEADER_BYTES)?;
        let chunk = Self {
            base_offset: i64::from_le_bytes(header[..8].try_into().expect("eight bytes")),
            last_offset,
            max_timestamp: i64::from_le_bytes(header[8..16].try_into().expect("eight bytes")),
            bytes: u32::from_le_bytes(header[16..20].try_into().expect("four bytes")),
            pieces: u16::from_le_bytes(header[20..22].try_into().expect("two bytes")),
        };
        Some((chunk, rest))
    }
}

/// Copies batches, as they are stored, into one buffer after the other.
pub(super) struct Filler<'a> {
    batches: std::slice::Iter<'a, Batch>,
    head: [u8; HEAD_BYTES],
    head_left: usize,
    rest: &'a [u8],
}

impl<'a> Filler<'a> {
    pub(super) fn new(batches: &'a [Batch]) -> Self {
        Self {
            batches: batches.iter(),
            head: [0; HEAD_BYTES],
            head_left: 0,
            rest: &[],
        }
    }

    /// Fills `out` with what comes next.
    pub(super) fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.head_left == 0 && self.rest.is_empty() {
                let batch = self.batches.next().expect("pieces and rest add up to the batches");
                (self.head, self.head_left) = (batch.head(), HEAD_BYTES);
                self.rest = &batch.data[HEAD_BYTES..];
            }
            let in_head = 0 < self.head_left;
            let source = if in_head {
                &self.head[HEAD_BYTES - self.head_left..]
            } else {
                self.rest
            };
            let count = source.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&source[..count]);
            out = later;
            if in_head {
                self.head_left -= count;
            } else {
                self.rest = &self.rest[count..];
            }
        }
    }
}

/// The bytes of a chunk, which lie in several pieces, as one sequence.
pub(super) struct Sequence {
    pieces: Vec<Bytes>,
    /// Whether a part of it may be kept as it is; else it is copied.
    keep: bool,
    /// Where each piece ends.
    ends: Vec<usize>,
}

impl Sequence {
    pub(super) fn new(pieces: Vec<Bytes>, keep: bool) -> Self {
        let mut end = 0;
        let ends = pieces.iter().map(|piece| {
            end += piece.len();
            end
        });
        let ends = ends.collect();
        Self { pieces, keep, ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The batch that begins here; `None` if the bytes make no sense.
    pub(super) fn header(&self, at: usize) -> Option<Header> {
        let mut copy = [0; HEADER_BYTES];
        let mut filled = 0;
        for part in self.parts(at..at + HEADER_BYTES) {
            copy[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        let header = Header::parse(&copy).filter(|_| filled == HEADER_BYTES)?;
        (at + header.bytes <= self.len()).then_some(header)
    }

    /// A part of the sequence.
    pub(super) fn slice(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        self.places(range).map(|(piece, range)| match self.keep {
            true => self.pieces[piece].slice(range),
            false => Bytes::copy_from_slice(&self.pieces[piece][range]),
        })
    }

    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.places(range).map(|(piece, range)| &self.pieces[piece][range])
    }

    /// The pieces, and ranges in them, that make up a range; what lies past the end is left out.
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = self.ends.partition_point(|&end| end <= range.start);
        (first..self.pieces.len()).map_while(move |piece| {
            let start = self.ends[piece] - self.pieces[piece].len();
            let (from, to) = (range.start.max(start), range.end.min(self.ends[piece]));
            (from < to).then(|| (piece, from - start..to - start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_their_leaves_and_the_rest_is_less_than_a_page() {
        for bytes in (0..3_000_000).step_by(37) {
            let pieces = pieces(bytes);
            let whole: usize = pieces.iter().sum();
            assert!(bytes - whole < PAGE_BYTES, "{bytes}: {pieces:?}");
            let leaves = pieces
                .iter()
                .map(|piece| (piece + LEAF_OVERHEAD_BYTES).next_power_of_two());
            let wasted = leaves.sum::<usize>() - whole - pieces.len() * LEAF_OVERHEAD_BYTES;
            assert!(wasted <= bytes / WASTE, "{bytes}: {pieces:?} waste {wasted}");
        }
        assert_eq!(pieces(limits::CHUNK_BYTES), [LEAF_BYTES_MAX - LEAF_OVERHEAD_BYTES; 4]);
        assert_eq!(pieces(limits::CHUNK_BYTES - 60_000).len(), 4);
        assert_eq!(pieces(20 << 10), [16_362, 4_074]);
    }
}
