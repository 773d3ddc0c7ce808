//! OffsetFetch: reads a consumer group's positions.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`OffsetFetch`](super::ApiKey::OffsetFetch).
    ///
    /// Starting in version 1, the broker supports fetching offsets from the internal __consumer_offsets topic.
    ///
    /// Starting in version 2, the request can contain a null topics array to indicate that offsets for all topics
    /// should be fetched. It also returns a top level error code for group or coordinator level errors.
    ///
    /// Version 6 is the first flexible version.
    ///
    /// Version 7 is adding the require stable flag.
    ///
    /// Version 8 is adding support for fetching offsets for multiple groups at a time.
    ///
    /// Version 9 is the first version that can be used with the new consumer group protocol (KIP-848). It adds
    /// the MemberId and MemberEpoch fields. Those are filled in and validated when the new consumer protocol is
    /// used.
    pub struct OffsetFetchRequest {
        /// The group to fetch offsets for.
        group_id: String, in ..=7;
        /// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), in ..=7, nullable 2..;
        /// Each group we would like to fetch offsets for.
        groups: Vec<OffsetFetchRequestGroup>, in 8..;
        /// Whether broker should hold on returning unstable offsets but set a retriable error code for the
        /// partitions.
        require_stable: bool, in 7..;
    }

    /// One of [`OffsetFetchRequest::topics`].
    pub struct OffsetFetchRequestTopic {
        /// The topic name.
        name: String;
        /// The partition indexes we would like to fetch offsets for.
        partition_indexes: Vec<i32>;
    }

    /// One of [`OffsetFetchRequest::groups`].
    pub struct OffsetFetchRequestGroup {
        /// The group ID.
        group_id: String;
        /// The member ID assigned by the group coordinator if using the new consumer protocol (KIP-848).
        member_id: Option<String>, in 9..;
        /// The member epoch if using the new consumer protocol (KIP-848).
        member_epoch: i32 = -1, in 9..;
        /// Each topic we would like to fetch offsets for, or null to fetch offsets for all topics.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new());
    }

    /// One of [`OffsetFetchRequestGroup::topics`].
    pub struct OffsetFetchRequestTopics {
        /// The topic name.
        name: String;
        /// The partition indexes we would like to fetch offsets for.
        partition_indexes: Vec<i32>;
    }

    /// Response of [`OffsetFetch`](super::ApiKey::OffsetFetch).
    ///
    /// Version 2 adds a top-level error code.
    ///
    /// Version 3 adds the throttle time.
    ///
    /// Starting in version 4, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 5 adds the leader epoch to the committed offset.
    ///
    /// Version 6 is the first flexible version.
    ///
    /// Version 7 adds pending offset commit as new error response on partition level.
    ///
    /// Version 8 is adding support for fetching offsets for multiple groups.
    ///
    /// Supported errors:
    ///
    /// * UNSTABLE_OFFSET_COMMIT (version 7+)
    /// * UNKNOWN_MEMBER_ID (version 9+)
    /// * STALE_MEMBER_EPOCH (version 9+)
    pub struct OffsetFetchResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 3..;
        /// The responses per topic.
        topics: Vec<OffsetFetchResponseTopic>, in ..=7;
        /// The top-level error code, or 0 if there was no error.
        error_code: ErrorCode, in 2..=7;
        /// The responses per group id.
        groups: Vec<OffsetFetchResponseGroup>, in 8..;
    }

    /// One of [`OffsetFetchResponse::topics`].
    pub struct OffsetFetchResponseTopic {
        /// The topic name.
        name: String;
        /// The responses per partition.
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    /// One of [`OffsetFetchResponseTopic::partitions`].
    pub struct OffsetFetchResponsePartition {
        /// The partition index.
        partition_index: i32;
        /// The committed message offset.
        committed_offset: i64;
        /// The leader epoch.
        committed_leader_epoch: i32 = -1, in 5..;
        /// The partition metadata.
        metadata: Option<String> = Some(String::new());
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
    }

    /// One of [`OffsetFetchResponse::groups`].
    pub struct OffsetFetchResponseGroup {
        /// The group ID.
        group_id: String;
        /// The responses per topic.
        topics: Vec<OffsetFetchResponseTopics>;
        /// The group-level error code, or 0 if there was no error.
        error_code: ErrorCode;
    }

    /// One of [`OffsetFetchResponseGroup::topics`].
    pub struct OffsetFetchResponseTopics {
        /// The topic name.
        name: String;
        /// The responses per partition.
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    /// One of [`OffsetFetchResponseTopics::partitions`].
    pub struct OffsetFetchResponsePartitions {
        /// The partition index.
        partition_index: i32;
        /// The committed message offset.
        committed_offset: i64;
        /// The leader epoch.
        committed_leader_epoch: i32 = -1;
        /// The partition metadata.
        metadata: Option<String> = Some(String::new());
        /// The partition-level error code, or 0 if there was no error.
        error_code: ErrorCode;
    }
}
