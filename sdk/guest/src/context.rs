//! What a module may know about the call it is in.
use crate::sys;

/// The host's clock at the start of this attempt, milliseconds. It stands still during the call.
pub fn now() -> i64 {
    sys::now()
}

/// 1 on the first delivery of these records, then 2, 3, …
pub fn attempt() -> u32 {
    sys::attempt()
}

/// Event time below which no more records are expected, from the records committed before this call; what comes below is late.
/// `None` until every input has had a record, and without `max-out-of-order` in the manifest.
pub fn watermark() -> Option<i64> {
    sys::watermark()
}

/// A setting from the manifest's `[config]`.
pub fn config(key: &str) -> Option<String> {
    sys::config(key)
}

/// A setting, parsed; `default` where it is missing.
///
/// # Errors
/// [`crate::error::Error::Fatal`] naming the key if it does not parse.
pub fn config_or<T: std::str::FromStr>(key: &str, default: T) -> Result<T, crate::error::Error> {
    let Some(text) = config(key) else { return Ok(default) };
    text.parse()
        .map_err(|_| crate::error::Error::Fatal(format!("[config] {key} = {text:?} does not parse")))
}

/// Adds to a counter. Takes effect when the call commits.
pub fn count(name: &str, delta: u64) {
    sys::counter_add(name, delta);
}
