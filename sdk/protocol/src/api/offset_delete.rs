//! OffsetDelete: deletes a group's positions for partitions.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`OffsetDelete`](super::ApiKey::OffsetDelete).
    pub struct OffsetDeleteRequest {
        /// The unique group identifier.
        group_id: String;
        /// The topics to delete offsets for.
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// One of [`OffsetDeleteRequest::topics`].
    pub struct OffsetDeleteRequestTopic {
        /// The topic name.
        name: String;
        /// Each partition to delete offsets for.
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// One of [`OffsetDeleteRequestTopic::partitions`].
    pub struct OffsetDeleteRequestPartition {
        /// The partition index.
        partition_index: i32;
    }

    /// Response of [`OffsetDelete`](super::ApiKey::OffsetDelete).
    pub struct OffsetDeleteResponse {
        /// The top-level error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The responses for each topic.
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// One of [`OffsetDeleteResponse::topics`].
    pub struct OffsetDeleteResponseTopic {
        /// The topic name.
        name: String;
        /// The responses for each partition in the topic.
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// One of [`OffsetDeleteResponseTopic::partitions`].
    pub struct OffsetDeleteResponsePartition {
        /// The partition index.
        partition_index: i32;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
    }
}
