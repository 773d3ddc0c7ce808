//! InitProducerId: gives an idempotent producer its id and epoch.

use alloc::string::String;

use crate::{codec::messages, error_code::ErrorCode};

messages! {
    /// Request of [`InitProducerId`](super::ApiKey::InitProducerId).
    ///
    /// Version 2 is the first flexible version.
    ///
    /// Version 3 adds ProducerId and ProducerEpoch, allowing producers to try to resume after an
    /// INVALID_PRODUCER_EPOCH error.
    ///
    /// Version 4 adds the support for new error code PRODUCER_FENCED.
    ///
    /// Verison 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    pub struct InitProducerIdRequest {
        /// The transactional id, or null if the producer is not transactional.
        transactional_id: Option<String> = Some(String::new());
        /// The time in ms to wait before aborting idle transactions sent by this producer. This is only relevant
        /// if a TransactionalId has been defined.
        transaction_timeout_ms: i32;
        /// The producer id. This is used to disambiguate requests if a transactional id is reused following its
        /// expiration.
        producer_id: i64 = -1, in 3..;
        /// The producer's current epoch. This will be checked against the producer epoch on the broker, and the
        /// request will return an error if they do not match.
        producer_epoch: i16 = -1, in 3..;
    }

    /// Response of [`InitProducerId`](super::ApiKey::InitProducerId).
    ///
    /// Starting in version 1, on quota violation, brokers send out responses before throttling.
    ///
    /// Version 2 is the first flexible version.
    ///
    /// Version 4 adds the support for new error code PRODUCER_FENCED.
    ///
    /// Version 5 adds support for new error code TRANSACTION_ABORTABLE (KIP-890).
    pub struct InitProducerIdResponse {
        /// The duration in milliseconds for which the request was throttled due to a quota violation, or zero if
        /// the request did not violate any quota.
        throttle_time_ms: i32;
        /// The error code, or 0 if there was no error.
        error_code: ErrorCode;
        /// The current producer id.
        producer_id: i64 = -1;
        /// The current epoch associated with the producer id.
        producer_epoch: i16;
    }
}
