//! Metadata: tells which topics, partitions and brokers there are.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, ids::Uuid};

messages! {
    /// Request of [`Metadata`](super::ApiKey::Metadata).
    ///
    /// In version 0, an empty array indicates "request metadata for all topics." In version 1 and higher, an
    /// empty array indicates "request metadata for no topics," and a null array is used to indicate "request
    /// metadata for all topics.".
    ///
    /// Version 4 adds AllowAutoTopicCreation.
    ///
    /// Starting in version 8, authorized operations can be requested for cluster and topic resource.
    ///
    /// Version 9 is the first flexible version.
    ///
    /// Version 10 adds topicId and allows name field to be null. However, this functionality was not implemented
    /// on the server.
    ///
    /// Versions 10 and 11 should not use the topicId field or set topic name to null.
    ///
    /// Version 11 deprecates IncludeClusterAuthorizedOperations field. This is now exposed by the DescribeCluster
    /// API (KIP-700).
    ///
    /// Version 12 supports topic Id.
    pub struct MetadataRequest {
        /// The topics to fetch metadata for.
        topics: Option<Vec<MetadataRequestTopic>> = Some(Vec::new()), nullable 1..;
        /// If this is true, the broker may auto-create topics that we requested which do not already exist, if it
        /// is configured to do so.
        allow_auto_topic_creation: bool = true, in 4..;
        /// Whether to include cluster authorized operations.
        include_cluster_authorized_operations: bool, in 8..=10;
        /// Whether to include topic authorized operations.
        include_topic_authorized_operations: bool, in 8..;
    }

    /// One of [`MetadataRequest::topics`].
    pub struct MetadataRequestTopic {
        /// The topic id.
        topic_id: Uuid, in 10..;
        /// The topic name.
        name: Option<String> = Some(String::new()), nullable 10..;
    }

    /// Response of [`Metadata`](super::ApiKey::Metadata).
    ///
    /// Version 1 adds fields for the rack of each broker, the controller id, and whether or not the topic is
    /// internal.
    ///
    /// Version 2 adds the cluster ID field.
    ///
    /// Version 3 adds the throttle time.
    ///
    /// Version 5 adds a per-partition offline_replicas field. This field specifies the list of replicas that are
    /// offline.
    ///
    /// Starting in version 6, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 7 adds the leader epoch to the partition metadata.
    ///
    /// Starting in version 8, brokers can send authorized operations for topic and cluster.
    ///
    /// Version 9 is the first flexible version.
    ///
    /// Version 10 adds topicId.
    ///
    /// Version 11 deprecates ClusterAuthorizedOperations. This is now exposed by the DescribeCluster API
    /// (KIP-700).
    ///
    /// Version 12 supports topicId.
    ///
    /// Version 13 adds the top-level error code (KIP-1102).
    pub struct MetadataResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 3..;
        /// A list of brokers present in the cluster.
        brokers: Vec<MetadataResponseBroker>;
        /// The cluster ID that responding broker belongs to.
        cluster_id: Option<String>, in 2..;
        /// The ID of the controller broker.
        controller_id: i32 = -1, in 1..;
        /// Each topic in the response.
        topics: Vec<MetadataResponseTopic>;
        /// 32-bit bitfield to represent authorized operations for this cluster.
        cluster_authorized_operations: i32 = i32::MIN, in 8..=10;
        /// The top-level error code, or 0 if there was no error.
        error_code: ErrorCode, in 13..;
    }

    /// One of [`MetadataResponse::brokers`].
    pub struct MetadataResponseBroker {
        /// The broker ID.
        node_id: i32;
        /// The broker hostname.
        host: String;
        /// The broker port.
        port: i32;
        /// The rack of the broker, or null if it has not been assigned to a rack.
        rack: Option<String>, in 1..;
    }

    /// One of [`MetadataResponse::topics`].
    pub struct MetadataResponseTopic {
        /// The topic error, or 0 if there was no error.
        error_code: ErrorCode;
        /// The topic name. Null for non-existing topics queried by ID. This is never null when ErrorCode is zero.
        /// One of Name and TopicId is always populated.
        name: Option<String> = Some(String::new()), nullable 12..;
        /// The topic id. Zero for non-existing topics queried by name. This is never zero when ErrorCode is zero.
        /// One of Name and TopicId is always populated.
        topic_id: Uuid, in 10..;
        /// True if the topic is internal.
        is_internal: bool, in 1..;
        /// Each partition in the topic.
        partitions: Vec<MetadataResponsePartition>;
        /// 32-bit bitfield to represent authorized operations for this topic.
        topic_authorized_operations: i32 = i32::MIN, in 8..;
    }

    /// One of [`MetadataResponseTopic::partitions`].
    pub struct MetadataResponsePartition {
        /// The partition error, or 0 if there was no error.
        error_code: ErrorCode;
        /// The partition index.
        partition_index: i32;
        /// The ID of the leader broker.
        leader_id: i32;
        /// The leader epoch of this partition.
        leader_epoch: i32 = -1, in 7..;
        /// The set of all nodes that host this partition.
        replica_nodes: Vec<i32>;
        /// The set of nodes that are in sync with the leader for this partition.
        isr_nodes: Vec<i32>;
        /// The set of offline replicas of this partition.
        offline_replicas: Vec<i32>, in 5..;
    }
}
