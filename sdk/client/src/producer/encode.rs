//! Records to the bytes of a batch, and the numbers that make a retry recognisable.

use bytes::Bytes;
use tidemill_protocol::api::init_producer_id::InitProducerIdRequest;
use tidemill_protocol::batch::{Batch, BatchError, Builder, Codec, Producer, RecordHeader, add_sequence};

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

/// Adds a record to a batch. Its bytes are copied; nothing else of it is kept.
pub(crate) fn append(builder: &mut Builder, record: &Record) {
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

/// Ends a batch, numbered if a sequence is given.
pub(crate) fn seal(mut builder: Builder, sequence: Option<(Identity, i32)>, codec: Codec) -> Result<Bytes> {
    if let Some(sequence) = sequence {
        builder.producer(producer(sequence));
    }
    builder.finish_compressed(codec).map_err(unusable)
}

/// The same batch under another number.
pub(crate) fn renumber(batch: Bytes, sequence: (Identity, i32)) -> Result<Bytes> {
    let batch = Batch::parse(batch).map_err(unusable)?;
    Ok(batch.with_producer(producer(sequence)).into_bytes())
}

fn producer((identity, base_sequence): (Identity, i32)) -> Producer {
    Producer {
        id: identity.id,
        epoch: identity.epoch,
        base_sequence,
    }
}

fn unusable(error: BatchError) -> Error {
    Error::InvalidArgument(format!("a batch: {error}"))
}

/// The sequence behind `records` records from `sequence` on; numbers wrap from 2^31-1 to 0.
pub(crate) fn sequence_after(sequence: i32, records: usize) -> i32 {
    let count = i32::try_from(records).expect("a batch is bounded far below 2^31 records");
    add_sequence(sequence, count)
}

#[cfg(test)]
mod tests {
    use tidemill_protocol::batch::HEADER_BYTES;

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
            let mut builder = Builder::new();
            records.iter().for_each(|record| append(&mut builder, record));
            let identity = Identity { id: 7, epoch: 1 };
            let sealed = seal(builder, Some((identity, 40)), codec).expect("it encodes");
            let batch = Batch::parse(sealed).expect("a whole one");
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
    fn a_batch_under_another_number_has_the_same_records() {
        let sealed = |identity, sequence| {
            let mut builder = Builder::new();
            append(&mut builder, &Record::to("t").value("v").timestamp(5));
            seal(builder, Some((identity, sequence)), Codec::None).expect("it encodes")
        };
        let (first, second) = (Identity { id: 7, epoch: 1 }, Identity { id: 9, epoch: 0 });
        let again = renumber(sealed(first, 40), (second, 0)).expect("it is a batch");
        assert_eq!(again, sealed(second, 0));
        assert!(HEADER_BYTES < again.len());
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
