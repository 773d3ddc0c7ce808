//! AlterConfigs: replaces the whole configuration of resources.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`AlterConfigs`](super::ApiKey::AlterConfigs).
    ///
    /// Version 2 enables flexible versions.
    pub struct AlterConfigsRequest {
        /// The updates for each resource.
        resources: Vec<AlterConfigsResource>;
        /// True if we should validate the request, but not change the configurations.
        validate_only: bool;
    }

    /// One of [`AlterConfigsRequest::resources`].
    pub struct AlterConfigsResource {
        /// The resource type.
        resource_type: i8;
        /// The resource name.
        resource_name: String;
        /// The configurations.
        configs: Vec<AlterableConfig>;
    }

    /// One of [`AlterConfigsResource::configs`].
    pub struct AlterableConfig {
        /// The configuration key name.
        name: String;
        /// The value to set for the configuration key.
        value: Option<String> = Some(String::new());
    }

    /// Response of [`AlterConfigs`](super::ApiKey::AlterConfigs).
    ///
    /// Starting in version 1, on quota violation brokers send out responses before throttling.
    ///
    /// Version 2 enables flexible versions.
    pub struct AlterConfigsResponse {
        /// Duration in milliseconds for which the request was throttled due to a quota violation, or zero if the
        /// request did not violate any quota.
        throttle_time_ms: i32;
        /// The responses for each resource.
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// One of [`AlterConfigsResponse::responses`].
    pub struct AlterConfigsResourceResponse {
        /// The resource error code.
        error_code: ErrorCode;
        /// The resource error message, or null if there was no error.
        error_message: Option<String> = Some(String::new());
        /// The resource type.
        resource_type: i8;
        /// The resource name.
        resource_name: String;
    }
}
