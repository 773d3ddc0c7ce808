//! DescribeGroups: shows classic groups and their members.

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`DescribeGroups`](super::ApiKey::DescribeGroups).
    ///
    /// Starting in version 3, authorized operations can be requested.
    ///
    /// Starting in version 4, the response will include group.instance.id info for members.
    ///
    /// Version 5 is the first flexible version.
    pub struct DescribeGroupsRequest {
        /// The names of the groups to describe.
        groups: Vec<String>;
        /// Whether to include authorized operations.
        include_authorized_operations: bool, in 3..;
    }

    /// Response of [`DescribeGroups`](super::ApiKey::DescribeGroups).
    ///
    /// Version 1 added throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting in version 3, brokers can send authorized operations.
    ///
    /// Starting in version 4, the response will optionally include group.instance.id info for members.
    ///
    /// Version 5 is the first flexible version. ProtocolData is currently only filled in if the group state is in
    /// the Stable state. N.B. If the group is in the Dead state, the members array will always be empty. This is
    /// currently only provided if the group is in the Stable state. This is currently only provided if the group
    /// is in the Stable state.
    ///
    /// Version 6 returns GROUP_ID_NOT_FOUND and an error message for a group that does not exist (KIP-1043).
    pub struct DescribeGroupsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// Each described group.
        groups: Vec<DescribedGroup>;
    }

    /// One of [`DescribeGroupsResponse::groups`].
    pub struct DescribedGroup {
        /// The describe error, or 0 if there was no error.
        error_code: ErrorCode;
        /// The describe error message, or null if there was no error.
        error_message: Option<String>, in 6..;
        /// The group ID string.
        group_id: String;
        /// The group state string, or the empty string.
        group_state: String;
        /// The group protocol type, or the empty string.
        protocol_type: String;
        /// The group protocol data, or the empty string.
        protocol_data: String;
        /// The group members.
        members: Vec<DescribedGroupMember>;
        /// 32-bit bitfield to represent authorized operations for this group.
        authorized_operations: i32 = i32::MIN, in 3..;
    }

    /// One of [`DescribedGroup::members`].
    pub struct DescribedGroupMember {
        /// The member ID assigned by the group coordinator.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 4..;
        /// The client ID used in the member's latest join group request.
        client_id: String;
        /// The client host.
        client_host: String;
        /// The metadata corresponding to the current group protocol in use.
        member_metadata: Bytes;
        /// The current assignment provided by the group leader.
        member_assignment: Bytes;
    }
}
