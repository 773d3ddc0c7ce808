//! ListOffsets: finds offsets by timestamp, or the ends of a partition.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`ListOffsets`](super::ApiKey::ListOffsets).
    ///
    /// Version 1 removes MaxNumOffsets. From this version forward, only a single offset can be returned.
    ///
    /// Version 2 adds the isolation level, which is used for transactional reads.
    ///
    /// Version 4 adds the current leader epoch, which is used for fencing.
    ///
    /// Version 6 enables flexible versions.
    ///
    /// Version 7 enables listing offsets by max timestamp (KIP-734).
    ///
    /// Version 8 enables listing offsets by local log start offset (KIP-405).
    ///
    /// Version 9 enables listing offsets by last tiered offset (KIP-1005).
    ///
    /// Version 10 enables async remote list offsets support (KIP-1075)
    pub struct ListOffsetsRequest {
        /// The broker ID of the requester, or -1 if this request is being made by a normal consumer.
        replica_id: i32;
        /// This setting controls the visibility of transactional records. Using READ_UNCOMMITTED (isolation_level
        /// = 0) makes all records visible. With READ_COMMITTED (isolation_level = 1), non-transactional and
        /// COMMITTED transactional records are visible. To be more concrete, READ_COMMITTED returns all data from
        /// offsets smaller than the current LSO (last stable offset), and enables the inclusion of the list of
        /// aborted transactions in the result, which allows consumers to discard ABORTED transactional records.
        isolation_level: i8, in 2..;
        /// Each topic in the request.
        topics: Vec<ListOffsetsTopic>;
        /// The timeout to await a response in milliseconds for requests that require reading from remote storage
        /// for topics enabled with tiered storage.
        timeout_ms: i32, in 10..;
    }

    /// One of [`ListOffsetsRequest::topics`].
    pub struct ListOffsetsTopic {
        /// The topic name.
        name: String;
        /// Each partition in the request.
        partitions: Vec<ListOffsetsPartition>;
    }

    /// One of [`ListOffsetsTopic::partitions`].
    pub struct ListOffsetsPartition {
        /// The partition index.
        partition_index: i32;
        /// The current leader epoch.
        current_leader_epoch: i32 = -1, in 4..;
        /// The current timestamp.
        timestamp: i64;
    }

    /// Response of [`ListOffsets`](super::ApiKey::ListOffsets).
    ///
    /// Version 1 removes the offsets array in favor of returning a single offset.
    ///
    /// Version 1 also adds the timestamp associated with the returned offset.
    ///
    /// Version 2 adds the throttle time.
    ///
    /// Starting in version 3, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 4 adds the leader epoch, which is used for fencing.
    ///
    /// Version 5 adds a new error code, OFFSET_NOT_AVAILABLE.
    ///
    /// Version 6 enables flexible versions.
    ///
    /// Version 8 enables listing offsets by local log start offset. This is the earliest log start offset in the
    /// local log. (KIP-405).
    ///
    /// Version 9 enables listing offsets by last tiered offset (KIP-1005).
    ///
    /// Version 10 enables async remote list offsets support (KIP-1075)
    pub struct ListOffsetsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 2..;
        /// Each topic in the response.
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// One of [`ListOffsetsResponse::topics`].
    pub struct ListOffsetsTopicResponse {
        /// The topic name.
        name: String;
        /// Each partition in the response.
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// One of [`ListOffsetsTopicResponse::partitions`].
    pub struct ListOffsetsPartitionResponse {
        /// The partition index.
        partition_index: i32;
        /// The partition error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The timestamp associated with the returned offset.
        timestamp: i64 = -1;
        /// The returned offset.
        offset: i64 = -1;
        /// The leader epoch of the offset.
        leader_epoch: i32 = -1, in 4..;
    }
}
