//! How a call ends: how much of the batch to commit, or why nothing of it.
use std::fmt;

/// How much of the batch to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// All of it.
    All,
    /// The first `n` records; the rest is delivered again at once. What was produced and written must come from the first `n` only.
    First(u32),
}

/// Why the call did not succeed. Whichever it is, nothing that the call produced, wrote or gave up on takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Transient: the same records are delivered again after `after_ms`, or after the backoff of the manifest's `[retry]`.
    Retry {
        /// For the log.
        reason: String,
        /// Milliseconds; `None` leaves it to the manifest.
        after_ms: Option<u32>,
    },
    /// This record can never succeed. The manifest's `dead-letter.on-poison` is applied to it, the others are delivered again.
    Poison {
        /// Position in the batch: [`crate::batch::Record::index`]. In `on_timers`, of the timer among those that are due; timers are
        /// never given up on, so the module stops when `retry.max-attempts` are used up.
        index: u32,
        /// Short and stable, for grouping and alerting: "bad-json".
        code: String,
        /// For a person to read. Must not carry secrets.
        reason: String,
    },
    /// Stop the module and tell the operator.
    Fatal(String),
}

impl Error {
    /// A transient failure; the manifest's backoff decides when to try again.
    pub fn retry(reason: impl fmt::Display) -> Error {
        Error::Retry {
            reason: reason.to_string(),
            after_ms: None,
        }
    }

    /// A failure that needs the operator.
    pub fn fatal(reason: impl fmt::Display) -> Error {
        Error::Fatal(reason.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Retry { reason, .. } => write!(f, "retry: {reason}"),
            Error::Poison { index, code, reason } => write!(f, "record {index} is poison ({code}): {reason}"),
            Error::Fatal(reason) => write!(f, "fatal: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(target_arch = "wasm32")]
mod wire {
    use super::{Ack, Error};
    use crate::bindings::tidemill::processor::types;

    impl From<Ack> for types::Ack {
        fn from(ack: Ack) -> Self {
            match ack {
                Ack::All => types::Ack::All,
                Ack::First(n) => types::Ack::First(n),
            }
        }
    }

    impl From<Error> for types::ProcessError {
        fn from(error: Error) -> Self {
            match error {
                Error::Retry { reason, after_ms } => {
                    types::ProcessError::Retry(types::RetryRequest { reason, after_ms })
                }
                Error::Poison { index, code, reason } => types::ProcessError::Poison(types::PoisonRecord {
                    index,
                    failure: types::Failure { code, reason },
                }),
                Error::Fatal(reason) => types::ProcessError::Fatal(reason),
            }
        }
    }
}
