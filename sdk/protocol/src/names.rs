//! Names that are valid because they exist: parse, do not validate.

use alloc::string::String;
use core::fmt;

use crate::limits;

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Too many bytes.
    #[error("the name is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// `.` or `..`.
    #[error("a name cannot be '.' or '..'")]
    Dots,
    /// A character outside the alphabet of topic names.
    #[error("a topic name has only ASCII letters and digits, '.', '_' and '-'")]
    Character,
}

fn check_length(text: &str, bytes_max: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty),
        len if bytes_max < len => Err(NameError::TooLong { bytes_max }),
        _ => Ok(()),
    }
}

/// Kafka's rule for topics: ASCII letters, digits, `.`, `_`, `-`; at most 249 of them; not `.` or `..`.
fn check_topic(text: &str) -> Result<(), NameError> {
    check_length(text, limits::TOPIC_NAME_BYTES_MAX)?;
    if text == "." || text == ".." {
        return Err(NameError::Dots);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

fn check_group(text: &str) -> Result<(), NameError> {
    check_length(text, limits::GROUP_ID_BYTES_MAX)
}

fn check_transactional(text: &str) -> Result<(), NameError> {
    check_length(text, limits::TRANSACTIONAL_ID_BYTES_MAX)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes the text if it is such a name.
            pub fn parse(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl core::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl core::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(
    /// Name of a topic.
    TopicName,
    check_topic
);
name!(
    /// Name of a consumer group: any text that is not empty.
    GroupId,
    check_group
);
name!(
    /// Name under which a producer's transactions survive its restarts: any text that is not empty.
    TransactionalId,
    check_transactional
);

impl TopicName {
    /// Whether the broker keeps this topic for itself and clients may only read it.
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), "__consumer_offsets" | "__transaction_state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_is_what_kafka_takes() {
        for good in ["a", "orders.eu-1_x", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::parse(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a b", "a/b", "größe", "a\0", &"x".repeat(250)] {
            assert!(TopicName::parse(bad).is_err(), "{bad}");
        }
    }
}
