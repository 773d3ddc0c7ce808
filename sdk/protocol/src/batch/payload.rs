//! The records of a batch, read in place.

use bytes::Bytes;

use super::{BatchError, Codec, Header, TimestampType, varint::Cursor};

/// Records of one batch, decompressed, not yet looked at.
#[derive(Clone, Debug)]
pub struct Payload {
    header: Header,
    bytes: Bytes,
}

impl Payload {
    pub(super) fn open(header: Header, records: Bytes, bytes_max: usize) -> Result<Self, BatchError> {
        let bytes = match header.attributes.codec {
            Codec::None => records,
            codec => decompress(codec, &records, bytes_max)?,
        };
        if bytes_max < bytes.len() {
            return Err(BatchError::TooLarge { bytes_max });
        }
        Ok(Self { header, bytes })
    }

    /// The header of the batch.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that keys, values and headers are slices of. `bytes().slice_ref(value)` makes a borrowed value an owned one without a copy.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records in order. After an error there are no more.
    pub fn records(&self) -> Walk<'_> {
        Walk {
            header: &self.header,
            rest: Cursor(&self.bytes),
            index: 0,
            next_delta: 0,
        }
    }
}

#[cfg(feature = "compression")]
fn decompress(codec: Codec, bytes: &[u8], bytes_max: usize) -> Result<Bytes, BatchError> {
    crate::compression::decompress(codec, bytes, bytes_max).map(Bytes::from)
}

#[cfg(not(feature = "compression"))]
fn decompress(codec: Codec, _: &[u8], _: usize) -> Result<Bytes, BatchError> {
    Err(BatchError::UnsupportedCompression(codec as i8))
}

/// A record in its batch. Nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Place in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Key, if there is one.
    pub key: Option<&'a [u8]>,
    /// Value; `None` deletes the key in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in the order in which they were written; a name may repeat.
    pub headers: Headers<'a>,
    /// Key, value and headers as they are encoded: what [`Builder::append_encoded`](super::Builder::append_encoded) takes.
    pub encoded: &'a [u8],
}

/// A name and a value that travel with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Name, UTF-8 by convention.
    pub key: &'a [u8],
    /// Value, if there is one.
    pub value: Option<&'a [u8]>,
}

/// Walks over the records of a [`Payload`].
///
/// Offsets increase and stay within those of the batch; there are as many records as the header says, and no bytes after the last.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    header: &'a Header,
    rest: Cursor<'a>,
    index: i32,
    /// Smallest delta that the next record may have.
    next_delta: i32,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.header.record_count {
            return self.end();
        }
        let index = self.index;
        self.index += 1;
        let Some(record) = self.take_record() else {
            self.index = self.header.record_count;
            self.rest = Cursor(&[]);
            return Some(Err(BatchError::MalformedRecord { index }));
        };
        Some(Ok(record))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.header.record_count - self.index).unwrap_or(0);
        (0, left.checked_add(1))
    }
}

impl<'a> Walk<'a> {
    fn end(&mut self) -> Option<Result<Record<'a>, BatchError>> {
        if self.rest.is_empty() {
            return None;
        }
        self.rest = Cursor(&[]);
        Some(Err(BatchError::Inconsistent("bytes after the last record")))
    }

    #[inline(always)]
    fn take_record(&mut self) -> Option<Record<'a>> {
        let len = self.rest.varint()?;
        let mut from = Cursor(self.rest.take(usize::try_from(len).ok()?)?);
        let _attributes = from.byte()?;
        let timestamp_delta = from.varlong()?;
        let offset_delta = from.varint()?;
        let encoded = from.0;
        let key = from.nullable()?;
        let value = from.nullable()?;
        let headers = Headers::take(&mut from)?;
        if !from.is_empty() || offset_delta < self.next_delta || self.header.last_offset_delta < offset_delta {
            return None;
        }
        self.next_delta = offset_delta.saturating_add(1);
        let timestamp = match self.header.attributes.timestamp_type {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        Some(Record {
            offset: self.header.base_offset + i64::from(offset_delta),
            timestamp,
            key,
            value,
            headers,
            encoded,
        })
    }
}

/// Headers of a record, read in place. They were checked when the record was.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    count: usize,
    rest: Cursor<'a>,
}

impl<'a> Headers<'a> {
    #[inline(always)]
    fn take(from: &mut Cursor<'a>) -> Option<Self> {
        let count = usize::try_from(from.varint()?).ok()?;
        let headers = Self { count, rest: *from };
        for _ in 0..count {
            take_header(from)?;
        }
        Some(headers)
    }
}

#[inline]
fn take_header<'a>(from: &mut Cursor<'a>) -> Option<RecordHeader<'a>> {
    let key = from.nullable()??;
    let value = from.nullable()?;
    Some(RecordHeader { key, value })
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.count = self.count.checked_sub(1)?;
        take_header(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}
