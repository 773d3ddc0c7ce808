//! The one error of this crate: what failed, whose fault it is, whether trying again can help, and whether anything happened.

use std::time::Duration;

use tidemill_protocol::error_code::ErrorCode;

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The application: a bad argument, a record too large, a use after close.
    Caller,
    /// The way between client and broker, or nobody at the other end.
    Network,
    /// The broker refused, or could not.
    Broker,
    /// The broker answered what the protocol does not allow.
    Protocol,
}

/// Whether a request may have reached the broker before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not one byte of it was written: nothing can have happened.
    NotSent,
    /// It was written, and no answer came: it may or may not have been done.
    Unknown,
}

/// Why a call failed. It is cheap to clone: one failed batch fails each of its records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configured value is out of its bounds, or two of them do not fit together.
    #[error("{key}: {reason}")]
    Config {
        /// The field.
        key: &'static str,
        /// What is wrong, with the bound.
        reason: String,
    },
    /// An argument cannot be meant.
    #[error("{0}")]
    InvalidArgument(String),
    /// A record that no batch can hold.
    #[error("a record of {bytes} bytes, at most {bytes_max} are allowed (`batch_bytes_max`, `buffer_bytes_max`)")]
    RecordTooLarge {
        /// Size of the record as encoded, before compression.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The client, producer or consumer was closed.
    #[error("closed")]
    Closed,
    /// The TLS configuration: files, certificates, names.
    #[error("TLS: {0}")]
    Tls(String),
    /// No broker could be reached.
    #[error("no broker at {addresses}: {reason}")]
    Unreachable {
        /// What was tried.
        addresses: String,
        /// The last failure.
        reason: String,
    },
    /// The connection or stream ended before the answer.
    #[error("disconnected: {reason}")]
    Disconnected {
        /// Why, as far as known.
        reason: String,
        /// Whether the request may have arrived.
        reach: Reach,
    },
    /// No answer in time.
    #[error("{what} was not done within {after:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// Whether a request may have arrived.
        reach: Reach,
    },
    /// The broker answered with an error.
    #[error("{subject}: {code:?}: {}", .message.as_deref().unwrap_or_else(|| code.sentence()))]
    Broker {
        /// Kafka's error code.
        code: ErrorCode,
        /// What it is about: a topic, a partition, a group.
        subject: String,
        /// The broker's own words, if it gave any.
        message: Option<String>,
    },
    /// The management side of the daemon refused.
    #[error("{message}")]
    Refused {
        /// A stable word for programs.
        kind: String,
        /// A sentence for people.
        message: String,
    },
    /// The broker serves no version of an API that this client speaks.
    #[error("the broker serves no version of {api} that this client speaks")]
    UnsupportedApi {
        /// The API's name.
        api: String,
    },
    /// The broker's answer makes no sense, or is larger than any bound.
    #[error("the broker's answer is invalid: {0}")]
    Protocol(String),
    /// A partition has no position, and the consumer is configured not to choose one (`auto.offset.reset` none).
    #[error("{topic}-{partition} has no offset to start from: {reason}")]
    NoOffset {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Nothing committed, or what was is out of range.
        reason: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Error::Config { .. }
            | Error::InvalidArgument(_)
            | Error::RecordTooLarge { .. }
            | Error::Closed
            | Error::Tls(_)
            | Error::NoOffset { .. } => Blame::Caller,
            Error::Unreachable { .. } | Error::Disconnected { .. } | Error::TimedOut { .. } => Blame::Network,
            Error::Broker { .. } | Error::Refused { .. } | Error::UnsupportedApi { .. } => Blame::Broker,
            Error::Protocol(_) => Blame::Protocol,
        }
    }

    /// Whether the same call may succeed later. A retry of what has side effects may then do it twice:
    /// ask [`Error::has_no_side_effects`] too.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Disconnected { .. } | Error::TimedOut { .. } => true,
            Error::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether it is sure that the failed call changed nothing at the broker.
    pub fn has_no_side_effects(&self) -> bool {
        match self {
            Error::Disconnected { reach, .. } | Error::TimedOut { reach, .. } => *reach == Reach::NotSent,
            // These are told after the broker took the request in: it may be stored all the same.
            Error::Broker { code, .. } => {
                *code != ErrorCode::REQUEST_TIMED_OUT && *code != ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            }
            Error::Protocol(_) => false,
            _ => true,
        }
    }

    /// The broker's error code, when it answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn tls(reason: impl Into<String>) -> Error {
        Error::Tls(reason.into())
    }

    pub(crate) fn protocol(reason: impl std::fmt::Display) -> Error {
        Error::Protocol(reason.to_string())
    }

    pub(crate) fn disconnected(reason: impl std::fmt::Display, reach: Reach) -> Error {
        Error::Disconnected {
            reason: reason.to_string(),
            reach,
        }
    }

    pub(crate) fn timed_out(what: impl Into<String>, after: Duration, reach: Reach) -> Error {
        Error::TimedOut {
            what: what.into(),
            after,
            reach,
        }
    }

    pub(crate) fn config(key: &'static str, reason: impl Into<String>) -> Error {
        Error::Config {
            key,
            reason: reason.into(),
        }
    }
}

/// `Ok` without an error, otherwise the broker's error about `subject`.
pub(crate) fn check(code: ErrorCode, message: Option<&str>, subject: impl FnOnce() -> String) -> Result<()> {
    if code.is_ok() {
        return Ok(());
    }
    Err(Error::Broker {
        code,
        subject: subject(),
        message: message.map(str::to_owned),
    })
}
