//! Where the parts of one input record lie in its decoded record batch: spans, no copies.
use tidemill_protocol::batch::Record;

/// One record. Its spans are into the chunk (decoded records of one batch) that it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Offset in the partition.
    pub(crate) offset: i64,
    /// Milliseconds.
    pub(crate) timestamp: i64,
    /// Which chunk.
    pub(crate) chunk: u32,
    /// Which input.
    pub(crate) source: u16,
    /// Key.
    pub(crate) key: Span,
    /// Value.
    pub(crate) value: Span,
    /// First of its headers in the delivery's list, and their number.
    pub(crate) headers: (u32, u32),
    /// All of these as they are encoded.
    pub(crate) encoded: Span,
    /// Bytes that it counts for in limits.
    pub(crate) size: u32,
}

/// A nullable byte string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    at: u32,
    /// -1 is null.
    length: i32,
}

/// Bytes that a record counts for beside its own: what the log adds to it.
const OVERHEAD: usize = 8;

impl Entry {
    /// Bytes that a record counts for in limits.
    #[inline]
    pub(crate) fn size(record: &Record<'_>) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = record.headers.map(|header| header.key.len() + length(header.value));
        OVERHEAD + length(record.key) + length(record.value) + headers.sum::<usize>()
    }

    /// Of a record read from `chunk`. Its headers are added to `headers`.
    // Inlined, so that it is made where it stays: one that is moved stalls the processor each time.
    #[inline(always)]
    pub(crate) fn new(record: &Record<'_>, chunk: &[u8], place: (u32, u16), headers: &mut Vec<(Span, Span)>) -> Self {
        let first = headers.len();
        headers.extend(
            record
                .headers
                .map(|header| (Span::new(chunk, Some(header.key)), Span::new(chunk, header.value))),
        );
        // Every header takes bytes of a chunk, and a chunk is bounded.
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            chunk: place.0,
            source: place.1,
            key: Span::new(chunk, record.key),
            value: Span::new(chunk, record.value),
            encoded: Span::new(chunk, Some(record.encoded)),
            headers: (number(first), number(headers.len() - first)),
            size: number(Self::size(record)),
        }
    }
}

impl Span {
    /// Where `part` lies in `chunk`, which it was read from.
    #[inline(always)]
    fn new(chunk: &[u8], part: Option<&[u8]>) -> Self {
        let Some(part) = part else {
            return Self { at: 0, length: -1 };
        };
        let at = part.as_ptr().addr().wrapping_sub(chunk.as_ptr().addr());
        // Chunks are shorter than `DECOMPRESSED_BYTES_MAX`.
        Self {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            length: i32::try_from(part.len()).unwrap_or(i32::MAX),
        }
    }

    /// The bytes.
    pub(crate) fn of<'a>(&self, chunk: &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length).ok()?;
        let at = self.at as usize;
        Some(&chunk[at..at + length])
    }

    /// Length, -1 when null.
    pub(crate) fn length(&self) -> i32 {
        self.length
    }

    /// Length, 0 when null.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0)
    }
}
