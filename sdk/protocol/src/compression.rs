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
