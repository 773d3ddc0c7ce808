//! ApiVersions: negotiates versions, and is the first thing a client sends.

use alloc::{string::String, vec::Vec};

use super::{Advertised, ApiKey};
use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`ApiVersions`](super::ApiKey::ApiVersions).
    ///
    /// Versions 0 through 2 of ApiVersionsRequest are the same.
    ///
    /// Version 3 is the first flexible version and adds ClientSoftwareName and ClientSoftwareVersion.
    ///
    /// Version 4 fixes KAFKA-17011, which blocked SupportedFeatures.MinVersion in the response from being 0.
    pub struct ApiVersionsRequest {
        /// The name of the client.
        client_software_name: String, in 3..;
        /// The version of the client.
        client_software_version: String, in 3..;
    }

    /// Response of [`ApiVersions`](super::ApiKey::ApiVersions).
    ///
    /// Version 1 adds throttle time to the response.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 3 is the first flexible version. Tagged fields are only supported in the body but not in the
    /// header. The length of the header must not change in order to guarantee the backward compatibility.
    ///
    /// Starting from Apache Kafka 2.4 (KIP-511), ApiKeys field is populated with the supported versions of the
    /// ApiVersionsRequest when an UNSUPPORTED_VERSION error is returned.
    ///
    /// Version 4 fixes KAFKA-17011, which blocked SupportedFeatures.MinVersion from being 0.
    pub struct ApiVersionsResponse {
        /// The top-level error code.
        error_code: ErrorCode;
        /// The APIs supported by the broker.
        api_keys: Vec<ApiVersion>;
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// Features supported by the broker. Note: in v0-v3, features with MinSupportedVersion = 0 are omitted.
        supported_features: Vec<SupportedFeatureKey>, in 3.., tag 0;
        /// The monotonically increasing epoch for the finalized features information. Valid values are >= 0. A
        /// value of -1 is special and represents unknown epoch.
        finalized_features_epoch: i64 = -1, in 3.., tag 1;
        /// List of cluster-wide finalized features. The information is valid only if FinalizedFeaturesEpoch >= 0.
        finalized_features: Vec<FinalizedFeatureKey>, in 3.., tag 2;
        /// Set by a KRaft controller if the required configurations for ZK migration are present.
        zk_migration_ready: bool, in 3.., tag 3;
    }

    /// One of [`ApiVersionsResponse::api_keys`].
    pub struct ApiVersion {
        /// The API index.
        api_key: i16;
        /// The minimum supported version, inclusive.
        min_version: i16;
        /// The maximum supported version, inclusive.
        max_version: i16;
    }

    /// One of [`ApiVersionsResponse::supported_features`].
    pub struct SupportedFeatureKey {
        /// The name of the feature.
        name: String;
        /// The minimum supported version for the feature.
        min_version: i16;
        /// The maximum supported version for the feature.
        max_version: i16;
    }

    /// One of [`ApiVersionsResponse::finalized_features`].
    pub struct FinalizedFeatureKey {
        /// The name of the feature.
        name: String;
        /// The cluster-wide finalized max version level for the feature.
        max_version_level: i16;
        /// The cluster-wide finalized min version level for the feature.
        min_version_level: i16;
    }
}

/// The answer to a client that asks which versions there are: [`ADVERTISED`](super::ADVERTISED).
pub fn advertised() -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: super::ADVERTISED.iter().map(ApiVersion::from).collect(),
        ..Default::default()
    }
}

/// The answer, in version 0, to a client that asks in a version that is not served: it learns which versions it may ask in (KIP-511).
pub fn unsupported_version() -> ApiVersionsResponse {
    let own = super::ADVERTISED
        .iter()
        .filter(|served| served.key == ApiKey::ApiVersions);
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.map(ApiVersion::from).collect(),
        ..Default::default()
    }
}

impl From<&Advertised> for ApiVersion {
    fn from(served: &Advertised) -> Self {
        Self {
            api_key: served.key.number(),
            min_version: served.min,
            max_version: served.max,
        }
    }
}
