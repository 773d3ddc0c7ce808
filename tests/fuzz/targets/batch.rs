//! Record batches: found in a record set, opened, walked over. The CRC is made right first, so that what lies behind it is reached.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_protocol::{
    batch::{Batch, EndTxnMarker, HEADER_BYTES, batches},
    records::Records,
};

const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let bytes = sealed(data);
    for batch in batches(&Records::from(bytes.clone())).flatten() {
        let Ok(payload) = batch.payload(DECOMPRESSED_BYTES_MAX) else {
            continue;
        };
        assert!(payload.bytes().len() <= DECOMPRESSED_BYTES_MAX);
        let _ = EndTxnMarker::of(&payload);
        for record in payload.records().flatten() {
            assert!(record.offset <= batch.header().last_offset());
            assert_eq!(record.headers.count(), record.headers.len());
        }
    }
    if let Ok(batch) = Batch::parse(bytes) {
        let _ = batch.header().check_produced();
        let _ = batch.check_records(DECOMPRESSED_BYTES_MAX);
        assert_eq!(Batch::parse(batch.with_append_time(1).into_bytes()).map(|_| ()), Ok(()));
    }
});

fn sealed(data: &[u8]) -> Bytes {
    let mut bytes = data.to_vec();
    if HEADER_BYTES <= bytes.len() {
        let length = i32::try_from(bytes.len() - 12).expect("inputs are small");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}
