//! OffsetCommit: stores a consumer group's positions.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`OffsetCommit`](super::ApiKey::OffsetCommit).
    ///
    /// Version 2 adds retention time. It removes the commit timestamp added in version 1.
    ///
    /// Version 5 removes the retention time, which is now controlled only by a broker configuration.
    ///
    /// Version 6 adds the leader epoch for fencing.
    ///
    /// Version 7 adds a new field called groupInstanceId to indicate member identity across restarts.
    ///
    /// Version 8 is the first flexible version.
    pub struct OffsetCommitRequest {
        /// The unique group identifier.
        group_id: String;
        /// The generation of the group if using the classic group protocol or the member epoch if using the
        /// consumer protocol.
        generation_id_or_member_epoch: i32 = -1;
        /// The member ID assigned by the group coordinator.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 7..;
        /// The time period in ms to retain the offset.
        retention_time_ms: i64 = -1, in ..=4;
        /// The topics to commit offsets for.
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// One of [`OffsetCommitRequest::topics`].
    pub struct OffsetCommitRequestTopic {
        /// The topic name.
        name: String;
        /// Each partition to commit offsets for.
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// One of [`OffsetCommitRequestTopic::partitions`].
    pub struct OffsetCommitRequestPartition {
        /// The partition index.
        partition_index: i32;
        /// The message offset to be committed.
        committed_offset: i64;
        /// The leader epoch of this partition.
        committed_leader_epoch: i32 = -1, in 6..;
        /// Any associated metadata the client wants to keep.
        committed_metadata: Option<String> = Some(String::new());
    }

    /// Response of [`OffsetCommit`](super::ApiKey::OffsetCommit).
    ///
    /// Version 3 adds the throttle time to the response.
    ///
    /// Starting in version 4, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 7 offsetCommitRequest supports a new field called groupInstanceId to indicate member identity
    /// across restarts.
    ///
    /// Version 8 is the first flexible version.
    ///
    /// Supported errors:
    ///
    /// * FENCED_MEMBER_EPOCH (version 7+)
    /// * GROUP_ID_NOT_FOUND (version 9+)
    /// * STALE_MEMBER_EPOCH (version 9+)
    pub struct OffsetCommitResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 3..;
        /// The responses for each topic.
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// One of [`OffsetCommitResponse::topics`].
    pub struct OffsetCommitResponseTopic {
        /// The topic name.
        name: String;
        /// The responses for each partition in the topic.
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// One of [`OffsetCommitResponseTopic::partitions`].
    pub struct OffsetCommitResponsePartition {
        /// The partition index.
        partition_index: i32;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
    }
}
