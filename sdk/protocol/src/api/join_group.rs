//! JoinGroup: makes a client a member of a classic group and starts a rebalance.

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`JoinGroup`](super::ApiKey::JoinGroup).
    ///
    /// Version 1 adds RebalanceTimeoutMs.
    ///
    /// Starting from version 4, the client needs to issue a second request to join group.
    ///
    /// Starting from version 5, we add a new field called groupInstanceId to indicate member identity across
    /// restarts. with assigned id.
    ///
    /// Version 6 is the first flexible version.
    ///
    /// Version 8 adds the Reason field (KIP-800).
    pub struct JoinGroupRequest {
        /// The group identifier.
        group_id: String;
        /// The coordinator considers the consumer dead if it receives no heartbeat after this timeout in
        /// milliseconds.
        session_timeout_ms: i32;
        /// The maximum time in milliseconds that the coordinator will wait for each member to rejoin when
        /// rebalancing the group.
        rebalance_timeout_ms: i32 = -1, in 1..;
        /// The member id assigned by the group coordinator.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 5..;
        /// The unique name the for class of protocols implemented by the group we want to join.
        protocol_type: String;
        /// The list of protocols that the member supports.
        protocols: Vec<JoinGroupRequestProtocol>;
        /// The reason why the member (re-)joins the group.
        reason: Option<String>, in 8..;
    }

    /// One of [`JoinGroupRequest::protocols`].
    pub struct JoinGroupRequestProtocol {
        /// The protocol name.
        name: String;
        /// The protocol metadata.
        metadata: Bytes;
    }

    /// Response of [`JoinGroup`](super::ApiKey::JoinGroup).
    ///
    /// Version 2 adds throttle time.
    ///
    /// Starting in version 3, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting in version 4, the client needs to issue a second request to join group with assigned id.
    ///
    /// Version 5 is bumped to apply group.instance.id to identify member across restarts.
    ///
    /// Version 6 is the first flexible version.
    ///
    /// Starting from version 7, the broker sends back the Protocol Type to the client (KIP-559).
    ///
    /// Version 9 adds the SkipAssignment field.
    pub struct JoinGroupResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 2..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The generation ID of the group.
        generation_id: i32 = -1;
        /// The group protocol name.
        protocol_type: Option<String>, in 7..;
        /// The group protocol selected by the coordinator.
        protocol_name: Option<String> = Some(String::new()), nullable 7..;
        /// The leader of the group.
        leader: String;
        /// True if the leader must skip running the assignment.
        skip_assignment: bool, in 9..;
        /// The member ID assigned by the group coordinator.
        member_id: String;
        /// For the leader: the members of the group; empty for the others.
        members: Vec<JoinGroupResponseMember>;
    }

    /// One of [`JoinGroupResponse::members`].
    pub struct JoinGroupResponseMember {
        /// The group member ID.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 5..;
        /// The group member metadata.
        metadata: Bytes;
    }
}
