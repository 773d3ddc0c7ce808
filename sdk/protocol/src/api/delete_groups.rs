//! DeleteGroups: deletes groups that have no members.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`DeleteGroups`](super::ApiKey::DeleteGroups).
    ///
    /// Version 2 is the first flexible version.
    pub struct DeleteGroupsRequest {
        /// The group names to delete.
        groups_names: Vec<String>;
    }

    /// Response of [`DeleteGroups`](super::ApiKey::DeleteGroups).
    ///
    /// Starting in version 1, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 2 is the first flexible version.
    pub struct DeleteGroupsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The deletion results.
        results: Vec<DeletableGroupResult>;
    }

    /// One of [`DeleteGroupsResponse::results`].
    pub struct DeletableGroupResult {
        /// The group id.
        group_id: String;
        /// The deletion error, or 0 if the deletion succeeded.
        error_code: ErrorCode;
    }
}
