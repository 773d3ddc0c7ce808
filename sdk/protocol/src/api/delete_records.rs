//! DeleteRecords: moves the start of partitions up.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`DeleteRecords`](super::ApiKey::DeleteRecords).
    ///
    /// Version 2 is the first flexible version.
    pub struct DeleteRecordsRequest {
        /// Each topic that we want to delete records from.
        topics: Vec<DeleteRecordsTopic>;
        /// How long to wait for the deletion to complete, in milliseconds.
        timeout_ms: i32;
    }

    /// One of [`DeleteRecordsRequest::topics`].
    pub struct DeleteRecordsTopic {
        /// The topic name.
        name: String;
        /// Each partition that we want to delete records from.
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// One of [`DeleteRecordsTopic::partitions`].
    pub struct DeleteRecordsPartition {
        /// The partition index.
        partition_index: i32;
        /// The deletion offset.
        offset: i64;
    }

    /// Response of [`DeleteRecords`](super::ApiKey::DeleteRecords).
    ///
    /// Starting in version 1, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 2 is the first flexible version.
    pub struct DeleteRecordsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// Each topic that we wanted to delete records from.
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// One of [`DeleteRecordsResponse::topics`].
    pub struct DeleteRecordsTopicResult {
        /// The topic name.
        name: String;
        /// Each partition that we wanted to delete records from.
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// One of [`DeleteRecordsTopicResult::partitions`].
    pub struct DeleteRecordsPartitionResult {
        /// The partition index.
        partition_index: i32;
        /// The partition low water mark.
        low_watermark: i64;
        /// The deletion error code, or 0 if the deletion succeeded.
        error_code: ErrorCode;
    }
}
