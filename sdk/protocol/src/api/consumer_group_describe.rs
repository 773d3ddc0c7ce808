//! ConsumerGroupDescribe: shows KIP-848 groups and their members.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, ids::Uuid};

messages! {
    /// Request of [`ConsumerGroupDescribe`](super::ApiKey::ConsumerGroupDescribe).
    pub struct ConsumerGroupDescribeRequest {
        /// The ids of the groups to describe.
        group_ids: Vec<String>;
        /// Whether to include authorized operations.
        include_authorized_operations: bool;
    }

    /// Response of [`ConsumerGroupDescribe`](super::ApiKey::ConsumerGroupDescribe).
    ///
    /// Supported errors:
    ///
    /// * GROUP_AUTHORIZATION_FAILED (version 0+)
    /// * NOT_COORDINATOR (version 0+)
    /// * COORDINATOR_NOT_AVAILABLE (version 0+)
    /// * COORDINATOR_LOAD_IN_PROGRESS (version 0+)
    /// * INVALID_REQUEST (version 0+)
    /// * INVALID_GROUP_ID (version 0+)
    /// * GROUP_ID_NOT_FOUND (version 0+)
    ///
    /// Version 1 adds the type of a member (KIP-1099).
    pub struct ConsumerGroupDescribeResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// Each described group.
        groups: Vec<DescribedGroup>;
    }

    /// One of [`ConsumerGroupDescribeResponse::groups`].
    pub struct DescribedGroup {
        /// The describe error, or 0 if there was no error.
        error_code: ErrorCode;
        /// The top-level error message, or null if there was no error.
        error_message: Option<String>;
        /// The group ID string.
        group_id: String;
        /// The group state string, or the empty string.
        group_state: String;
        /// The group epoch.
        group_epoch: i32;
        /// The assignment epoch.
        assignment_epoch: i32;
        /// The selected assignor.
        assignor_name: String;
        /// The members.
        members: Vec<Member>;
        /// 32-bit bitfield to represent authorized operations for this group.
        authorized_operations: i32 = i32::MIN;
    }

    /// One of [`DescribedGroup::members`].
    pub struct Member {
        /// The member ID.
        member_id: String;
        /// The member instance ID.
        instance_id: Option<String>;
        /// The member rack ID.
        rack_id: Option<String>;
        /// The current member epoch.
        member_epoch: i32;
        /// The client ID.
        client_id: String;
        /// The client host.
        client_host: String;
        /// The subscribed topic names.
        subscribed_topic_names: Vec<String>;
        /// The subscribed topic regex otherwise or null of not provided.
        subscribed_topic_regex: Option<String>;
        /// The current assignment.
        assignment: Assignment;
        /// The target assignment.
        target_assignment: Assignment;
        /// -1 for unknown, 0 for a classic member, 1 for a consumer member.
        member_type: i8 = -1, in 1..;
    }

    /// See [`Member::assignment`].
    pub struct Assignment {
        /// The assigned topic-partitions to the member.
        topic_partitions: Vec<TopicPartitions>;
    }

    /// One of [`Assignment::topic_partitions`].
    pub struct TopicPartitions {
        /// The topic ID.
        topic_id: Uuid;
        /// The topic name.
        topic_name: String;
        /// The partitions.
        partitions: Vec<i32>;
    }
}
