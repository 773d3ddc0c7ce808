//! DeleteTopics: deletes topics.

use alloc::{string::String, vec::Vec};

use crate::{codec::messages, error_code::ErrorCode, ids::Uuid};

messages! {
    /// Request of [`DeleteTopics`](super::ApiKey::DeleteTopics).
    ///
    /// Versions 0, 1, 2, and 3 are the same.
    ///
    /// Version 4 is the first flexible version.
    ///
    /// Version 5 adds ErrorMessage in the response and may return a THROTTLING_QUOTA_EXCEEDED error in the
    /// response if the topics deletion is throttled (KIP-599).
    ///
    /// Version 6 reorganizes topics, adds topic IDs and allows topic names to be null.
    pub struct DeleteTopicsRequest {
        /// The name or topic ID of the topic.
        topics: Vec<DeleteTopicState>, in 6..;
        /// The names of the topics to delete.
        topic_names: Vec<String>, in ..=5;
        /// The length of time in milliseconds to wait for the deletions to complete.
        timeout_ms: i32;
    }

    /// One of [`DeleteTopicsRequest::topics`].
    pub struct DeleteTopicState {
        /// The topic name.
        name: Option<String>;
        /// The unique topic ID.
        topic_id: Uuid;
    }

    /// Response of [`DeleteTopics`](super::ApiKey::DeleteTopics).
    ///
    /// Version 1 adds the throttle time.
    ///
    /// Starting in version 2, on quota violation, brokers send out responses before throttling.
    ///
    /// Starting in version 3, a TOPIC_DELETION_DISABLED error code may be returned.
    ///
    /// Version 4 is the first flexible version.
    ///
    /// Version 5 adds ErrorMessage in the response and may return a THROTTLING_QUOTA_EXCEEDED error in the
    /// response if the topics deletion is throttled (KIP-599).
    ///
    /// Version 6 adds topic ID to responses. An UNSUPPORTED_VERSION error code will be returned when attempting
    /// to delete using topic IDs when IBP `<` 2.8. UNKNOWN_TOPIC_ID error code will be returned when IBP is at
    /// least 2.8, but the topic ID was not found.
    pub struct DeleteTopicsResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The results for each topic we tried to delete.
        responses: Vec<DeletableTopicResult>;
    }

    /// One of [`DeleteTopicsResponse::responses`].
    pub struct DeletableTopicResult {
        /// The topic name.
        name: Option<String> = Some(String::new()), nullable 6..;
        /// The unique topic ID.
        topic_id: Uuid, in 6..;
        /// The deletion error, or 0 if the deletion succeeded.
        error_code: ErrorCode;
        /// The error message, or null if there was no error.
        error_message: Option<String>, in 5..;
    }
}
