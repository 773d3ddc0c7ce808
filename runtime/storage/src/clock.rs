//! The one place where this crate asks for the time.
use std::time::Instant;

/// For how long something took.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
