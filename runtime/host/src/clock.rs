//! The only place that looks at a clock: to stop a guest in time, and to charge it for what it took. What a guest computes never depends on
//! it.
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, for deadlines.
#[allow(
    clippy::disallowed_methods,
    reason = "deadlines of guests are soft: no outcome that is committed depends on them"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Processor time of this thread so far.
pub(crate) fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
