//! Bounds of a module's manifest, all in one place: what is outside them is refused with the key and the bound.
use super::quantity::{ByteSize, Duration};

/// Bytes of a module's name, which is also its consumer group.
pub const NAME_BYTES_MAX: usize = 100;
/// Bytes of a topic's name, as in Kafka.
pub const TOPIC_BYTES_MAX: usize = 249;
/// Bytes of a version label.
pub const VERSION_BYTES_MAX: usize = 64;
/// Input topics.
pub const INPUTS_MAX: usize = 16;
/// Output topics.
pub const OUTPUTS_MAX: usize = 64;
/// State buckets.
pub const BUCKETS_MAX: usize = 32;
/// Bytes of a bucket's name.
pub const BUCKET_BYTES_MAX: usize = 64;
/// Tables that a guest may look things up in.
pub const TABLES_MAX: usize = 16;
/// Bytes of a table's name.
pub const TABLE_BYTES_MAX: usize = 64;
/// Group members that one module may have on a node.
pub const MEMBERS_MAX: u32 = 256;
/// Names of metrics, all kinds together.
pub const METRICS_MAX: usize = 256;
/// Bytes of a metric's name.
pub const METRIC_BYTES_MAX: usize = 100;
/// Keys of `[config]`.
pub const CONFIG_KEYS_MAX: usize = 256;
/// Bytes of a key of `[config]`.
pub const CONFIG_KEY_BYTES_MAX: usize = 128;
/// Bytes of a value of `[config]`.
pub const CONFIG_VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a component's path.
pub const COMPONENT_PATH_BYTES_MAX: usize = 4096;

/// `batch.max-records`.
pub const BATCH_RECORDS_MAX: u32 = 100_000;
/// Smallest `batch.max-bytes`.
pub const BATCH_BYTES_MIN: ByteSize = ByteSize(1024);
/// Largest `batch.max-bytes`.
pub const BATCH_BYTES_MAX: ByteSize = ByteSize(16 << 20);
/// Largest `batch.linger`.
pub const LINGER_MAX: Duration = Duration(60_000);
/// Smallest `batch.timeout`: the host's clock for guests ticks every 10 ms.
pub const TIMEOUT_MIN: Duration = Duration(20);
/// Largest `batch.timeout`.
pub const TIMEOUT_MAX: Duration = Duration(600_000);

/// Smallest `retry.initial`.
pub const RETRY_MIN: Duration = Duration(1);
/// Largest `retry.max`.
pub const RETRY_MAX: Duration = Duration(24 * 3_600_000);
/// Largest `retry.factor`, in thousandths.
pub const RETRY_FACTOR_MAX: u32 = 100_000;
/// Largest `retry.max-attempts`.
pub const RETRY_ATTEMPTS_MAX: u32 = 1_000_000;
/// Largest `dead-letter.stop-if.of-last`.
pub const STOP_OF_LAST_MAX: u32 = 1_000_000;

/// Smallest `limits.memory`.
pub const MEMORY_MIN: ByteSize = ByteSize(1 << 20);
/// Largest `limits.memory`.
pub const MEMORY_MAX: ByteSize = ByteSize(4 << 30);
/// Smallest `limits.output-bytes` and `limits.state-write-bytes`.
pub const WRITE_MIN: ByteSize = ByteSize(1024);
/// Largest `limits.output-bytes` and `limits.state-write-bytes`: both, and dead letters, go into one entry of at most 32 MiB.
pub const WRITE_MAX: ByteSize = ByteSize(12 << 20);
/// Smallest `limits.state-bytes`.
pub const STATE_MIN: ByteSize = ByteSize(1024);
/// Largest `limits.state-bytes`.
pub const STATE_MAX: ByteSize = ByteSize(1 << 40);
/// Smallest `ttl` of a bucket: entries are removed in steps of it.
pub const TTL_MIN: Duration = Duration(100);
/// Largest `ttl` of a bucket: ten years.
pub const TTL_MAX: Duration = Duration(3650 * 24 * 3_600_000);
/// Largest `input.max-out-of-order` and `input.idle-after`.
pub const EVENT_TIME_MAX: Duration = Duration(365 * 24 * 3_600_000);
/// Smallest `input.idle-after`.
pub const IDLE_MIN: Duration = Duration(10);
/// Largest `limits.log-lines-per-second`.
pub const LOG_LINES_MAX: u32 = 10_000;
