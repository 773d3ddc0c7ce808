//! Typed messages to frames and back, in the highest version that both sides speak.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
pub(crate) use tidemill_protocol::api::Call;
use tidemill_protocol::api::api_versions::ApiVersionsResponse;
use tidemill_protocol::api::{ApiKey, Request, Response};

use crate::error::{Error, Result, check};

/// Version of the first request of all. The broker answers an older one if it knows no newer (KIP-511); ours does.
const API_VERSIONS_VERSION: i16 = 3;

/// Unique enough to notice a response that belongs to another request.
static CORRELATION: AtomicI32 = AtomicI32::new(0);

/// What the broker serves of what we speak.
#[derive(Clone, Debug, Default)]
pub(crate) struct Versions {
    chosen: BTreeMap<ApiKey, i16>,
}

impl Versions {
    /// Enough to ask for the rest.
    pub(crate) fn before_negotiation() -> Versions {
        Versions {
            chosen: BTreeMap::from([(ApiKey::ApiVersions, API_VERSIONS_VERSION)]),
        }
    }

    pub(crate) fn from_response(response: &ApiVersionsResponse) -> Result<Versions> {
        check(response.error_code, None, || "version negotiation".to_owned())?;
        let mut chosen = BTreeMap::new();
        for offered in &response.api_keys {
            let Some(key) = ApiKey::from_number(offered.api_key) else {
                continue;
            };
            let ours = key.versions();
            let version = offered.max_version.min(*ours.end());
            if offered.min_version.max(*ours.start()) <= version {
                chosen.insert(key, version);
            }
        }
        Ok(Versions { chosen })
    }

    pub(crate) fn choose(&self, key: ApiKey) -> Result<i16> {
        self.chosen.get(&key).copied().ok_or_else(|| Error::UnsupportedApi {
            api: format!("{key:?}"),
        })
    }
}

/// A request on its way, with what is needed to read its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) version: i16,
    correlation_id: i32,
}

/// The whole frame of a request.
pub(crate) fn request_frame<R: Call>(request: R, version: i16, client_id: &str) -> Result<(Vec<Bytes>, Asked)> {
    let correlation_id = CORRELATION.fetch_add(1, Ordering::Relaxed) & i32::MAX;
    let request: Request = request.into();
    match request.encode_frame(version, correlation_id, Some(client_id)) {
        Ok(frame) => Ok((
            frame,
            Asked {
                version,
                correlation_id,
            },
        )),
        Err(e) => Err(Error::InvalidArgument(format!("{:?} cannot be encoded: {e}", R::KEY))),
    }
}

/// The response in a frame without its length.
pub(crate) fn decode_response<R: Call>(asked: Asked, frame: Bytes) -> Result<R::Response> {
    let (correlation_id, response) = Response::decode_frame(R::KEY, asked.version, frame).map_err(Error::protocol)?;
    if correlation_id != asked.correlation_id {
        return Err(Error::protocol(format_args!("{:?} answers another request", R::KEY)));
    }
    response
        .try_into()
        .map_err(|_| Error::protocol(format_args!("{:?} is answered by another API", R::KEY)))
}
