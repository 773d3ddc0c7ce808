//! The one place that reads the wall clock: the timestamps of records.

/// Milliseconds since the epoch; 0 before it.
#[allow(
    clippy::disallowed_methods,
    reason = "records without a timestamp get the time they were sent"
)]
pub(crate) fn now_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
