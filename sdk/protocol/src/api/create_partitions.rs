//! CreatePartitions: adds partitions to topics.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`CreatePartitions`](super::ApiKey::CreatePartitions).
    ///
    /// Version 2 adds flexible version support.
    ///
    /// Version 3 is identical to version 2 but may return a THROTTLING_QUOTA_EXCEEDED error in the response if
    /// the partitions creation is throttled (KIP-599).
    pub struct CreatePartitionsRequest {
        /// Each topic that we want to create new partitions inside.
        topics: Vec<CreatePartitionsTopic>;
        /// The time in ms to wait for the partitions to be created.
        timeout_ms: i32;
        /// If true, then validate the request, but don't actually increase the number of partitions.
        validate_only: bool;
    }

    /// One of [`CreatePartitionsRequest::topics`].
    pub struct CreatePartitionsTopic {
        /// The topic name.
        name: String;
        /// The new partition count.
        count: i32;
        /// The new partition assignments.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    /// One of [`CreatePartitionsTopic::assignments`].
    pub struct CreatePartitionsAssignment {
        /// The assigned broker IDs.
        broker_ids: Vec<i32>;
    }

    /// Response of [`CreatePartitions`](super::ApiKey::CreatePartitions).
    ///
    /// Starting in version 1, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 2 adds flexible version support.
    ///
    /// Version 3 is identical to version 2 but may return a THROTTLING_QUOTA_EXCEEDED error in the response if
    /// the partitions creation is throttled (KIP-599).
    pub struct CreatePartitionsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The partition creation results for each topic.
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// One of [`CreatePartitionsResponse::results`].
    pub struct CreatePartitionsTopicResult {
        /// The topic name.
        name: String;
        /// The result error, or zero if there was no error.
        error_code: ErrorCode;
        /// The result message, or null if there was no error.
        error_message: Option<String>;
    }
}
