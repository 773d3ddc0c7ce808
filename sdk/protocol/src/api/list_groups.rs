//! ListGroups: lists groups.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`ListGroups`](super::ApiKey::ListGroups).
    ///
    /// Version 3 is the first flexible version.
    ///
    /// Version 4 adds the StatesFilter field (KIP-518).
    ///
    /// Version 5 adds the TypesFilter field (KIP-848).
    pub struct ListGroupsRequest {
        /// The states of the groups we want to list. If empty, all groups are returned with their state.
        states_filter: Vec<String>, in 4..;
        /// The types of the groups we want to list. If empty, all groups are returned with their type.
        types_filter: Vec<String>, in 5..;
    }

    /// Response of [`ListGroups`](super::ApiKey::ListGroups).
    ///
    /// Version 1 adds the throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 3 is the first flexible version.
    ///
    /// Version 4 adds the GroupState field (KIP-518).
    ///
    /// Version 5 adds the GroupType field (KIP-848).
    pub struct ListGroupsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// Each group in the response.
        groups: Vec<ListedGroup>;
    }

    /// One of [`ListGroupsResponse::groups`].
    pub struct ListedGroup {
        /// The group ID.
        group_id: String;
        /// The group protocol type.
        protocol_type: String;
        /// The group state name.
        group_state: String, in 4..;
        /// The group type name.
        group_type: String, in 5..;
    }
}
