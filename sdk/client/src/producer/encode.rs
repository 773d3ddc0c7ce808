//! Records to the bytes of a batch, and the numbers that make a retry recognisable.

use bytes::Bytes;
use tidemill_protocol::api::init_producer_id::InitProducerIdRequest;
use tidemill_protocol::batch::{Builder, Codec, Producer, RecordHeader, add_sequence};
use tidemill_protocol::records::Records;

use crate::client::Inner;
use crate::error::{Error, Result, check};
use crate::record::Record;

/// Who an idempotent producer is to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    id: i64,
    epoch: i16,
}

impl Identity {
    /// A new one.
    pub(crate) async fn ask(client: &Inner) -> Result<Identity> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let response = client.call_any(request).await?;
        check(response.error_code, None, || "producer id".to_owned())?;
        Ok(Identity {
            id: response.producer_id,
            epoch: response.producer_epoch,
        })
    }
}

/// A batch's bytes, kept for sending them again unchanged.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) records: Records,
}

/// Encodes a batch, numbered if a sequence is given.
pub(crate) fn encode(records: &[Record], sequence: Option<(Identity, i32)>, codec: Codec) -> Result<Encoded> {
    let mut builder = Builder::new();
    if let Some((identity, base_sequence)) = sequence {
        builder.producer(Producer {
            id: identity.id,
            epoch: identity.epoch,
            base_sequence,
        });
    }
    for record in records {
        let headers = record.headers.iter().map(|header| RecordHeader {
            key: header.key.as_bytes(),
            value: header.value.as_ref().map(Bytes::as_ref),
        });
        builder.append(
            record.timestamp.unwrap_or(-1),
            record.key.as_deref(),
            record.value.as_deref(),
            headers,
        );
    }
    let bytes = builder
        .finish_compressed(codec)
        .map_err(|e| Error::InvalidArgument(format!("a batch: {e}")))?;
    Ok(Encoded {
        records: Records::from(bytes),
    })
}

/// The sequence behind `records` records from `sequence` on; numbers wrap from 2^31-1 to 0.
pub(crate) fn sequence_after(sequence: i32, records: usize) -> i32 {
    let count = i32::try_from(records).expect("a batch is bounded far below 2^31 records");
    add_sequence(sequence, count)
}

#[cfg(test)]
mod tests {
    use tidemill_protocol::batch::batches;

    use super::*;

    #[test]
    fn a_batch_comes_back_as_it_went_in_every_codec() {
        let records: Vec<Record> = (0..100)
            .map(|n| {
                Record::to("t")
                    .key(format!("k{n}"))
                    .value(vec![b'v'; n])
                    .header("h", "1")
                    .header("h", "2")
                    .timestamp(n as i64)
            })
            .collect();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let identity = Identity { id: 7, epoch: 1 };
            let encoded = encode(&records, Some((identity, 40)), codec).expect("it encodes");
            let batch = batches(&encoded.records)
                .next()
                .expect("one batch")
                .expect("a whole one");
            assert_eq!((batch.header().producer_id, batch.header().base_sequence), (7, 40));
            let payload = batch.payload(1 << 20).expect("it decompresses");
            let back: Vec<_> = payload
                .records()
                .map(|record| record.expect("a whole record"))
                .collect();
            assert_eq!(back.len(), records.len());
            assert_eq!(back[42].key, Some(b"k42".as_slice()));
            assert_eq!(back[42].headers.len(), 2);
        }
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
