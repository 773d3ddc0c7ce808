//! The only place in the daemon that asks the machine for the time.

/// Milliseconds since the epoch.
#[allow(clippy::disallowed_methods, reason = "the daemon's one clock")]
pub(crate) fn wall_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// For measuring how long something took.
#[allow(clippy::disallowed_methods, reason = "the daemon's one clock")]
pub(crate) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
