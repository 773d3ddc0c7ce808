//! SyncGroup: hands the assignments of a classic group from its leader to its members.

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`SyncGroup`](super::ApiKey::SyncGroup).
    ///
    /// Starting from version 3, we add a new field called groupInstanceId to indicate member identity across
    /// restarts.
    ///
    /// Version 4 is the first flexible version.
    ///
    /// Starting from version 5, the client sends the Protocol Type and the Protocol Name to the broker (KIP-559).
    /// The broker will reject the request if they are inconsistent with the Type and Name known by the broker.
    pub struct SyncGroupRequest {
        /// The unique group identifier.
        group_id: String;
        /// The generation of the group.
        generation_id: i32;
        /// The member ID assigned by the group.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 3..;
        /// The group protocol type.
        protocol_type: Option<String>, in 5..;
        /// The group protocol name.
        protocol_name: Option<String>, in 5..;
        /// Each assignment.
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// One of [`SyncGroupRequest::assignments`].
    pub struct SyncGroupRequestAssignment {
        /// The ID of the member to assign.
        member_id: String;
        /// The member assignment.
        assignment: Bytes;
    }

    /// Response of [`SyncGroup`](super::ApiKey::SyncGroup).
    ///
    /// Version 1 adds throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting from version 3, syncGroupRequest supports a new field called groupInstanceId to indicate member
    /// identity across restarts.
    ///
    /// Version 4 is the first flexible version.
    ///
    /// Starting from version 5, the broker sends back the Protocol Type and the Protocol Name to the client
    /// (KIP-559).
    pub struct SyncGroupResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The group protocol type.
        protocol_type: Option<String>, in 5..;
        /// The group protocol name.
        protocol_name: Option<String>, in 5..;
        /// The member assignment.
        assignment: Bytes;
    }
}
