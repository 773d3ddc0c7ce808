//! FindCoordinator: tells which broker coordinates a group or a transactional id.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`FindCoordinator`](super::ApiKey::FindCoordinator).
    ///
    /// Version 1 adds KeyType.
    ///
    /// Version 3 is the first flexible version.
    ///
    /// Version 4 adds support for batching via CoordinatorKeys (KIP-699)
    ///
    /// Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    ///
    /// Version 6 adds support for share groups (KIP-932).
    pub struct FindCoordinatorRequest {
        /// The coordinator key.
        key: String, in ..=3;
        /// The coordinator key type. (Group, transaction, etc.)
        key_type: i8, in 1..;
        /// The coordinator keys.
        coordinator_keys: Vec<String>, in 4..;
    }

    /// Response of [`FindCoordinator`](super::ApiKey::FindCoordinator).
    ///
    /// Version 1 adds throttle time and error messages.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 3 is the first flexible version.
    ///
    /// Version 4 adds support for batching via Coordinators (KIP-699)
    ///
    /// Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    ///
    /// Version 6 adds support for share groups (KIP-932).
    pub struct FindCoordinatorResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32, in 1..;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode, in ..=3;
        /// The error message, or null if there was no error.
        error_message: Option<String> = Some(String::new()), in 1..=3;
        /// The node id.
        node_id: i32, in ..=3;
        /// The host name.
        host: String, in ..=3;
        /// The port.
        port: i32, in ..=3;
        /// Each coordinator result in the response.
        coordinators: Vec<Coordinator>, in 4..;
    }

    /// One of [`FindCoordinatorResponse::coordinators`].
    pub struct Coordinator {
        /// The coordinator key.
        key: String;
        /// The node id.
        node_id: i32;
        /// The host name.
        host: String;
        /// The port.
        port: i32;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The error message, or null if there was no error.
        error_message: Option<String> = Some(String::new());
    }
}
