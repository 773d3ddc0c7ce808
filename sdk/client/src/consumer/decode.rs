//! Fetched bytes to records: checked, decompressed within a bound, from the position on.

use std::sync::Arc;

use tidemill_protocol::batch::{Encoded, batches};
use tidemill_protocol::records::Records;

use super::state::Taken;
use crate::error::{Error, Result};
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::record::{ConsumerRecord, Header};

/// What decoding gave.
pub(super) struct Decoded {
    pub(super) records: Vec<ConsumerRecord>,
    /// Where to go on: behind the last record, and behind what holds no records for the application.
    pub(super) position: i64,
    /// Batches that were not needed.
    pub(super) rest: Records,
}

/// Decodes at least one batch and at most about `records_max` records. A batch that is only partly wanted comes again as
/// rest, and is then read from the position on.
pub(super) fn decode(taken: &Taken, records_max: usize) -> Result<Decoded> {
    let topic: Arc<str> = Arc::from(taken.place.topic.as_str());
    let bytes = taken.records.to_bytes();
    let mut decoded = Decoded {
        records: Vec::new(),
        position: taken.position,
        rest: Records::new(),
    };
    let mut used = 0;
    for batch in batches(&taken.records) {
        let batch = batch.map_err(|e| corrupt(taken, &e))?;
        let header = *batch.header();
        let is_wanted = !header.attributes.is_control && decoded.position < header.next_offset();
        let is_whole = !is_wanted || append(&mut decoded, &batch, taken, &topic, records_max)?;
        if !is_whole {
            break;
        }
        used += header.batch_bytes();
        decoded.position = decoded.position.max(header.next_offset());
        if records_max <= decoded.records.len() {
            break;
        }
    }
    decoded.rest = Records::from(bytes.slice(used..));
    Ok(decoded)
}

/// Adds the records of a batch from the position on. Whether all of them fitted.
fn append(decoded: &mut Decoded, batch: &Encoded, taken: &Taken, topic: &Arc<str>, records_max: usize) -> Result<bool> {
    let payload = batch.payload(DECOMPRESSED_BYTES_MAX).map_err(|e| corrupt(taken, &e))?;
    for record in payload.records() {
        let record = record.map_err(|e| corrupt(taken, &e))?;
        if record.offset < decoded.position {
            continue;
        }
        if records_max <= decoded.records.len() {
            return Ok(false);
        }
        let own = |bytes: Option<&[u8]>| bytes.map(|bytes| payload.bytes().slice_ref(bytes));
        let headers = record.headers.map(|header| Header {
            key: String::from_utf8_lossy(header.key).into_owned(),
            value: own(header.value),
        });
        decoded.records.push(ConsumerRecord {
            topic: topic.clone(),
            partition: taken.place.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: own(record.key),
            value: own(record.value),
            headers: headers.collect(),
        });
        decoded.position = record.offset + 1;
    }
    Ok(true)
}

fn corrupt(taken: &Taken, reason: &impl std::fmt::Display) -> Error {
    Error::protocol(format_args!("{} from offset {}: {reason}", taken.place, taken.position))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_protocol::batch::{Builder, Codec, patch};

    use super::*;
    use crate::record::TopicPartition;

    fn batch(base_offset: i64, values: &[&str], codec: Codec) -> Vec<Bytes> {
        let mut builder = Builder::new();
        for value in values {
            builder.append(1, None, Some(value.as_bytes()), std::iter::empty());
        }
        let bytes = builder.finish_compressed(codec).expect("it encodes");
        patch(&bytes, base_offset, 0).expect("it has a header").to_vec()
    }

    fn taken(position: i64, batches: Vec<Vec<Bytes>>) -> Taken {
        let records = batches.into_iter().flatten().collect();
        Taken {
            place: TopicPartition::new("t", 0),
            epoch: 0,
            position,
            high_watermark: 100,
            records,
        }
    }

    fn offsets(decoded: &Decoded) -> Vec<i64> {
        decoded.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_below_the_position_are_dropped() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let decoded = decode(&taken(12, vec![batch(10, &["a", "b", "c", "d"], codec)]), 100).expect("it decodes");
            assert_eq!(offsets(&decoded), [12, 13]);
            assert_eq!((decoded.position, decoded.rest.is_empty()), (14, true));
        }
    }

    #[test]
    fn a_batch_that_is_only_partly_wanted_comes_again() {
        let batches = vec![
            batch(0, &["a", "b"], Codec::None),
            batch(2, &["c", "d", "e"], Codec::None),
        ];
        let mut from = taken(0, batches);
        let mut all = Vec::new();
        while !from.records.is_empty() {
            let decoded = decode(&from, 2).expect("it decodes");
            assert!(decoded.records.len() <= 2);
            all.extend(offsets(&decoded));
            from = Taken {
                position: decoded.position,
                records: decoded.rest,
                ..from
            };
        }
        assert_eq!(all, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn damage_is_an_error() {
        let mut bytes = batch(0, &["abc"], Codec::None);
        let mut tail = bytes.pop().expect("it has a tail").to_vec();
        *tail.last_mut().expect("it is not empty") ^= 1;
        bytes.push(Bytes::from(tail));
        assert!(matches!(decode(&taken(0, vec![bytes]), 10), Err(Error::Protocol(_))));
    }
}
