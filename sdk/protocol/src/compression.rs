//! The four codecs of record batches, in Rust alone, bounded.
//!
//! Decompressing takes at most `bytes_max` bytes for the result, and a fixed amount of working memory beside it (zstd: a window of 8 MiB at most;
//! LZ4: two blocks of 4 MiB at most).

use alloc::vec::Vec;
use std::io::{Read, Write};

use crate::batch::{BatchError, Codec};

/// What precedes the blocks of a stream of xerial's Java library: magic, version 1, compatible with 1.
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";

/// Uncompressed bytes of a xerial block, as the Java library cuts them.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// Snappy cannot compress better than 64 bytes into 3; a length beyond this times the input is a lie.
const SNAPPY_RATIO_MAX: usize = 32;

/// Decompresses records into at most `bytes_max` bytes.
pub fn decompress(codec: Codec, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    match codec {
        Codec::None => bounded(bytes, bytes_max),
        Codec::Gzip => bounded(flate2::bufread::MultiGzDecoder::new(bytes), bytes_max),
        Codec::Snappy => snappy(bytes, bytes_max),
        Codec::Lz4 => bounded(lz4_flex::frame::FrameDecoder::new(bytes), bytes_max),
        Codec::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| BatchError::DamagedCompression)?;
            bounded(decoder, bytes_max)
        }
    }
}

/// Compresses records, appending to `to`.
pub fn compress(codec: Codec, bytes: &[u8], to: &mut Vec<u8>) -> Result<(), BatchError> {
    match codec {
        Codec::None => to.extend_from_slice(bytes),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            encoder
                .write_all(bytes)
                .and_then(|()| encoder.finish().map(drop))
                .map_err(failed)?;
        }
        Codec::Snappy => compress_snappy(bytes, to)?,
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(to);
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(failed)?;
        }
        Codec::Zstd => ruzstd::encoding::compress(bytes, to, ruzstd::encoding::CompressionLevel::Fastest),
    }
    Ok(())
}

fn failed<E>(_: E) -> BatchError {
    BatchError::DamagedCompression
}

/// Reads to the end, unless that is beyond the bound.
fn bounded(from: impl Read, bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    from.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes_max < bytes.len() {
        Err(BatchError::TooLarge { bytes_max })
    } else {
        Ok(bytes)
    }
}

/// One raw block, as librdkafka and others write, or blocks in xerial's framing, as Java does.
fn snappy(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, BatchError> {
    let mut to = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(XERIAL_HEADER) else {
        snappy_block(bytes, bytes_max, &mut to)?;
        return Ok(to);
    };
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().ok_or(BatchError::DamagedCompression)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(failed)?;
        let (block, after) = after.split_at_checked(len).ok_or(BatchError::DamagedCompression)?;
        snappy_block(block, bytes_max, &mut to)?;
        rest = after;
    }
    Ok(to)
}

fn snappy_block(block: &[u8], bytes_max: usize, to: &mut Vec<u8>) -> Result<(), BatchError> {
    let len = snap::raw::decompress_len(block).map_err(failed)?;
    if block.len().saturating_mul(SNAPPY_RATIO_MAX) < len {
        return Err(BatchError::DamagedCompression);
    }
    let start = to.len();
    if bytes_max - start < len {
        return Err(BatchError::TooLarge { bytes_max });
    }
    to.resize(start + len, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut to[start..])
        .map(drop)
        .map_err(failed)
}

fn compress_snappy(bytes: &[u8], to: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut encoder = snap::raw::Encoder::new();
    to.extend_from_slice(XERIAL_HEADER);
    for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = to.len();
        let start = length_at + 4;
        to.resize(start + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut to[start..]).map_err(failed)?;
        to.truncate(start + len);
        to[length_at..start].copy_from_slice(&u32::try_from(len).map_err(failed)?.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the reference tools wrote for "tidemill " forty times.
    const GOLDEN: [(Codec, &[u8]); 3] = [
        (
            Codec::Gzip,
            &[
                0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x2b, 0xc9, 0x4c, 0x49, 0xcd, 0xcd, 0xcc,
                0xc9, 0x51, 0x28, 0x19, 0x65, 0xd0, 0x92, 0x01, 0x00, 0x5e, 0xa5, 0x86, 0x71, 0x68, 0x01, 0x00, 0x00,
            ],
        ),
        (
            Codec::Lz4,
            &[
                0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7, 0x14, 0x00, 0x00, 0x00, 0x9f, 0x74, 0x69, 0x64, 0x65, 0x6d,
                0x69, 0x6c, 0x6c, 0x20, 0x09, 0x00, 0xff, 0x48, 0x50, 0x6d, 0x69, 0x6c, 0x6c, 0x20, 0x00, 0x00, 0x00,
                0x00, 0xa7, 0xb0, 0x26, 0x8c,
            ],
        ),
        (
            Codec::Zstd,
            &[
                0x28, 0xb5, 0x2f, 0xfd, 0x64, 0x68, 0x00, 0x85, 0x00, 0x00, 0x48, 0x74, 0x69, 0x64, 0x65, 0x6d, 0x69,
                0x6c, 0x6c, 0x20, 0x01, 0x00, 0x5c, 0x54, 0xcb, 0x11, 0xc1, 0xcb, 0x34, 0x47,
            ],
        ),
    ];

    #[test]
    fn what_the_reference_tools_wrote_is_read() {
        for (codec, bytes) in GOLDEN {
            assert_eq!(
                decompress(codec, bytes, 360).unwrap(),
                b"tidemill ".repeat(40),
                "{codec:?}"
            );
            assert_eq!(
                decompress(codec, bytes, 359),
                Err(BatchError::TooLarge { bytes_max: 359 }),
                "{codec:?}"
            );
        }
    }

    #[test]
    fn snappy_is_read_raw_and_in_blocks() {
        let text = b"tidemill ".repeat(10_000);
        let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, text.len()).unwrap(), text);
        let mut framed = Vec::new();
        compress(Codec::Snappy, &text, &mut framed).unwrap();
        assert!(framed.starts_with(XERIAL_HEADER));
        assert_eq!(decompress(Codec::Snappy, &framed, text.len()).unwrap(), text);
        assert_eq!(
            decompress(Codec::Snappy, &framed, 40_000),
            Err(BatchError::TooLarge { bytes_max: 40_000 })
        );
    }

    #[test]
    fn damage_is_an_error() {
        for (codec, bytes) in GOLDEN {
            assert!(
                decompress(codec, &bytes[..bytes.len() - 12], 1 << 20).is_err(),
                "{codec:?}"
            );
            assert!(decompress(codec, b"no such thing", 1 << 20).is_err(), "{codec:?}");
        }
    }
}
