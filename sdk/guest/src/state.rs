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

/// Entries of one call to the host, and where the next one goes on.
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) next: Option<Vec<u8>>,
}

/// Entries that one call to the host asks for.
const PAGE_ENTRIES: u32 = 256;

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

    /// The counter at a key; 0 where there is none.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses or the value is no counter.
    pub fn counter(&self, key: &[u8]) -> Result<i64, Error> {
        let Some(value) = self.get(key)? else { return Ok(0) };
        let bytes = value.as_slice().try_into();
        bytes
            .map(i64::from_le_bytes)
            .map_err(|_| Error::Fatal(format!("bucket {}: the value is not a counter", self.name)))
    }

    /// The values of several keys, in their order: one call to the host.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.handle.get_many(keys).map_err(|e| refused(&self.name, &e))
    }

    /// Sets several keys: one call to the host.
    ///
    /// # Errors
    /// [`Error::Fatal`] when a quota is used up.
    pub fn set_many(&self, entries: &[Entry]) -> Result<(), Error> {
        self.handle.set_many(entries).map_err(|e| refused(&self.name, &e))
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn exists(&self, key: &[u8]) -> Result<bool, Error> {
        self.handle.exists(key).map_err(|e| refused(&self.name, &e))
    }

    /// Deletes every key of `[start, end)`; how many there were. An empty `end` has no bound.
    ///
    /// # Errors
    /// [`Error::Fatal`] when a quota is used up: a deletion is a write too.
    pub fn delete_range(&self, start: &[u8], end: &[u8]) -> Result<u64, Error> {
        self.handle
            .delete_range(start, end)
            .map_err(|e| refused(&self.name, &e))
    }

    /// Up to `entries_max` entries of `[start, end)` in key order; an empty `end` has no bound.
    ///
    /// # Errors
    /// [`Error::Fatal`] when the host refuses.
    pub fn scan(&self, start: &[u8], end: &[u8], entries_max: u32) -> Result<Vec<Entry>, Error> {
        let range = Range {
            page_entries: entries_max.min(PAGE_ENTRIES),
            ..self.range(start, end)
        };
        range.take(entries_max as usize).collect()
    }

    /// The entries of `[start, end)` in key order, read in pages as they are asked for; an empty `end` has no bound.
    pub fn range(&self, start: &[u8], end: &[u8]) -> Range<'_> {
        Range {
            bucket: self,
            start: start.to_vec(),
            end: end.to_vec(),
            reverse: false,
            page_entries: PAGE_ENTRIES,
            page: Vec::new().into_iter(),
            done: false,
        }
    }

    /// The entries whose keys begin with these bytes, in key order.
    pub fn prefix(&self, prefix: &[u8]) -> Range<'_> {
        let mut end = prefix.to_vec();
        // The first key after all that begin so; there is none above 0xff.
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        self.range(prefix, &end)
    }
}

/// Iterator over entries of a bucket. What is written meanwhile may or may not be seen.
pub struct Range<'b> {
    bucket: &'b Bucket,
    start: Vec<u8>,
    end: Vec<u8>,
    reverse: bool,
    page_entries: u32,
    page: std::vec::IntoIter<Entry>,
    done: bool,
}

impl Range<'_> {
    /// From the last key down.
    #[must_use]
    pub fn reversed(self) -> Self {
        Range { reverse: true, ..self }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.done {
                return None;
            }
            let Bucket { name, handle } = self.bucket;
            match handle.scan(&self.start, &self.end, self.reverse, self.page_entries) {
                Err(error) => {
                    self.done = true;
                    return Some(Err(refused(name, &error)));
                }
                Ok(page) => {
                    self.page = page.entries.into_iter();
                    match page.next {
                        None => self.done = true,
                        Some(next) if self.reverse => self.end = next,
                        Some(next) => self.start = next,
                    }
                }
            }
        }
    }
}

fn refused(bucket: &str, error: &StateError) -> Error {
    Error::Fatal(match error {
        StateError::NoSuchStore | StateError::AccessDenied => {
            format!("the manifest does not declare the bucket {bucket}: add [state.{bucket}]")
        }
        StateError::QuotaExceeded => {
            format!("the bucket {bucket} does not fit in limits.state-bytes or limits.state-write-bytes")
        }
        StateError::Other(why) => format!("bucket {bucket}: {why}"),
    })
}
