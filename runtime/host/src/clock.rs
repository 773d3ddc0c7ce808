//! The only place that looks at a clock: to stop a guest in time. What a guest computes never depends on it.
use std::time::Instant;

/// Now, for deadlines.
#[allow(
    clippy::disallowed_methods,
    reason = "deadlines of guests are soft: no outcome that is committed depends on them"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
