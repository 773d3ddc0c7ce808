//! OffsetForLeaderEpoch: tells where a leader epoch ended, so that a client finds out that its log was cut.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`OffsetForLeaderEpoch`](super::ApiKey::OffsetForLeaderEpoch).
    ///
    /// Version 2 adds the current leader epoch to support fencing.
    ///
    /// Version 3 adds ReplicaId (the default is -2 which conventionally represents a "debug" consumer which is
    /// allowed to see offsets beyond the high watermark). Followers will use this replicaId when using an older
    /// version of the protocol.
    ///
    /// Version 4 enables flexible versions.
    pub struct OffsetForLeaderEpochRequest {
        /// The broker ID of the follower, of -1 if this request is from a consumer.
        replica_id: i32 = -2, in 3..;
        /// Each topic to get offsets for.
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// One of [`OffsetForLeaderEpochRequest::topics`].
    pub struct OffsetForLeaderTopic {
        /// The topic name.
        topic: String;
        /// Each partition to get offsets for.
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// One of [`OffsetForLeaderTopic::partitions`].
    pub struct OffsetForLeaderPartition {
        /// The partition index.
        partition: i32;
        /// An epoch used to fence consumers/replicas with old metadata. If the epoch provided by the client is
        /// larger than the current epoch known to the broker, then the UNKNOWN_LEADER_EPOCH error code will be
        /// returned. If the provided epoch is smaller, then the FENCED_LEADER_EPOCH error code will be returned.
        current_leader_epoch: i32 = -1;
        /// The epoch to look up an offset for.
        leader_epoch: i32;
    }

    /// Response of [`OffsetForLeaderEpoch`](super::ApiKey::OffsetForLeaderEpoch).
    ///
    /// Version 2 added the throttle time.
    ///
    /// Version 4 enables flexible versions.
    pub struct OffsetForLeaderEpochResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// Each topic we fetched offsets for.
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// One of [`OffsetForLeaderEpochResponse::topics`].
    pub struct OffsetForLeaderTopicResult {
        /// The topic name.
        topic: String;
        /// Each partition in the topic we fetched offsets for.
        partitions: Vec<EpochEndOffset>;
    }

    /// One of [`OffsetForLeaderTopicResult::partitions`].
    pub struct EpochEndOffset {
        /// The error code 0, or if there was no error.
        error_code: ErrorCode;
        /// The partition index.
        partition: i32;
        /// The leader epoch of the partition.
        leader_epoch: i32 = -1;
        /// The end offset of the epoch.
        end_offset: i64 = -1;
    }
}
