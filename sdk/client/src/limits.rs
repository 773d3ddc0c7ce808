//! Every bound of the client in one place. Nothing the broker sends, and nothing the application queues, grows past these.

/// Largest response frame read from a broker; a fetch of the largest allowed size fits in it with room for headers.
pub const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A frame's buffer is allocated in steps of at most this, as its bytes arrive: a length alone allocates nothing larger.
pub const FRAME_STEP_BYTES: usize = 1024 * 1024;

/// Requests written or waiting on one stream without an answer.
pub const STREAM_PENDING_MAX: usize = 4096;

/// Streams a client opens on one connection for produce requests. More partitions than this share them.
pub const PRODUCE_STREAMS_MAX: usize = 48;

/// Records one `Consumer::next` may return, whatever is configured.
pub const POLL_RECORDS_MAX: usize = 1_000_000;

/// Bytes one compressed record batch may decompress to.
pub const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Largest `buffer_bytes_max` of a producer.
pub const PRODUCER_BUFFER_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Largest `batch_bytes_max` of a producer.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest record, whatever `batch_bytes_max` is: it is then a batch of its own, if the topic allows it.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Batches of one partition in flight for an idempotent producer: the broker remembers the last five of each.
pub const IN_FLIGHT_IDEMPOTENT_MAX: usize = 5;

/// Batches of one partition in flight without idempotence.
pub const IN_FLIGHT_MAX: usize = 64;

/// Longest answer line of the management protocol.
pub const ADMIN_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest module component sent with a deploy.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Partitions of a topic as told by a broker; more is taken for nonsense.
pub const PARTITIONS_MAX: usize = 1_000_000;
