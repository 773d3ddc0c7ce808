//! Heartbeat: keeps a member's session in a classic group.

use alloc::string::String;

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`Heartbeat`](super::ApiKey::Heartbeat).
    ///
    /// Starting from version 3, we add a new field called groupInstanceId to indicate member identity across
    /// restarts.
    ///
    /// Version 4 is the first flexible version.
    pub struct HeartbeatRequest {
        /// The group id.
        group_id: String;
        /// The generation of the group.
        generation_id: i32;
        /// The member ID.
        member_id: String;
        /// The unique identifier of the consumer instance provided by end user.
        group_instance_id: Option<String>, in 3..;
    }

    /// Response of [`Heartbeat`](super::ApiKey::Heartbeat).
    ///
    /// Version 1 adds throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting from version 3, heartbeatRequest supports a new field called groupInstanceId to indicate member
    /// identity across restarts.
    ///
    /// Version 4 is the first flexible version.
    pub struct HeartbeatResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
    }
}
