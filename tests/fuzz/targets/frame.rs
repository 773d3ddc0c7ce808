//! A connection's bytes: frames are cut off one after the other until one is refused.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_protocol::{
    api::Request,
    frame::{LENGTH_BYTES, length},
};

const FRAME_BYTES_MAX: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let mut rest = Bytes::copy_from_slice(data);
    while let Some(&prefix) = rest.first_chunk::<LENGTH_BYTES>() {
        let Ok(len) = length(prefix, FRAME_BYTES_MAX) else {
            return;
        };
        assert!(len <= FRAME_BYTES_MAX);
        if rest.len() < LENGTH_BYTES + len {
            return;
        }
        let frame = rest.split_to(LENGTH_BYTES + len).slice(LENGTH_BYTES..);
        if Request::decode_frame(frame).is_err() {
            return;
        }
    }
});
