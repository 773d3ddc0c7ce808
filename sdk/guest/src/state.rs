//! Durable, ordered key-value state of the current task. Reads see this call's own writes; writes take effect with the offsets or
//! not at all.
use crate::{
    error::Error,
    sys::{self, StateError},
};

/// A bucket that the manifest declares as `[state.<name>]`.
pub struct Bucket {
    name: String,
    handle: sys::Bucket,
}

/// One entry of a scan: key and value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Opens a bucket.
///
/// # Errors
/// [`Error::Fatal`] if the manifest does not declare it.
pub fn open(name: &str) -> Result<Bucket, Error> {
    let handle = sys::open(name).map_err(|e| refused(name, &e))?;
    Ok(Bucket {
        name: name.to_owned(),
        handle,
    })
}

impl Bucket {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.handle.get(key).map_err(|e| refused(&self.name, &e))
    }

    /// The value of a key, from JSON.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses or the stored value does not fit `T`.
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        self.get(key)?
            .map(|value| serde_json::from_slice(&value).map_err(Error::fatal))
            .transpose()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::Fatal`] when a quota is used up.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.handle.set(key, value).map_err(|e| refused(&self.name, &e))
    }

    /// Sets a key to a value as JSON.
    ///
    /// # Errors
    /// [`Error::Fatal`] when a quota is used up or the value cannot be written as JSON.
    pub fn set_json<T: serde::Serialize>(&self, key: &[u8], value: &T) -> Result<(), Error> {
        self.set(key, &serde_json::to_vec(value).map_err(Error::fatal)?)
    }

    /// Deletes a key; it need not exist.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn delete(&self, key: &[u8]) -> Result<(), Error> {
        self.handle.delete(key).map_err(|e| refused(&self.name, &e))
    }

    /// Adds to a counter, kept as a little-endian `i64`; returns the sum.
    ///
    /// # Errors
    /// [`Error::Fatal`] when a quota is used up.
    pub fn increment(&self, key: &[u8], delta: i64) -> Result<i64, Error> {
        self.handle.increment(key, delta).map_err(|e| refused(&self.name, &e))
    }

    /// Up to `entries_max` entries of `[start, end)` in key order; an empty bound is open.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn scan(&self, start: &[u8], end: &[u8], entries_max: u32) -> Result<Vec<Entry>, Error> {
        self.handle
            .scan(start, end, entries_max)
            .map_err(|e| refused(&self.name, &e))
    }
}

fn refused(bucket: &str, error: &StateError) -> Error {
    Error::Fatal(match error {
        StateError::NoSuchStore | StateError::AccessDenied => {
            format!("the manifest does not declare the bucket {bucket}: add [state.{bucket}]")
        }
        StateError::QuotaExceeded => format!("the bucket {bucket} has used up limits.state-bytes"),
        StateError::Other(why) => format!("bucket {bucket}: {why}"),
    })
}
