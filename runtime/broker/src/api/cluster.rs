//! What clients ask about the cluster itself: ApiVersions, DescribeCluster, FindCoordinator.
use alloc::{format, string::ToString, vec, vec::Vec};
use tidemill_protocol::{
    api::{
        ADVERTISED,
        api_versions::{ApiVersion, ApiVersionsResponse},
        describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse},
        find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
    },
    error_code::ErrorCode,
};

use crate::config::Config;

/// Types of keys that a coordinator is looked for.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Versions of everything that is served. The server answers versions that it cannot decode by itself (KIP-511).
pub fn api_versions() -> ApiVersionsResponse {
    let api_keys = ADVERTISED
        .iter()
        .map(|api| ApiVersion {
            api_key: api.key.number(),
            min_version: api.min,
            max_version: api.max,
        })
        .collect();
    ApiVersionsResponse {
        api_keys,
        ..ApiVersionsResponse::default()
    }
}

pub(crate) fn describe(config: &Config, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != 1 {
        return DescribeClusterResponse {
            error_code: ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            error_message: Some("only brokers can be described".into()),
            endpoint_type: request.endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    DescribeClusterResponse {
        cluster_id: config.cluster_id.clone(),
        controller_id: config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: config.node_id,
            host: config.advertised_host.clone(),
            port: i32::from(config.advertised_port),
            ..DescribeClusterBroker::default()
        }],
        ..DescribeClusterResponse::default()
    }
}

/// One node coordinates everything.
pub(crate) fn find_coordinator(
    config: &Config,
    version: i16,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let (error_code, error_message) = match request.key_type {
        GROUP => (ErrorCode::NONE, None),
        TRANSACTION => (
            ErrorCode::UNSUPPORTED_VERSION,
            Some("transactions are not supported".to_string()),
        ),
        other => (
            ErrorCode::INVALID_REQUEST,
            Some(format!("unknown coordinator type {other}")),
        ),
    };
    let (node_id, host, port) = if error_code.is_ok() {
        (
            config.node_id,
            config.advertised_host.clone(),
            i32::from(config.advertised_port),
        )
    } else {
        (-1, "".into(), -1)
    };
    if version < 4 {
        return FindCoordinatorResponse {
            error_code,
            error_message,
            node_id,
            host,
            port,
            ..FindCoordinatorResponse::default()
        };
    }
    let coordinators: Vec<_> = request
        .coordinator_keys
        .iter()
        .map(|key| Coordinator {
            key: key.clone(),
            node_id,
            host: host.clone(),
            port,
            error_code,
            error_message: error_message.clone(),
        })
        .collect();
    FindCoordinatorResponse {
        coordinators,
        ..FindCoordinatorResponse::default()
    }
}
