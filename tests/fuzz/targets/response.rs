//! A response that can be read is written, and read again as the same. The first two bytes choose API and version.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_protocol::{
    api::{ApiKey, Response},
    frame::LENGTH_BYTES,
    records::Records,
};

fuzz_target!(|data: &[u8]| {
    let [api, version, frame @ ..] = data else { return };
    let key = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let version = i16::from(*version);
    let Ok((correlation_id, response)) = Response::decode_frame(key, version, Bytes::copy_from_slice(frame)) else {
        return;
    };
    let written = response
        .encode_frame(version, correlation_id)
        .expect("what was read fits its length fields");
    let frame = written
        .into_iter()
        .collect::<Records>()
        .to_bytes()
        .slice(LENGTH_BYTES..);
    let again = Response::decode_frame(key, version, frame).expect("what was written can be read");
    assert_eq!(again, (correlation_id, response));
});
