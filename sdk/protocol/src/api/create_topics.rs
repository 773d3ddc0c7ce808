//! CreateTopics: creates topics.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, ids::Uuid};

messages! {
    /// Request of [`CreateTopics`](super::ApiKey::CreateTopics).
    ///
    /// Version 4 makes partitions/replicationFactor optional even when assignments are not present (KIP-464)
    ///
    /// Version 5 is the first flexible version.
    ///
    /// Version 5 also returns topic configs in the response (KIP-525).
    ///
    /// Version 6 is identical to version 5 but may return a THROTTLING_QUOTA_EXCEEDED error in the response if
    /// the topics creation is throttled (KIP-599).
    pub struct CreateTopicsRequest {
        /// The topics to create.
        topics: Vec<CreatableTopic>;
        /// How long to wait in milliseconds before timing out the request.
        timeout_ms: i32 = 60000;
        /// If true, check that the topics can be created as specified, but don't create anything.
        validate_only: bool;
    }

    /// One of [`CreateTopicsRequest::topics`].
    pub struct CreatableTopic {
        /// The topic name.
        name: String;
        /// The number of partitions to create in the topic, or -1 if we are either specifying a manual partition
        /// assignment or using the default partitions.
        num_partitions: i32;
        /// The number of replicas to create for each partition in the topic, or -1 if we are either specifying a
        /// manual partition assignment or using the default replication factor.
        replication_factor: i16;
        /// The manual partition assignment, or the empty array if we are using automatic assignment.
        assignments: Vec<CreatableReplicaAssignment>;
        /// The custom topic configurations to set.
        configs: Vec<CreatableTopicConfig>;
    }

    /// One of [`CreatableTopic::assignments`].
    pub struct CreatableReplicaAssignment {
        /// The partition index.
        partition_index: i32;
        /// The brokers to place the partition on.
        broker_ids: Vec<i32>;
    }

    /// One of [`CreatableTopic::configs`].
    pub struct CreatableTopicConfig {
        /// The configuration name.
        name: String;
        /// The configuration value.
        value: Option<String> = Some(String::new());
    }

    /// Response of [`CreateTopics`](super::ApiKey::CreateTopics).
    ///
    /// Version 2 adds the throttle time.
    ///
    /// Starting in version 3, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 4 makes partitions/replicationFactor optional even when assignments are not present (KIP-464).
    ///
    /// Version 5 is the first flexible version.
    ///
    /// Version 5 also returns topic configs in the response (KIP-525).
    ///
    /// Version 6 is identical to version 5 but may return a THROTTLING_QUOTA_EXCEEDED error in the response if
    /// the topics creation is throttled (KIP-599).
    ///
    /// Version 7 returns the topic ID of the newly created topic if creation is successful.
    pub struct CreateTopicsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// Results for each topic we tried to create.
        topics: Vec<CreatableTopicResult>;
    }

    /// One of [`CreateTopicsResponse::topics`].
    pub struct CreatableTopicResult {
        /// The topic name.
        name: String;
        /// The unique topic ID.
        topic_id: Uuid, in 7..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The error message, or null if there was no error.
        error_message: Option<String> = Some(String::new());
        /// Number of partitions of the topic.
        num_partitions: i32 = -1, in 5..;
        /// Replication factor of the topic.
        replication_factor: i16 = -1, in 5..;
        /// Configuration of the topic.
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), in 5..;
        /// Optional topic config error returned if configs are not returned in the response.
        topic_config_error_code: ErrorCode, in 5.., tag 0;
    }

    /// One of [`CreatableTopicResult::configs`].
    pub struct CreatableTopicConfigs {
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
    }
}
