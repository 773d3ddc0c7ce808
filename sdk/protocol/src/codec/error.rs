//! Why bytes are no message, and why a message has no bytes.

/// The peer's fault: these bytes are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the message ends too early")]
    Truncated,
    /// A length below -1, or -1 for something that cannot be null.
    #[error("length {0} is not possible here")]
    InvalidLength(i64),
    /// A count of elements that the remaining bytes cannot hold.
    #[error("{count} elements do not fit in the {remaining} bytes that remain")]
    TooMany {
        /// Elements announced.
        count: usize,
        /// Bytes left.
        remaining: usize,
    },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A variable-length integer of more bytes than its type has.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// A tagged field whose value is shorter than the size it announced.
    #[error("tagged field {0} has bytes left over")]
    TaggedFieldSize(u32),
    /// A marker byte of a nullable struct that is neither null nor present.
    #[error("a nullable struct begins with {0}")]
    InvalidMarker(i8),
    /// A key or value of an internal topic in a version that is not known.
    #[error("version {0} is not known")]
    UnknownVersion(i16),
}

/// The caller's fault: this message cannot be written in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string, array, byte string or the whole message is longer than its length field can say.
    #[error("a value is too long for its length field")]
    TooLong,
    /// No such version of this API.
    #[error("version {0} is not known")]
    UnknownVersion(i16),
}
