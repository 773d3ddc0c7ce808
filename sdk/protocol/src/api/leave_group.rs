//! LeaveGroup: takes members out of a classic group.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`LeaveGroup`](super::ApiKey::LeaveGroup).
    ///
    /// Version 3 defines batch processing scheme with group.instance.id + member.id for identity.
    ///
    /// Version 4 is the first flexible version.
    ///
    /// Version 5 adds the Reason field (KIP-800).
    pub struct LeaveGroupRequest {
        /// The ID of the group to leave.
        group_id: String;
        /// The member ID to remove from the group.
        member_id: String, in ..=2;
        /// List of leaving member identities.
        members: Vec<MemberIdentity>, in 3..;
    }

    /// One of [`LeaveGroupRequest::members`].
    pub struct MemberIdentity {
        /// The member ID to remove from the group.
        member_id: String;
        /// The group instance ID to remove from the group.
        group_instance_id: Option<String>;
        /// The reason why the member left the group.
        reason: Option<String>, in 5..;
    }

    /// Response of [`LeaveGroup`](super::ApiKey::LeaveGroup).
    ///
    /// Version 1 adds the throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting in version 3, we will make leave group request into batch mode and add group.instance.id.
    ///
    /// Version 4 is the first flexible version.
    pub struct LeaveGroupResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// List of leaving member responses.
        members: Vec<MemberResponse>, in 3..;
    }

    /// One of [`LeaveGroupResponse::members`].
    pub struct MemberResponse {
        /// The member ID to remove from the group.
        member_id: String;
        /// The group instance ID to remove from the group.
        group_instance_id: Option<String> = Some(String::new());
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
    }
}
