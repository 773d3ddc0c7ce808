//! Lines for `tidemill module logs`. Rate limited, cut to a maximum length, and kept even when the call is rolled back.
use crate::sys;

pub use crate::bindings::tidemill::processor::logging::Level;

/// A line for the developer.
pub fn debug(message: &str) {
    sys::log(Level::Debug, message);
}

/// A line for the record.
pub fn info(message: &str) {
    sys::log(Level::Info, message);
}

/// Something odd that did not stop the work.
pub fn warn(message: &str) {
    sys::log(Level::Warn, message);
}

/// Something that failed.
pub fn error(message: &str) {
    sys::log(Level::Error, message);
}

/// The last words before a trap.
pub fn critical(message: &str) {
    sys::log(Level::Critical, message);
}
