//! A batch of input records, read as columns and walked as records.
//!
//! The records stay with the host. The first look at a key or a value copies the columns of up to a mebibyte of records into the
//! guest in seven allocations, whatever their number; from then on a [`Record`] is a handful of slices.
use std::{
    cell::OnceCell,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    error::Error,
    output,
    sys::{self, Columns, Projection},
};

pub use crate::bindings::tidemill::processor::types::{Header, Source};

/// Bytes copied into the guest at once. A batch is at most the manifest's `batch.max-bytes`, a mebibyte by default.
const PAGE_BYTES: u32 = 4 << 20;

/// Index of the record that the iterator gave last, to be blamed for what goes wrong; of none before the first and after the last.
static CURRENT: AtomicU32 = AtomicU32::new(u32::MAX);

#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
pub(crate) fn current() -> Option<u32> {
    match CURRENT.load(Ordering::Relaxed) {
        u32::MAX => None,
        index => Some(index),
    }
}

/// The batch that a call is about. Never empty.
pub struct Batch<'a> {
    handle: sys::Handle<'a>,
    sources: OnceCell<Vec<Source>>,
    pages: OnceCell<Vec<Page>>,
    projection: Projection,
}

/// Consecutive records as columns.
struct Page {
    first: u32,
    columns: Columns,
}

impl<'a> Batch<'a> {
    pub(crate) fn borrowed(handle: sys::Handle<'a>) -> Batch<'a> {
        CURRENT.store(u32::MAX, Ordering::Relaxed);
        let projection = Projection::KEYS | Projection::VALUES;
        Batch {
            handle,
            sources: OnceCell::new(),
            pages: OnceCell::new(),
            projection,
        }
    }

    /// The same batch without its values: [`Record::value`] is `None`, and their bytes never enter the guest. For routing by key.
    pub fn keys_only(&self) -> Batch<'a> {
        Batch {
            projection: Projection::KEYS,
            ..Batch::borrowed(self.handle)
        }
    }

    /// Number of records, never 0.
    pub fn len(&self) -> u32 {
        sys::len(self.handle)
    }

    /// Always false: the host delivers no empty batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partitions that feed this batch.
    pub fn sources(&self) -> &[Source] {
        self.sources.get_or_init(|| sys::sources(self.handle))
    }

    /// The records in order.
    pub fn iter(&self) -> Records<'_> {
        Records {
            batch: self,
            pages: self.pages(),
            row: 0,
            data: &[],
        }
    }

    /// Sends input records on unchanged; their bytes never enter the guest. `indexes` are [`Record::index`]es.
    ///
    /// # Errors
    /// As [`output::Output::send`].
    pub fn forward(&self, topic: &str, indexes: &[u32]) -> Result<(), Error> {
        sys::forward(topic, self.handle, indexes).map_err(|e| output::refused(topic, &e))
    }

    /// Gives up on one record: it goes to the dead-letter topic with `code`, `reason` and its origin as headers, in the transaction
    /// that commits this call. The batch goes on.
    ///
    /// # Errors
    /// Fatal if the manifest names no dead-letter topic.
    pub fn dead_letter(&self, record: &Record<'_>, code: &str, reason: &str) -> Result<(), Error> {
        sys::dead_letter(self.handle, record.index, code, reason).map_err(|e| output::refused("dead-letter", &e))
    }

    fn pages(&self) -> &[Page] {
        self.pages.get_or_init(|| {
            let (len, mut pages, mut first) = (self.len(), Vec::new(), 0);
            while first < len {
                let columns = sys::read(self.handle, first, len - first, PAGE_BYTES, self.projection);
                let read = u32::try_from(columns.offsets.len()).unwrap_or(u32::MAX);
                assert!(read > 0, "the host gives at least one record");
                pages.push(Page { first, columns });
                first += read;
            }
            pages
        })
    }
}

impl<'b> IntoIterator for &'b Batch<'_> {
    type Item = Record<'b>;
    type IntoIter = Records<'b>;

    fn into_iter(self) -> Records<'b> {
        self.iter()
    }
}

/// Iterator over a batch.
pub struct Records<'b> {
    batch: &'b Batch<'b>,
    /// That of the next record, and those behind it.
    pages: &'b [Page],
    row: usize,
    /// Its bytes, and those of the rest of its page, once the page is begun.
    data: &'b [u8],
}

impl<'b> Iterator for Records<'b> {
    type Item = Record<'b>;

    // Inlined, as what a record is asked for: a record that goes through memory stalls the processor each time.
    #[inline]
    fn next(&mut self) -> Option<Record<'b>> {
        let Some(page) = self.pages.first() else {
            CURRENT.store(u32::MAX, Ordering::Relaxed);
            return None;
        };
        let (columns, row) = (&page.columns, self.row);
        if row == 0 {
            self.data = &columns.data;
        }
        let key = self.take(columns.key_lengths[row]);
        let value = match self.batch.projection.contains(Projection::VALUES) {
            true => self.take(columns.value_lengths[row]),
            false => None,
        };
        self.row += 1;
        if self.row == columns.key_lengths.len() {
            (self.pages, self.row) = (&self.pages[1..], 0);
        }
        let index = page.first + u32::try_from(row).unwrap_or(u32::MAX);
        CURRENT.store(index, Ordering::Relaxed);
        Some(Record {
            batch: self.batch,
            page,
            row,
            index,
            key,
            value,
        })
    }
}

impl<'b> Records<'b> {
    /// The next field of so many bytes; a length of -1 is null.
    #[inline]
    fn take(&mut self, length: i32) -> Option<&'b [u8]> {
        let (field, rest) = self.data.split_at(usize::try_from(length).ok()?);
        self.data = rest;
        Some(field)
    }
}

/// One record of a batch.
#[derive(Clone, Copy)]
pub struct Record<'b> {
    batch: &'b Batch<'b>,
    page: &'b Page,
    row: usize,
    index: u32,
    key: Option<&'b [u8]>,
    value: Option<&'b [u8]>,
}

impl<'b> Record<'b> {
    /// Position in the batch.
    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Topic and partition that it comes from.
    pub fn source(&self) -> &'b Source {
        let id = self.page.columns.source_ids.get(self.row).copied().unwrap_or(0);
        &self.batch.sources()[usize::from(id)]
    }

    /// Offset in its partition.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.page.columns.offsets[self.row]
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.page.columns.timestamps[self.row]
    }

    /// The key; `None` is a null key.
    #[inline]
    pub fn key(&self) -> Option<&'b [u8]> {
        self.key
    }

    /// The value; `None` is a null value (a tombstone).
    #[inline]
    pub fn value(&self) -> Option<&'b [u8]> {
        self.value
    }

    /// Headers in order; names may repeat. One call to the host for a record that has any.
    pub fn headers(&self) -> Vec<Header> {
        match self.page.columns.header_counts.get(self.row) {
            None | Some(0) => Vec::new(),
            Some(_) => sys::headers(self.batch.handle, self.index),
        }
    }

    /// The key as text, or poison with the code `bad-key`.
    ///
    /// # Errors
    /// [`Error::Poison`] for a null key or one that is not UTF-8.
    pub fn key_str(&self) -> Result<&'b str, Error> {
        let key = self
            .key()
            .ok_or_else(|| self.poison("no-key", "the record has no key"))?;
        std::str::from_utf8(key).map_err(|e| self.poison("bad-key", e))
    }

    /// The value as JSON, or poison with the code `bad-json`.
    ///
    /// # Errors
    /// [`Error::Poison`] for a null value or one that does not fit `T`.
    pub fn json<T: serde::Deserialize<'b>>(&self) -> Result<T, Error> {
        let value = self
            .value()
            .ok_or_else(|| self.poison("no-value", "the record has no value"))?;
        serde_json::from_slice(value).map_err(|e| self.poison("bad-json", e))
    }

    /// The error that says: this record can never succeed.
    pub fn poison(&self, code: &str, reason: impl std::fmt::Display) -> Error {
        Error::Poison {
            index: self.index,
            code: code.to_owned(),
            reason: reason.to_string(),
        }
    }
}
