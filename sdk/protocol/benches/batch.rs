//! What a record costs: writing a batch, checking it, walking over it.
#![allow(missing_docs, reason = "criterion's macros define what nobody reads about")]
#![allow(clippy::unwrap_used, reason = "a bench may fail")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill_protocol::{
    batch::{Batch, Builder, Codec, batches, patch},
    records::Records,
};

const RECORDS: u64 = 1_000;
const BYTES_MAX: usize = 1 << 20;

/// Half text, half noise, as real records are.
fn value(number: u64) -> [u8; 100] {
    let mut value = [b'x'; 100];
    for (index, word) in value[50..].chunks_mut(8).enumerate() {
        let noise = (number + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(7 * u32::try_from(index).unwrap());
        word.copy_from_slice(&noise.to_le_bytes()[..word.len()]);
    }
    value
}

fn build(codec: Codec) -> Bytes {
    let mut builder = Builder::new();
    for number in 0..RECORDS {
        builder.append(1_700_000_000_000, Some(&number.to_be_bytes()), Some(&value(number)), []);
    }
    builder.finish_compressed(codec).unwrap()
}

fn walk(batch: &Batch) -> usize {
    let payload = batch.payload(BYTES_MAX).unwrap();
    payload
        .records()
        .map(|record| record.unwrap().value.map_or(0, <[u8]>::len))
        .sum()
}

fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 records of 100 bytes");
    group.throughput(Throughput::Elements(RECORDS));
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        group.bench_function(format!("build {codec:?}"), |bencher| bencher.iter(|| build(codec)));
        let batch = Batch::parse(build(codec)).unwrap();
        group.bench_function(format!("walk {codec:?}"), |bencher| {
            bencher.iter(|| walk(black_box(&batch)))
        });
    }
    let bytes = build(Codec::None);
    group.bench_function("parse and check CRC", |bencher| {
        bencher.iter(|| Batch::parse(bytes.clone()).unwrap())
    });
    group.bench_function("patch and find again", |bencher| {
        bencher.iter(|| {
            let records: Records = patch(&bytes, 5, 1).unwrap().into_iter().collect();
            batches(&records)
                .map(|batch| batch.unwrap().header().last_offset())
                .max()
        });
    });
    group.finish();
}

criterion_group!(benches, batch);
criterion_main!(benches);
