//! Frames: what lies between two messages on a connection.
//!
//! ```text
//! request     length i32 | api key i16 | version i16 | correlation id i32 | client id (nullable) | [tags] | body
//! response    length i32 | correlation id i32 | [tags] | body
//! ```
//!
//! The tags are there in flexible versions, but never in the response of ApiVersions: a client has to read that one before it knows which
//! versions the broker speaks (KIP-511).
//!
//! Reading a frame is the caller's: read [`LENGTH_BYTES`], ask [`length`] whether to go on, read that many, decode.

use alloc::string::String;
use bytes::Bytes;

use crate::{
    api::{ApiKey, Request, Response},
    codec::{self, DecodeError, EncodeError, Form, Put, Reader, Rope, Sink, Value},
};

/// Size of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// Why a frame is refused. All are the peer's fault, and the connection has to be closed, except that an
/// [`FrameError::UnsupportedVersion`] of ApiVersions is answered with [`crate::api::api_versions::unsupported_version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A negative length.
    #[error("a frame cannot be {0} bytes long")]
    NegativeLength(i32),
    /// A frame above the bound.
    #[error("a frame of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Length announced.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// An API that is not served.
    #[error("API {0} is not known")]
    UnknownApi(i16),
    /// A version that is not served.
    #[error("{key:?} has no version {version}")]
    UnsupportedVersion {
        /// Which API.
        key: ApiKey,
        /// Version asked for.
        version: i16,
        /// What the answer has to carry.
        correlation_id: i32,
    },
    /// The bytes are no such message.
    #[error("{key:?} version {version} is malformed")]
    Malformed {
        /// Which API.
        key: ApiKey,
        /// Which version.
        version: i16,
        /// What is wrong.
        #[source]
        error: DecodeError,
    },
    /// The bytes do not even have a header.
    #[error("the header is malformed")]
    MalformedHeader(#[from] DecodeError),
}

/// The length of the frame to come, if it is within the bound.
pub fn length(prefix: [u8; LENGTH_BYTES], bytes_max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let bytes = usize::try_from(length).map_err(|_| FrameError::NegativeLength(length))?;
    if bytes_max < bytes {
        Err(FrameError::TooLarge { bytes, bytes_max })
    } else {
        Ok(bytes)
    }
}

/// What precedes the body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// Which version of it.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Takes a header of a version that is served; the reader then stands at the body.
    pub fn decode(from: &mut Reader) -> Result<Self, FrameError> {
        let number = from.i16()?;
        let api_version = from.i16()?;
        let correlation_id = from.i32()?;
        let api_key = ApiKey::from_number(number).ok_or(FrameError::UnknownApi(number))?;
        if !api_key.versions().contains(&api_version) {
            return Err(FrameError::UnsupportedVersion {
                key: api_key,
                version: api_version,
                correlation_id,
            });
        }
        let form = api_key.form(api_version);
        let client_id = Value::decode(
            from,
            Form {
                flexible: false,
                ..form
            },
        )?;
        if form.flexible {
            codec::skip_tagged_fields(from)?;
        }
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
        })
    }
}

impl Request {
    /// Decodes a frame, without its length. Bytes behind the body are ignored, as Kafka does.
    pub fn decode_frame(frame: Bytes) -> Result<(RequestHeader, Self), FrameError> {
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader)?;
        let body = Self::decode(&header, reader.into_rest())?;
        Ok((header, body))
    }

    /// Decodes the body that follows a header.
    pub fn decode(header: &RequestHeader, body: Bytes) -> Result<Self, FrameError> {
        let (key, version) = (header.api_key, header.api_version);
        Self::decode_body(key, &mut Reader::new(body), key.form(version)).map_err(|error| FrameError::Malformed {
            key,
            version,
            error,
        })
    }

    /// Encodes a whole frame, with its length.
    pub fn encode_frame(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: Option<&str>,
    ) -> Result<Rope, EncodeError> {
        check_version(self.key(), version)?;
        framed(&RequestFrame {
            request: self,
            version,
            correlation_id,
            client_id: client_id.map(String::from),
        })
    }
}

impl Response {
    /// Decodes a frame, without its length, that answers a request of this API and version. Returns the correlation id too.
    pub fn decode_frame(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Self), FrameError> {
        let mut reader = Reader::new(frame);
        let correlation_id = reader.i32()?;
        if !key.versions().contains(&version) {
            return Err(FrameError::UnsupportedVersion {
                key,
                version,
                correlation_id,
            });
        }
        if has_response_tags(key, version) {
            codec::skip_tagged_fields(&mut reader)?;
        }
        Self::decode_body(key, &mut reader, key.form(version))
            .map(|body| (correlation_id, body))
            .map_err(|error| FrameError::Malformed { key, version, error })
    }

    /// Encodes a whole frame, with its length, that answers a request of this version.
    pub fn encode_frame(&self, version: i16, correlation_id: i32) -> Result<Rope, EncodeError> {
        check_version(self.key(), version)?;
        framed(&ResponseFrame {
            response: self,
            version,
            correlation_id,
        })
    }
}

fn check_version(key: ApiKey, version: i16) -> Result<(), EncodeError> {
    if key.versions().contains(&version) {
        Ok(())
    } else {
        Err(EncodeError::UnknownVersion(version))
    }
}

fn has_response_tags(key: ApiKey, version: i16) -> bool {
    key != ApiKey::ApiVersions && key.is_flexible(version)
}

struct RequestFrame<'a> {
    request: &'a Request,
    version: i16,
    correlation_id: i32,
    client_id: Option<String>,
}

impl Put for RequestFrame<'_> {
    fn put(&self, to: &mut impl Sink) {
        let form = self.request.key().form(self.version);
        let inflexible = Form {
            flexible: false,
            ..form
        };
        self.request.key().number().encode(to, form);
        self.version.encode(to, form);
        self.correlation_id.encode(to, form);
        self.client_id.encode(to, inflexible);
        if form.flexible {
            to.put_unsigned_varint(0);
        }
        self.request.encode_body(to, form);
    }
}

struct ResponseFrame<'a> {
    response: &'a Response,
    version: i16,
    correlation_id: i32,
}

impl Put for ResponseFrame<'_> {
    fn put(&self, to: &mut impl Sink) {
        let key = self.response.key();
        to.put(&self.correlation_id.to_be_bytes());
        if has_response_tags(key, self.version) {
            to.put_unsigned_varint(0);
        }
        self.response.encode_body(to, key.form(self.version));
    }
}

/// Puts a length in front.
fn framed(frame: &impl Put) -> Result<Rope, EncodeError> {
    let length = codec::measure(frame)?.total();
    let length = i32::try_from(length).map_err(|_| EncodeError::TooLong)?;
    codec::to_rope(&Framed { length, frame })
}

struct Framed<'a, T> {
    length: i32,
    frame: &'a T,
}

impl<T: Put> Put for Framed<'_, T> {
    fn put(&self, to: &mut impl Sink) {
        to.put(&self.length.to_be_bytes());
        self.frame.put(to);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::{
        api::{
            api_versions::{self, ApiVersionsRequest},
            heartbeat::HeartbeatResponse,
            produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
        },
        error_code::ErrorCode,
        records::Records,
    };

    fn bytes(rope: Rope) -> Vec<u8> {
        rope.concat()
    }

    #[test]
    fn frames_have_these_bytes() {
        let request = Request::from(ApiVersionsRequest {
            client_software_name: "a".into(),
            client_software_version: "1".into(),
        });
        assert_eq!(
            bytes(request.encode_frame(0, 7, Some("me")).unwrap()),
            [0, 0, 0, 12, 0, 18, 0, 0, 0, 0, 0, 7, 0, 2, b'm', b'e']
        );
        assert_eq!(
            bytes(request.encode_frame(3, 7, None).unwrap()),
            [0, 0, 0, 16, 0, 18, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 0, 2, b'a', 2, b'1', 0]
        );
        let response = Response::from(HeartbeatResponse {
            throttle_time_ms: 1,
            error_code: ErrorCode(27),
        });
        assert_eq!(
            bytes(response.encode_frame(0, 7).unwrap()),
            [0, 0, 0, 6, 0, 0, 0, 7, 0, 27]
        );
        assert_eq!(
            bytes(response.encode_frame(3, 7).unwrap()),
            [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 1, 0, 27]
        );
        assert_eq!(
            bytes(response.encode_frame(4, 7).unwrap()),
            [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 1, 0, 27, 0]
        );
    }

    #[test]
    fn the_answer_to_an_unknown_version_of_api_versions_can_be_read_without_knowing_any() {
        let frame = [0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0, 1, 2, 3];
        let refused = Request::decode_frame(Bytes::copy_from_slice(&frame)).unwrap_err();
        assert_eq!(
            refused,
            FrameError::UnsupportedVersion {
                key: ApiKey::ApiVersions,
                version: 99,
                correlation_id: 7
            }
        );
        let answer = Response::from(api_versions::unsupported_version());
        assert_eq!(
            bytes(answer.encode_frame(0, 7).unwrap()),
            [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
        );
    }

    #[test]
    fn old_produce_is_advertised_and_refused() {
        let produce = api_versions::advertised().api_keys[0].clone();
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 11));
        for version in 0..3 {
            let frame = [0, 0, 0, version, 0, 0, 0, 7, 0xff, 0xff];
            let refused = Request::decode_frame(Bytes::copy_from_slice(&frame)).unwrap_err();
            assert!(matches!(
                refused,
                FrameError::UnsupportedVersion {
                    key: ApiKey::Produce,
                    ..
                }
            ));
        }
    }

    #[test]
    fn record_sets_are_not_copied() {
        let batch = Bytes::from(vec![5; 100_000]);
        let partition = PartitionProduceData {
            index: 0,
            records: Some(Records::from(batch.clone())),
        };
        let topic = TopicProduceData {
            name: "t".into(),
            partition_data: vec![partition],
        };
        let request = Request::from(ProduceRequest {
            topic_data: vec![topic],
            ..Default::default()
        });
        let rope = request.encode_frame(9, 1, None).unwrap();
        assert_eq!(rope.iter().filter(|piece| piece.as_ptr() == batch.as_ptr()).count(), 1);

        let frame = Bytes::from(bytes(rope)).slice(4..);
        let (_, again) = Request::decode_frame(frame.clone()).unwrap();
        let Request::Produce(again) = again else {
            panic!("{again:?}")
        };
        let records = again.topic_data[0].partition_data[0].records.as_ref().unwrap();
        assert!(frame.as_ptr_range().contains(&records.chunks()[0].as_ptr()));
    }

    #[test]
    fn a_text_that_does_not_fit_its_length_is_an_error_and_not_a_wrong_frame() {
        let request = Request::from(ApiVersionsRequest {
            client_software_name: "x".repeat(40_000),
            ..Default::default()
        });
        assert!(request.encode_frame(3, 1, None).is_ok());
        assert_eq!(
            request.encode_frame(3, 1, Some(&"x".repeat(40_000))),
            Err(EncodeError::TooLong)
        );
        assert_eq!(request.encode_frame(5, 1, None), Err(EncodeError::UnknownVersion(5)));
    }

    #[test]
    fn a_length_is_bounded_before_anything_is_read() {
        assert_eq!(length([0, 0, 1, 0], 256), Ok(256));
        assert_eq!(
            length([0, 0, 1, 1], 256),
            Err(FrameError::TooLarge {
                bytes: 257,
                bytes_max: 256
            })
        );
        assert_eq!(length([0xff; 4], 256), Err(FrameError::NegativeLength(-1)));
    }
}
