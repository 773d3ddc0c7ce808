//! DescribeConfigs: shows configuration keys and values.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`DescribeConfigs`](super::ApiKey::DescribeConfigs).
    ///
    /// Version 1 adds IncludeSynonyms.
    ///
    /// Version 4 enables flexible versions.
    pub struct DescribeConfigsRequest {
        /// The resources whose configurations we want to describe.
        resources: Vec<DescribeConfigsResource>;
        /// True if we should include all synonyms.
        include_synonyms: bool;
        /// True if we should include configuration documentation.
        include_documentation: bool, in 3..;
    }

    /// One of [`DescribeConfigsRequest::resources`].
    pub struct DescribeConfigsResource {
        /// The resource type.
        resource_type: i8;
        /// The resource name.
        resource_name: String;
        /// The configuration keys to list, or null to list all configuration keys.
        configuration_keys: Option<Vec<String>> = Some(Vec::new());
    }

    /// Response of [`DescribeConfigs`](super::ApiKey::DescribeConfigs).
    ///
    /// Version 1 adds ConfigSource and the synonyms.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 4 enables flexible versions. Note: the v0 default for this field that should be exposed to callers
    /// is context-dependent. For example, if the resource is a broker, this should default to 4. -1 is just a
    /// placeholder value.
    pub struct DescribeConfigsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The results for each resource.
        results: Vec<DescribeConfigsResult>;
    }

    /// One of [`DescribeConfigsResponse::results`].
    pub struct DescribeConfigsResult {
        /// The error code, or 0 if we were able to successfully describe the configurations.
        error_code: ErrorCode;
        /// The error message, or null if we were able to successfully describe the configurations.
        error_message: Option<String> = Some(String::new());
        /// The resource type.
        resource_type: i8;
        /// The resource name.
        resource_name: String;
        /// Each listed configuration.
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// One of [`DescribeConfigsResult::configs`].
    pub struct DescribeConfigsResourceResult {
        /// The configuration name.
        name: String;
        /// The configuration value.
        value: Option<String> = Some(String::new());
        /// True if the configuration is read-only.
        read_only: bool;
        /// The configuration source.
        config_source: i8 = -1;
        /// True if this configuration is sensitive.
        is_sensitive: bool;
        /// The synonyms for this configuration key.
        synonyms: Vec<DescribeConfigsSynonym>;
        /// The configuration data type. Type can be one of the following values - BOOLEAN, STRING, INT, SHORT,
        /// LONG, DOUBLE, LIST, CLASS, PASSWORD.
        config_type: i8, in 3..;
        /// The configuration documentation.
        documentation: Option<String> = Some(String::new()), in 3..;
    }

    /// One of [`DescribeConfigsResourceResult::synonyms`].
    pub struct DescribeConfigsSynonym {
        /// The synonym name.
        name: String;
        /// The synonym value.
        value: Option<String> = Some(String::new());
        /// The synonym source.
        source: i8;
    }
}
