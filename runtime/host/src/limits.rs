//! Every bound of the host that is not a deployment's own (those come with each run, from the manifest).
//!
//! What a guest can make the host keep is bounded here: handles, buckets' pages, log lines, metrics, argument bytes.

/// Linear memory of any instance: the largest `limits.memory` that a manifest may ask for.
pub const MEMORY_BYTES_MAX: usize = 1 << 30;
/// Elements of all the tables of one instance.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core instances, memories and tables of one component.
pub const CORE_INSTANCES_MAX: usize = 32;
/// Tables of one component.
pub const TABLES_MAX: usize = 16;
/// Memories of one component.
pub const MEMORIES_MAX: usize = 4;
/// Stack of a guest; beyond it a call traps.
pub const GUEST_STACK_BYTES: usize = 1 << 20;
/// Stack of a lane: the guest's, and room for the host functions that it calls at its deepest.
pub const LANE_STACK_BYTES: usize = 8 << 20;
/// Instances that the pool has room for, idle ones included.
pub const INSTANCES_MAX: u32 = 1_000;
/// Instances kept for their next batch; the least recently used one goes first.
pub const IDLE_INSTANCES_MAX: usize = 800;
/// Batches after which an instance is replaced: a leak in a guest is bounded by it.
pub const INSTANCE_BATCHES_MAX: u32 = 10_000;
/// Share of `limits.memory` above which an instance is replaced after its batch, in hundredths.
pub const RECYCLE_MEMORY_PERCENT: usize = 75;
/// Bytes that a guest may pass to the host in one call, beside what the output limit says.
pub const HOST_CALL_BYTES_MAX: usize = 16 << 20;
/// Resource handles (buckets, streams, its own) that an instance may hold at once.
pub const HANDLES_MAX: usize = 1_024;
/// Bytes of one log line; the rest is cut.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Log lines of one call, whatever the manifest says.
pub const LOG_LINES_MAX: u32 = 1_000;
/// Different lines about the guest (limits that it hit, names that it did not declare) of one call.
pub const NOTICES_MAX: usize = 16;
/// Histogram values of one call.
pub const MEASUREMENTS_MAX: usize = 10_000;
/// Bytes of a state key.
pub const STATE_KEY_BYTES_MAX: usize = 4 << 10;
/// Bytes of a state value.
pub const STATE_VALUE_BYTES_MAX: usize = 1 << 20;
/// Expired entries that one page of a scan passes over before it ends early.
pub const SCAN_EXPIRED_MAX: usize = 20_000;
/// Accounting overhead of one state write beside its key and value: what a row costs when it holds nothing.
pub const STATE_WRITE_OVERHEAD: usize = 32;
/// Keys of a bucket of which a call remembers that it has looked at them, and how large such a key may be.
pub const KNOWN_KEYS_MAX: usize = 10_000;
/// See [`KNOWN_KEYS_MAX`].
pub const KNOWN_KEY_BYTES_MAX: usize = 256;
/// Expired entries that one commit removes at least, if there are so many; it removes twice as many as it writes if that is more.
pub const EXPIRED_REMOVED: usize = 256;
/// Bytes of rows beyond which a commit removes no more: those of entries that live on are written again, and an entry is bounded.
pub const EXPIRED_BYTES_MAX: usize = 1 << 20;
/// Bytes of rows that one chunk of a copy has, beside its last row: a chunk is an entry.
pub const COPY_BYTES: usize = 1 << 20;
/// Rows that are read at once: each may be as large as a value can be, and other threads wait meanwhile.
pub const ROWS_READ: usize = 64;
/// Bytes of a migration's cursor.
pub const CURSOR_BYTES_MAX: usize = 64 << 10;
/// Bytes of a timer's payload.
pub const TIMER_PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of the timers that one call is given, beside the first.
pub const TIMER_BYTES_MAX: usize = 4 << 20;
/// Entries of one page of a state scan.
pub const SCAN_ENTRIES_MAX: usize = 10_000;
/// Bytes of one page of a state scan, and of one answer to `get-many`.
pub const SCAN_BYTES_MAX: usize = 4 << 20;
/// Bytes of an artefact's component.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a compiled artefact.
pub const ARTEFACT_BYTES_MAX: u64 = 512 << 20;
/// Decompressed bytes of one input record batch.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;
/// Output partitions of one topic that a call may open.
pub const OUTPUT_PARTITIONS_MAX: u32 = 100_000;
/// Failure codes and reasons in headers of dead letters; the rest is cut.
pub const FAILURE_TEXT_BYTES_MAX: usize = 2 << 10;
/// Frames of a guest's backtrace that are looked at.
pub const BACKTRACE_FRAMES_MAX: usize = 32;
/// Lines of a guest's backtrace in a message.
pub const BACKTRACE_LINES_MAX: usize = 16;
/// Milliseconds between two looks at a running guest's deadline.
pub const TICK_MS: u64 = 10;
/// Instructions that stand for a millisecond where instructions are counted instead of time.
pub const FUEL_PER_MS: u64 = 1_000_000;
