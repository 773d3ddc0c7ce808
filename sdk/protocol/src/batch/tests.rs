//! Batches as they are built, read, patched and damaged.

#![allow(clippy::unwrap_used)]
use alloc::{format, string::String, vec, vec::Vec};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::{arbitrary::Chance, records::Records};

const BYTES_MAX: usize = 1 << 20;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

#[derive(Clone, Debug, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn arbitrary(chance: &mut Chance) -> Self {
        let bytes = |chance: &mut Chance| chance.flip().then(|| chance.payload().to_vec());
        Self {
            timestamp: 1_700_000_000_000 + i64::from(i16::from_be_bytes(chance.bytes())),
            key: bytes(chance),
            value: bytes(chance),
            headers: (0..chance.below(4))
                .map(|_| (chance.string().into_bytes(), bytes(chance)))
                .collect(),
        }
    }

    fn of(record: &Record<'_>) -> Self {
        Self {
            timestamp: record.timestamp,
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            headers: record
                .headers
                .map(|header| (header.key.into(), header.value.map(Vec::from)))
                .collect(),
        }
    }
}

fn build(records: &[Owned], codec: Codec) -> Bytes {
    let mut builder = Builder::new();
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| RecordHeader {
                key,
                value: value.as_deref(),
            })
            .collect();
        let bound =
            builder.size() + Builder::record_bytes_max(record.key.as_deref(), record.value.as_deref(), &headers);
        builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            headers,
        );
        assert!(builder.size() <= bound);
    }
    builder.finish_compressed(codec).unwrap()
}

fn walk(batch: &Batch) -> Vec<Owned> {
    batch
        .payload(BYTES_MAX)
        .unwrap()
        .records()
        .map(|record| Owned::of(&record.unwrap()))
        .collect()
}

fn sample() -> Bytes {
    let mut chance = Chance(5);
    let records: Vec<_> = (0..10).map(|_| Owned::arbitrary(&mut chance)).collect();
    build(&records, Codec::None)
}

#[test]
fn records_come_back_as_they_were_with_every_codec() {
    let mut chance = Chance(2);
    for round in 0..40 {
        let records: Vec<_> = (0..1 + chance.below(30))
            .map(|_| Owned::arbitrary(&mut chance))
            .collect();
        for codec in CODECS {
            let batch = Batch::parse(build(&records, codec)).unwrap();
            assert_eq!(batch.header().check_produced(), Ok(()));
            assert_eq!(batch.check_records(BYTES_MAX), Ok(()), "{codec:?} {round}");
            assert_eq!(walk(&batch), records, "{codec:?} {round}");
        }
    }
}

#[test]
fn an_uncompressed_batch_is_what_the_oracle_writes() {
    use kafka_protocol::{
        indexmap::IndexMap,
        protocol::StrBytes,
        records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
    };
    let mut chance = Chance(3);
    for _ in 0..100 {
        let mut records: Vec<_> = (0..1 + chance.below(5))
            .map(|_| Owned::arbitrary(&mut chance))
            .collect();
        // The oracle loses headers whose name repeats, so each gets a name of its own.
        for header in records
            .iter_mut()
            .flat_map(|record| record.headers.iter_mut().enumerate())
        {
            header.1.0 = format!("name {}", header.0).into_bytes();
        }
        let theirs = records.iter().zip(0..).map(|(record, offset)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 7,
            producer_epoch: 3,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: 11 + i32::try_from(offset).unwrap(),
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| {
                    let key = StrBytes::from_string(String::from_utf8(key.clone()).unwrap());
                    (key, value.clone().map(Bytes::from))
                })
                .collect::<IndexMap<_, _>>(),
        });
        let theirs: Vec<_> = theirs.collect();
        let mut written = BytesMut::new();
        let options = RecordEncodeOptions {
            version: 2,
            compression: Compression::None,
        };
        RecordBatchEncoder::encode(&mut written, &theirs, &options).unwrap();

        let mut builder = Builder::new();
        builder.producer(Producer {
            id: 7,
            epoch: 3,
            base_sequence: 11,
        });
        for record in &records {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|(key, value)| RecordHeader {
                    key,
                    value: value.as_deref(),
                })
                .collect();
            builder.append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
            );
        }
        let ours = builder.finish();
        assert_eq!(RecordBatchDecoder::decode(&mut ours.clone()).unwrap().records, theirs);
        assert_eq!(walk(&Batch::parse(written.freeze()).unwrap()), records);
    }
}

#[test]
fn a_repeated_header_name_is_kept() {
    let twice = [
        RecordHeader {
            key: b"x",
            value: Some(b"1"),
        },
        RecordHeader { key: b"x", value: None },
    ];
    let mut builder = Builder::new();
    builder.append(1, None, None, twice);
    let payload = Batch::parse(builder.finish()).unwrap().payload(BYTES_MAX).unwrap();
    let record = payload.records().next().unwrap().unwrap();
    assert_eq!(record.headers.collect::<Vec<_>>(), twice);
}

#[test]
fn a_patched_batch_shares_its_records_and_keeps_its_crc() {
    let batch = sample();
    let patched = patch(&batch, 1_000, 5).unwrap();
    assert_eq!(patched[1].as_ptr(), batch[16..].as_ptr());
    let records: Records = patched.into_iter().collect();
    assert_eq!(records.len(), batch.len());
    let header = *Batch::parse(records.to_bytes()).unwrap().header();
    assert_eq!(
        (header.base_offset, header.partition_leader_epoch, header.last_offset()),
        (1_000, 5, 1_009)
    );
}

#[test]
fn batches_are_found_however_the_record_set_is_cut() {
    let (first, second) = (sample(), sample());
    let records: Records = [patch(&first, 0, 1).unwrap(), patch(&second, 10, 1).unwrap()]
        .into_iter()
        .flatten()
        .collect();
    let expected: Vec<_> = batches(&records).collect::<Result<_, _>>().unwrap();
    assert_eq!(
        expected
            .iter()
            .map(|batch| batch.header().base_offset)
            .collect::<Vec<_>>(),
        [0, 10]
    );
    let whole = records.to_bytes();
    for piece in [1, 7, 61, 100, 4_000] {
        let cut: Records = (0..whole.len())
            .step_by(piece)
            .map(|at| whole.slice(at..whole.len().min(at + piece)))
            .collect();
        assert_eq!(batches(&cut).collect::<Result<Vec<_>, _>>().unwrap(), expected);
    }
    let short = Records::from(whole.slice(..whole.len() - 1));
    let found: Vec<_> = batches(&short).collect();
    assert_eq!((found.len(), found[1].clone()), (2, Err(BatchError::Truncated)));
}

#[test]
fn no_flipped_bit_behind_the_head_goes_unnoticed() {
    let batch = sample();
    for bit in HEAD_BYTES * 8..batch.len() * 8 {
        let mut damaged = BytesMut::from(&batch[..]);
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Batch::parse(damaged.freeze()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_batch_that_is_cut_or_followed_by_more_is_refused() {
    let batch = sample();
    for len in 0..batch.len() {
        assert_eq!(Batch::parse(batch.slice(..len)), Err(BatchError::Truncated));
    }
    let mut longer = BytesMut::from(&batch[..]);
    longer.extend_from_slice(&[0]);
    assert_eq!(Batch::parse(longer.freeze()), Err(BatchError::TrailingBytes));
}

/// A batch whose header was changed and sealed again.
fn changed(change: impl Fn(&mut Header)) -> Result<Batch, BatchError> {
    let mut bytes = sample().to_vec();
    let mut header = Header::parse(&bytes).unwrap();
    change(&mut header);
    header.write(&mut bytes);
    header::seal(&mut bytes);
    Batch::parse(Bytes::from(bytes))
}

#[test]
fn contradictions_are_refused() {
    type Change = fn(&mut Header);
    let inconsistent: [Change; 5] = [
        |header| header.record_count = -1,
        |header| header.record_count = 11,
        |header| header.last_offset_delta = -1,
        |header| header.last_offset_delta = 8,
        |header| header.base_offset = i64::MAX - 5,
    ];
    for change in inconsistent {
        assert!(matches!(changed(change), Err(BatchError::Inconsistent(_))));
    }
    assert_eq!(
        changed(|header| header.batch_length = 48),
        Err(BatchError::InvalidLength(48))
    );
    assert_eq!(
        changed(|header| header.batch_length = -1),
        Err(BatchError::InvalidLength(-1))
    );

    let not_produced: [Change; 6] = [
        |header| header.record_count = 0,
        |header| header.last_offset_delta = 10,
        |header| header.attributes.is_control = true,
        |header| header.attributes.has_delete_horizon = true,
        |header| header.producer_id = 5,
        |header| header.attributes.is_transactional = true,
    ];
    for change in not_produced {
        let batch = changed(change).unwrap();
        assert!(matches!(
            batch.header().check_produced(),
            Err(BatchError::Inconsistent(_))
        ));
    }
    assert!(
        changed(|header| header.max_timestamp += 1)
            .unwrap()
            .check_records(BYTES_MAX)
            .is_err()
    );
    let fewer = changed(|header| header.record_count = 9).unwrap();
    assert_eq!(
        fewer.check_records(BYTES_MAX),
        Err(BatchError::Inconsistent("bytes after the last record"))
    );
}

#[test]
fn formats_before_version_two_are_refused() {
    for magic in [0, 1, 3, 0xff] {
        let mut bytes = sample().to_vec();
        bytes[16] = magic;
        assert_eq!(
            Batch::parse(Bytes::from(bytes)),
            Err(BatchError::UnsupportedMagic(magic.cast_signed()))
        );
    }
}

#[test]
fn records_that_decompress_beyond_the_bound_are_refused() {
    let record = Owned {
        timestamp: 0,
        key: None,
        value: Some(vec![0; 300_000]),
        headers: vec![],
    };
    for codec in CODECS {
        let batch = Batch::parse(build(core::slice::from_ref(&record), codec)).unwrap();
        assert_eq!(
            batch.payload(300_000).unwrap_err(),
            BatchError::TooLarge { bytes_max: 300_000 },
            "{codec:?}"
        );
        assert!(batch.payload(300_100).is_ok(), "{codec:?}");
    }
}

#[test]
fn append_time_replaces_every_timestamp() {
    let batch = Batch::parse(sample()).unwrap().with_append_time(77);
    let batch = Batch::parse(batch.into_bytes()).unwrap();
    assert_eq!(batch.header().attributes.timestamp_type, TimestampType::LogAppendTime);
    assert!(walk(&batch).iter().all(|record| record.timestamp == 77));
    assert_eq!(batch.check_records(BYTES_MAX), Ok(()));
}

#[test]
fn a_transaction_marker_comes_back() {
    for control_type in [ControlType::Abort, ControlType::Commit] {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 9,
        };
        let batch = Batch::parse(marker.to_batch(5, 1, 1_000)).unwrap();
        assert_eq!(EndTxnMarker::of(&batch.payload(BYTES_MAX).unwrap()), Some(marker));
    }
    assert_eq!(
        EndTxnMarker::of(&Batch::parse(sample()).unwrap().payload(BYTES_MAX).unwrap()),
        None
    );
}

/// One record: key "k", value "v", timestamp 1. The CRC was computed by other means.
#[test]
fn a_batch_has_these_bytes() {
    let mut builder = Builder::new();
    builder.append(1, Some(b"k"), Some(b"v"), []);
    let expected = [
        &[0; 8][..],                         // base offset
        &[0, 0, 0, 58],                      // length
        &[0xff; 4],                          // leader epoch
        &[2],                                // magic
        &0x6f48_4c23u32.to_be_bytes(),       // CRC
        &[0, 0],                             // attributes
        &[0; 4],                             // last offset delta
        &[0, 0, 0, 0, 0, 0, 0, 1],           // base timestamp
        &[0, 0, 0, 0, 0, 0, 0, 1],           // max timestamp
        &[0xff; 14],                         // producer id, epoch, sequence
        &[0, 0, 0, 1],                       // count
        &[16, 0, 0, 0, 2, b'k', 2, b'v', 0], // record
    ]
    .concat();
    assert_eq!(builder.finish(), expected);
}
