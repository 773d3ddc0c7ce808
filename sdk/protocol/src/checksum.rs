//! CRC-32C (RFC 3720, appendix B.4), the checksum of record batches and of the journal.
//!
//! Every byte that a broker keeps is checked two times, and once more by each client, so what it costs counts.
use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of some bytes.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what `crc` is the checksum of, with `bytes` behind it.
#[inline]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a checksum of 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard_and_of_another_implementation() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let bytes: alloc::vec::Vec<u8> = (0..20_000_u32)
            .map(|n| n.wrapping_mul(7_919).to_le_bytes()[1])
            .collect();
        for len in (0..600).chain([1_023, 4_096, 4_097, 16_384, 20_000]) {
            let (first, second) = bytes[..len].split_at(len / 3);
            let expected = ::crc32c::crc32c(&bytes[..len]);
            assert_eq!(crc32c(&bytes[..len]), expected, "{len} bytes");
            assert_eq!(
                crc32c_append(crc32c(first), second),
                expected,
                "{len} bytes in two parts"
            );
        }
    }
}
