//! Every bound of this crate in one place, with its reason.

/// Largest entry that the journal takes. A group must fit a journal file, and a reader allocates what a frame claims.
pub const ENTRY_BYTES_MAX: usize = 32 << 20;

/// Entries gathered into one write. More adds latency and no throughput: the sync is already amortised.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Entries in one group.
pub const GROUP_ENTRIES_MAX: usize = 16_384;

/// Default size of a journal file; a group never straddles two.
pub const JOURNAL_FILE_BYTES: u64 = 64 << 20;

/// What a new journal file grows by when groups are small.
pub const GROWTH_BYTES: usize = 1 << 20;

/// Used-up journal files kept for reuse. Writing over blocks that were written before needs no allocation, so the sync is one write.
pub const JOURNAL_SPARES_MAX: usize = 4;

/// Default size at which a segment file is closed and the next begun.
pub const SEGMENT_BYTES: u64 = 1 << 30;

/// Batches of one log are coalesced into chunks of at most this size, which fill four large leaves of redb: what a fetch asks for at a time
/// by default. A batch larger than this is a chunk of its own.
pub const CHUNK_BYTES: usize = (1 << 20) - 4 * 22;

/// Settle when this much is waiting...
pub const SETTLE_BYTES: u64 = 32 << 20;

/// ...or when something has been waiting this long. A round syncs two databases: for little, that is many writes. Latency does not care:
/// one second and five were measured in turn and differ by less than two runs of either.
pub const SETTLE_INTERVAL_MS: u64 = 5_000;

/// Default bound of what is journalled but not settled. Above it [`crate::Storage::is_behind`] says so and the caller must wait: this is
/// memory, and it is what a restart has to replay.
pub const UNSETTLED_BYTES_MAX: u64 = 128 << 20;

/// Settled batches kept in memory for readers near the end of a log.
pub const CACHED_BYTES_MAX: u64 = 32 << 20;

/// Names of settled batches in memory, those that trims have left behind included. More than there are batches of the smallest size.
pub const CACHED_NAMES_MAX: usize = 1 << 20;

/// What one transaction puts into a segment or the state. redb keeps a transaction's pages in half its cache; what does not fit is written, read back for
/// its checksum, and written again.
pub const TRANSACTION_BYTES: usize = 12 << 20;

/// redb's cache for the segment being written: twice a transaction, and what belongs to it.
pub const SEGMENT_CACHE_BYTES: usize = 32 << 20;

/// redb's cache for the state: likewise.
pub const STATE_CACHE_BYTES: usize = 32 << 20;

/// redb's cache for a sealed segment: its tree, and the last chunks for readers that are close together.
pub const SEALED_CACHE_BYTES: usize = 4 << 20;

/// Pages of a segment put together before they are written: a transaction, its tree and some room.
pub const STAGED_BYTES_MAX: usize = 16 << 20;

/// A file goes past the page cache once this much went through it at more than so much processor time. Memory that is there takes 0.4 ns a byte to
/// write and 0.1 to 0.2 to read; what a virtual machine is given page by page 0.5 to 3, and what has to be fetched 0.35 to 1.
pub const CACHE_SAMPLE_BYTES: u64 = 16 << 20;

/// See [`CACHE_SAMPLE_BYTES`].
pub const CACHE_WRITE_NANOS_PER_KIB: u64 = 600;

/// See [`CACHE_SAMPLE_BYTES`].
pub const CACHE_READ_NANOS_PER_KIB: u64 = 300;

/// Reads from this size on are worth a call to the disk of their own.
pub const LARGE_READ_BYTES: usize = 256 << 10;

/// Sealed segments open at a time.
pub const SEALED_OPEN_MAX: usize = 16;

/// What is read before anybody asks for it, if every reader asks for as much as it did before.
pub const AHEAD_BYTES_MAX: usize = 32 << 20;

/// Reads that are expected: of each reader the next, of those that go on the one after it, too.
pub const AHEAD_READS_MAX: usize = 256;

/// Below this much free space the disk counts as full: the rest is kept for retention and deletes to do their work.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// Bytes that a row adds to memory besides key and value.
pub(crate) const ROW_OVERHEAD_BYTES: u64 = 64;

/// Bytes that a batch adds to memory besides itself.
pub(crate) const BATCH_OVERHEAD_BYTES: u64 = 96;
