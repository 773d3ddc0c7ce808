//! DescribeCluster: shows the brokers of the cluster.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`DescribeCluster`](super::ApiKey::DescribeCluster).
    ///
    /// Version 1 adds EndpointType for KIP-919 support.
    ///
    /// Version 2 adds fenced brokers (KIP-1073).
    pub struct DescribeClusterRequest {
        /// Whether to include cluster authorized operations.
        include_cluster_authorized_operations: bool;
        /// The endpoint type to describe. 1=brokers, 2=controllers.
        endpoint_type: i8 = 1, in 1..;
        /// Whether to include fenced brokers when listing brokers.
        include_fenced_brokers: bool, in 2..;
    }

    /// Response of [`DescribeCluster`](super::ApiKey::DescribeCluster).
    ///
    /// Version 1 adds the EndpointType field, and makes MISMATCHED_ENDPOINT_TYPE and UNSUPPORTED_ENDPOINT_TYPE
    /// valid top-level response error codes.
    pub struct DescribeClusterResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The top-level error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The top-level error message, or null if there was no error.
        error_message: Option<String>;
        /// The endpoint type that was described. 1=brokers, 2=controllers.
        endpoint_type: i8 = 1, in 1..;
        /// The cluster ID that responding broker belongs to.
        cluster_id: String;
        /// The ID of the controller broker.
        controller_id: i32 = -1;
        /// Each broker in the response.
        brokers: Vec<DescribeClusterBroker>;
        /// 32-bit bitfield to represent authorized operations for this cluster.
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// One of [`DescribeClusterResponse::brokers`].
    pub struct DescribeClusterBroker {
        /// The broker ID.
        broker_id: i32;
        /// The broker hostname.
        host: String;
        /// The broker port.
        port: i32;
        /// The rack of the broker, or null if it has not been assigned to a rack.
        rack: Option<String>;
        /// Whether the broker is fenced.
        is_fenced: bool, in 2..;
    }
}
