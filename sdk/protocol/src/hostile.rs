//! Bytes from an enemy: nothing panics, and nothing allocates more than a small multiple of what was sent.
#![allow(clippy::unwrap_used)]

use alloc::{vec, vec::Vec};
use bytes::{Bytes, BytesMut};

use crate::{
    allocations::peak_of,
    api::{ApiKey, Request, Response},
    arbitrary::Chance,
    batch::{Batch, Builder, Codec, batches},
    limits::DECODE_AMPLIFICATION_MAX,
    records::Records,
};

/// What an error message or an empty vector may take, whatever the size of the frame.
const SLACK_BYTES: usize = 1024;

fn check(bytes: Bytes, decode: impl FnOnce(Bytes)) {
    let bound = bytes.len() * DECODE_AMPLIFICATION_MAX + SLACK_BYTES;
    let peak = peak_of(|| decode(bytes.clone()));
    assert!(
        peak <= bound,
        "{peak} bytes allocated for {} bytes: {:02x?}",
        bytes.len(),
        &bytes[..bytes.len().min(64)]
    );
}

fn check_request(frame: Bytes) {
    check(frame, |frame| drop(Request::decode_frame(frame)));
}

fn check_response(key: ApiKey, version: i16, frame: Bytes) {
    check(frame, |frame| drop(Response::decode_frame(key, version, frame)));
}

/// The frame without its length.
fn frame(rope: Vec<Bytes>) -> Vec<u8> {
    rope.into_iter().collect::<Records>().to_bytes()[4..].to_vec()
}

/// Cuts, flips, overwrites with large numbers, repeats.
fn mutate(bytes: &mut Vec<u8>, from: usize, chance: &mut Chance) {
    for _ in 0..1 + chance.below(3) {
        if bytes.len() <= from {
            return;
        }
        let at = from + chance.below(bytes.len() - from);
        match chance.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << chance.below(8),
            2 => bytes[at] = [0x00, 0x01, 0x7f, 0x80, 0xff][chance.below(5)],
            3 => {
                let large: [u8; 4] = chance.bytes();
                for (byte, new) in bytes[at..].iter_mut().zip(large) {
                    *byte = new;
                }
            }
            _ => {
                let again = bytes[at..].to_vec();
                bytes.extend_from_slice(&again);
            }
        }
    }
}

#[test]
fn mutated_messages_do_no_harm() {
    let mut chance = Chance(6);
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..100 {
                let mut request = frame(
                    Request::arbitrary(key, &mut chance, version)
                        .encode_frame(version, 1, None)
                        .unwrap(),
                );
                mutate(&mut request, 4, &mut chance);
                check_request(request.into());

                let mut response = frame(
                    Response::arbitrary(key, &mut chance, version)
                        .encode_frame(version, 1)
                        .unwrap(),
                );
                mutate(&mut response, 0, &mut chance);
                check_response(key, version, response.into());
            }
        }
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut chance = Chance(7);
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for _ in 0..50 {
                let mut bytes = key.number().to_be_bytes().to_vec();
                bytes.extend(version.to_be_bytes());
                bytes.extend((0..chance.below(200)).map(|_| chance.bytes::<1>()[0]));
                check_request(bytes.clone().into());
                check_response(key, version, bytes.into());
            }
        }
    }
}

/// The worst that can be asked for: as many elements as there are bytes left, each as small on the wire as can be.
#[test]
fn arrays_of_the_smallest_elements_do_no_harm() {
    const LEN: usize = 4_000;
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for prefix in 0..48 {
                for (filler, count) in [
                    (0, LEN),
                    (0, LEN / 6),
                    (1, LEN),
                    (1, LEN / 2),
                    (1, LEN / 4),
                    (2, LEN / 2),
                    (0xff, LEN),
                ] {
                    let mut body = vec![u8::from(key.is_flexible(version)); prefix];
                    if key.is_flexible(version) {
                        body.extend([
                            0x80 | count.to_le_bytes()[0] & 0x7f,
                            0x80 | (count >> 7).to_le_bytes()[0] & 0x7f,
                            0,
                        ]);
                    } else {
                        body.extend(u32::try_from(count).unwrap().to_be_bytes());
                    }
                    body.resize(LEN + prefix, filler);

                    let mut request = key.number().to_be_bytes().to_vec();
                    request.extend(version.to_be_bytes());
                    request.extend([0, 0, 0, 1, 0xff, 0xff]);
                    request.extend(key.is_flexible(version).then_some(0));
                    request.extend_from_slice(&body);
                    check_request(request.into());

                    let mut response = vec![0, 0, 0, 1];
                    response.extend((key != ApiKey::ApiVersions && key.is_flexible(version)).then_some(0));
                    response.extend_from_slice(&body);
                    check_response(key, version, response.into());
                }
            }
        }
    }
}

/// A bound on decompressed bytes, far above what the samples hold.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

/// Working memory of the codecs, which does not depend on the input.
const CODEC_BYTES_MAX: usize = 24 << 20;

fn walk(bytes: Bytes) {
    for batch in batches(&Records::from(bytes.clone())).flatten() {
        if let Ok(payload) = batch.payload(DECOMPRESSED_BYTES_MAX) {
            for record in payload.records().flatten() {
                assert_eq!(record.headers.count(), record.headers.len());
            }
        }
    }
    if let Ok(batch) = Batch::parse(bytes) {
        let _ = batch.header().check_produced();
        let _ = batch.check_records(DECOMPRESSED_BYTES_MAX);
    }
}

/// Makes the length and the CRC right again, so that what lies behind them is reached.
fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn mutated_batches_do_no_harm() {
    let mut chance = Chance(8);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for _ in 0..1_500 {
            let mut builder = Builder::new();
            for _ in 0..1 + chance.below(8) {
                builder.append(5, Some(&chance.payload()), Some(&chance.payload()), []);
            }
            let mut batch = builder.finish_compressed(codec).unwrap().to_vec();
            let from = [0, 21, 61][chance.below(3)];
            mutate(&mut batch, from, &mut chance);
            if batch.len() > 61 && from > 0 {
                seal(&mut batch);
            }
            let fixed = if codec == Codec::None {
                0
            } else {
                DECOMPRESSED_BYTES_MAX * 3 + CODEC_BYTES_MAX
            };
            let bound = batch.len() * DECODE_AMPLIFICATION_MAX + SLACK_BYTES + fixed;
            let batch = Bytes::from(batch);
            let peak = peak_of(|| walk(batch.clone()));
            assert!(
                peak <= bound,
                "{peak} bytes allocated for {} with {codec:?}",
                batch.len()
            );
        }
    }
}

#[test]
fn a_tiny_batch_cannot_ask_for_more_than_the_bound() {
    for (codec, bomb) in [
        (2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00][..]),
        (2, b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff"),
        (3, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0xff, 0x7f]),
        (
            4,
            &[
                0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x01, 0x00, 0x00,
            ],
        ),
        (4, &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00]),
    ] {
        let mut builder = Builder::new();
        builder.append(0, None, None, []);
        let mut batch = BytesMut::from(&builder.finish()[..61]);
        batch[22] = codec;
        batch[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        batch.extend_from_slice(bomb);
        seal(&mut batch);
        let batch = batch.freeze();
        let peak = peak_of(|| {
            assert!(
                Batch::parse(batch.clone())
                    .unwrap()
                    .payload(DECOMPRESSED_BYTES_MAX)
                    .is_err()
            )
        });
        assert!(peak <= CODEC_BYTES_MAX, "{peak} bytes allocated with codec {codec}");
    }
}
