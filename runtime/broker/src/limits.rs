//! Every bound of the core, in one place.

/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

/// Partitions of all topics together.
pub const PARTITIONS_MAX: usize = 200_000;

/// Partitions of `__consumer_offsets`; fixed for ever, because a group's partition is its hash modulo this.
pub const OFFSETS_PARTITIONS: u32 = 50;

/// Bytes of a committed offset's metadata, as Kafka's `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

/// Bytes of names and metadata in the records of one commit of offsets.
pub const OFFSET_COMMIT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of the batches in one entry: what is left of an entry that storage takes without what describes them.
pub const PRODUCE_BYTES_MAX: usize = 31 * 1024 * 1024;

/// Bytes of a group's name.
pub const GROUP_ID_BYTES_MAX: usize = 1024;

/// Bytes of a topic's name, as in Kafka.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Batches remembered for each producer and log: what an idempotent client may have in flight.
pub const PRODUCER_BATCHES: usize = 5;

/// A producer silent for this long is forgotten, as Kafka's `producer.id.expiration.ms`.
pub const PRODUCER_EXPIRY_MS: i64 = 24 * 60 * 60 * 1000;

/// How often retention and expiry look around.
pub const HOUSEKEEPING_INTERVAL_MS: i64 = 60 * 1000;

/// The longest a fetch waits, whatever the client asks.
pub const FETCH_WAIT_MS_MAX: i32 = 5 * 60 * 1000;

/// Bytes in one fetch response, whatever the client asks.
pub const FETCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of disk that there must be for each byte of state that is migrated: the pages of a copy that grows are half full at worst.
pub const MIGRATION_ROOM: u64 = 2;

/// Modules deployed on a shard.
pub const MODULES_MAX: usize = 10_000;

/// Releases kept of each module, to roll back to.
pub const RELEASES_KEPT: usize = 10;

/// Ranges of dead letters that a task remembers as processed again.
pub const REDRIVEN_RANGES_MAX: usize = 256;

/// Bytes of dead letters read at once to be processed again.
pub const LETTERS_READ_BYTES: usize = 256 * 1024;

/// Bytes of a batch of dead letters, unpacked.
pub const LETTER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Log lines kept of each module.
pub const MODULE_LOG_LINES: usize = 1000;

/// Bytes of text kept of the log lines of each module.
pub const MODULE_LOG_BYTES: usize = 1024 * 1024;

/// Callers that follow the log of one module.
pub const MODULE_LOG_FOLLOWERS_MAX: usize = 64;

/// Bytes of a key in a view, as of a key in a module's state.
pub const VIEW_KEY_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a value in a view, as of a value in a module's state.
pub const VIEW_VALUE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one batch of a topic that is materialised, unpacked.
pub const VIEW_BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of a log read at once for a view, as they lie there.
pub const VIEW_READ_BYTES: usize = 1024 * 1024;

/// Records that one entry puts into a view.
pub const VIEW_FILL_RECORDS_MAX: usize = 4096;

/// Bytes beyond which an entry puts no further record into a view.
pub const VIEW_FILL_BYTES: usize = 1024 * 1024;

/// No batch of a module is begun while one of its tables is further behind its topic than this, in records.
pub const VIEW_BEHIND_MAX: i64 = 10_000;

/// How long a module's member waits after its group refused it.
pub const MODULE_REJOIN_MS: i64 = 1000;

/// How long a task waits after something outside of its module failed: a read, a full disk.
pub const MODULE_TROUBLE_MS: i64 = 500;

/// Bytes that a fetch may read at once, if it asks for less in all: what partitions do not use of their share goes to others.
pub const FETCH_READ_BYTES: usize = 8 * 1024 * 1024;
