//! A request that can be read is written, and read again as the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_protocol::{api::Request, frame::LENGTH_BYTES, records::Records};

fuzz_target!(|data: &[u8]| {
    let Ok((header, request)) = Request::decode_frame(Bytes::copy_from_slice(data)) else {
        return;
    };
    let written = request
        .encode_frame(header.api_version, header.correlation_id, header.client_id.as_deref())
        .expect("what was read fits its length fields");
    let frame = written
        .into_iter()
        .collect::<Records>()
        .to_bytes()
        .slice(LENGTH_BYTES..);
    assert_eq!(
        Request::decode_frame(frame).expect("what was written can be read"),
        (header, request)
    );
});
