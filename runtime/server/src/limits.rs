//! The bounds that are not settings.
use std::time::Duration;

/// CA certificates kept in the user's bundle.
pub(crate) const PUBLISHED_CAS_MAX: usize = 16;

/// Requests of one stream that may wait for their answer; beyond it the stream is not read.
pub(crate) const STREAM_REQUESTS_MAX: usize = 256;

/// A frame that has begun must be complete within this time. Whoever stalls in the middle of one holds memory for nothing.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(60);

/// A peer that does not take its answer for so long is disconnected.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// TLS or QUIC handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of a management answer that wait to be written; a caller that is slower is cut off.
pub(crate) const ADMIN_ANSWERS_MAX: usize = 1024;

/// A component that was received is kept for so long, though no version of a module names it yet.
pub(crate) const STAGED_KEPT: Duration = Duration::from_secs(600);

/// Management calls in work get so long when the node stops.
pub(crate) const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// UDP socket buffers: measured, not guessed (ARCHITECTURE.md, QUIC).
pub(crate) const UDP_BUFFER_BYTES: usize = 4 << 20;

/// Unfinished handshakes beyond which new QUIC clients must prove their address first (Retry).
pub(crate) const QUIC_HANDSHAKES_BEFORE_RETRY: usize = 64;

/// Threads that read from segments.
pub(crate) const READERS: usize = 2;

/// Names and addresses are joined by this many attempts when port 0 must be free for TCP and UDP alike.
pub(crate) const SAME_PORT_ATTEMPTS: usize = 32;

/// Answers of one stream that are written together.
pub(crate) const GATHERED_BYTES_MAX: usize = 256 << 10;

/// Bytes proposed and not durable, beyond which further proposals wait.
pub(crate) const JOURNAL_WAITING_BYTES_MAX: usize = 64 << 20;

/// The loop looks again after so long when proposals are held back.
pub(crate) const HELD_WAIT: Duration = Duration::from_millis(5);

/// The loop looks at the clock at least so often, which also bounds the harm of a clock that jumps.
pub(crate) const LOOP_WAIT_MAX: Duration = Duration::from_secs(1);

/// Bytes to which one batch may be decompressed in search of a timestamp.
pub(crate) const BATCH_BYTES_MAX: usize = 256 << 20;
