//! Bounds on what crosses the wire.

/// Bytes of a topic's name. Kafka's own bound: the name and a partition number must make a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Bytes of a group's name.
pub const GROUP_ID_BYTES_MAX: usize = 1024;

/// Bytes of a transactional id.
pub const TRANSACTIONAL_ID_BYTES_MAX: usize = 1024;

/// Bytes of a frame, unless configured otherwise. Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Bytes of a record batch, unless configured otherwise. Kafka's `message.max.bytes`.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024 + 12;

/// Bytes of a batch's records when decompressed, unless configured otherwise.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Decoding a frame allocates at most this many times its size. The worst is an array of empty structs: a few bytes on the wire, a few strings and
/// vectors in memory, in a vector that grows by doubling.
pub const DECODE_AMPLIFICATION_MAX: usize = 128;
