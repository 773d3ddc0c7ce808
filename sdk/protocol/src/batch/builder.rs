//! Makes record batches.

use alloc::vec::Vec;
use bytes::Bytes;

use super::{
    Attributes, BatchError, Codec, HEADER_BYTES, RecordHeader,
    header::{self, Header},
    varint::{Head, put_varint, varint_bytes},
};

/// Who produces a batch, for idempotence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// From InitProducerId; -1 for none.
    pub id: i64,
    /// From InitProducerId; -1 for none.
    pub epoch: i16,
    /// Sequence number of the first record; -1 for none.
    pub base_sequence: i32,
}

impl Producer {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self {
        id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// A batch in the making, encoded as it grows.
#[derive(Clone, Debug)]
pub struct Builder {
    /// Room for the header, then records.
    bytes: Vec<u8>,
    attributes: Attributes,
    producer: Producer,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: i32,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// What a record takes at most before its key: length, attributes and deltas.
    pub const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5;

    /// An empty batch without compression and without a producer.
    pub fn new() -> Self {
        Self {
            bytes: alloc::vec![0; HEADER_BYTES],
            attributes: Attributes::default(),
            producer: Producer::NONE,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            record_count: 0,
        }
    }

    /// Sets who produces it.
    pub fn producer(&mut self, producer: Producer) -> &mut Self {
        self.producer = producer;
        self
    }

    /// Sets the flags. The codec among them is set by [`Builder::finish_compressed`].
    pub fn attributes(&mut self, attributes: Attributes) -> &mut Self {
        self.attributes = Attributes {
            codec: Codec::None,
            ..attributes
        };
        self
    }

    /// Makes room for so many bytes more, if the caller knows.
    pub fn reserve(&mut self, bytes: usize) -> &mut Self {
        self.bytes.reserve(bytes);
        self
    }

    /// Adds a record.
    pub fn append<'a>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = RecordHeader<'a>, IntoIter: Clone>,
    ) {
        let headers = headers.into_iter();
        let header_count = headers.clone().count() as i64;
        let header_bytes = headers
            .clone()
            .map(|header| nullable_bytes(Some(header.key)) + nullable_bytes(header.value))
            .sum::<usize>();
        let encoded_bytes = nullable_bytes(key) + nullable_bytes(value) + varint_bytes(header_count) + header_bytes;
        self.begin(timestamp, encoded_bytes);
        let start = self.bytes.len();
        self.put_nullable(key);
        self.put_nullable(value);
        put_varint(&mut self.bytes, header_count);
        for header in headers {
            self.put_nullable(Some(header.key));
            self.put_nullable(header.value);
        }
        debug_assert_eq!(
            self.bytes.len() - start,
            encoded_bytes,
            "a record is as long as it says"
        );
    }

    /// Adds a record whose key, value and headers are [`Record::encoded`](super::Record::encoded) in another batch: one copy.
    #[inline]
    pub fn append_encoded(&mut self, timestamp: i64, encoded: &[u8]) {
        self.begin(timestamp, encoded.len());
        self.bytes.extend_from_slice(encoded);
    }

    /// What stands before key, value and headers.
    #[inline(always)]
    fn begin(&mut self, timestamp: i64, encoded_bytes: usize) {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.record_count);
        let record_bytes = 1 + varint_bytes(timestamp_delta) + varint_bytes(offset_delta) + encoded_bytes;
        self.bytes.reserve(Self::RECORD_OVERHEAD_MAX + encoded_bytes);
        // Attributes, of which there are none, are a byte that is 0: the number 0.
        let numbers = [signed(record_bytes), 0, timestamp_delta, offset_delta];
        match numbers
            .iter()
            .try_fold(Head::default(), |head, number| head.and(*number))
        {
            Some(head) => head.put(&mut self.bytes),
            None => numbers.iter().for_each(|number| put_varint(&mut self.bytes, *number)),
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;
    }

    /// Bytes so far, header included, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// An upper bound of what a record adds to [`Builder::size`].
    pub fn record_bytes_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader<'_>]) -> usize {
        let headers = headers
            .iter()
            .map(|header| nullable_bytes(Some(header.key)) + nullable_bytes(header.value));
        Self::RECORD_OVERHEAD_MAX + 5 + nullable_bytes(key) + nullable_bytes(value) + headers.sum::<usize>()
    }

    /// The batch, uncompressed: base offset 0, leader epoch -1, CRC set.
    pub fn finish(self) -> Bytes {
        let mut header = self.header();
        let mut bytes = self.bytes;
        header.batch_length = batch_length(bytes.len());
        header.write(&mut bytes);
        header::seal(&mut bytes);
        Bytes::from(bytes)
    }

    /// The batch, compressed: base offset 0, leader epoch -1, CRC set.
    #[cfg(feature = "compression")]
    pub fn finish_compressed(self, codec: Codec) -> Result<Bytes, BatchError> {
        if codec == Codec::None {
            return Ok(self.finish());
        }
        let mut header = self.header();
        let mut bytes = alloc::vec![0; HEADER_BYTES];
        crate::compression::compress(codec, &self.bytes[HEADER_BYTES..], &mut bytes)?;
        header.attributes.codec = codec;
        header.batch_length = batch_length(bytes.len());
        header.write(&mut bytes);
        header::seal(&mut bytes);
        Ok(Bytes::from(bytes))
    }

    /// The batch, if no compression is asked for: this build has none.
    #[cfg(not(feature = "compression"))]
    pub fn finish_compressed(self, codec: Codec) -> Result<Bytes, BatchError> {
        match codec {
            Codec::None => Ok(self.finish()),
            other => Err(BatchError::UnsupportedCompression(other as i8)),
        }
    }

    #[inline(always)]
    fn put_nullable(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            return put_varint(&mut self.bytes, -1);
        };
        put_varint(&mut self.bytes, signed(bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    fn header(&self) -> Header {
        Header {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: (self.record_count - 1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: if self.is_empty() { -1 } else { self.max_timestamp },
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: self.record_count,
        }
    }
}

#[inline]
fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint_bytes(signed(bytes.len())) + bytes.len(),
        None => 1,
    }
}

#[inline]
fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("a slice is at most isize::MAX bytes long")
}

/// Callers bound a batch far below this by [`Builder::size`]; one that does not fit its length field would be refused by every reader.
fn batch_length(bytes: usize) -> i32 {
    i32::try_from(bytes - 12).unwrap_or(i32::MAX)
}
