//! The journal: entries, in order, on stable storage.
//!
//! ```text
//! journal/00000000000000000001.log     named by the index of its first entry
//!   | file header, 64 bytes | group | group | group | what the file held before it was recycled ...
//!   group:  | header, 40 bytes | length of each entry, u32 | entries | zeros up to a multiple of 64 |
//! journal/spare-<n>                    a used-up file that waits to be written over
//! journal/next                         a file being made
//! ```
//! Guarantees. An append is one write and one sync, whatever the number of entries; when it returns, they are durable. What a reader finds is
//! a prefix of what was written: a torn last group is cut off (nobody was told about it), and damage anywhere before it is an error with file
//! and position, never a shorter journal. Nothing that a recycled file held before can pass for an entry: each group's checksum covers the
//! file's generation and a salt that no client knows.
//! A file gets its name only when its header and its first group are durable, so a named file is never half made. After a restart entries go
//! to a new file: what a torn group left in the old one stays where it is and is proved harmless by the next file's name.
//! Does not do: know what an entry means, cut entries off its end on request (replication will add that), read while it is running.
//!
//! Why not an existing one: TiKV's `raft-engine` comes closest (a file-system trait, recycling, one sync a write group, made for Raft). But by
//! default it takes damage in its last file for a torn tail and cuts off every acknowledged entry behind it; it scans on its own threads
//! and keeps its own index, so that a run cannot be repeated from a seed; it reserves blocks with `fallocate`, measured slower here; and it
//! brings protobuf, prometheus and a C library for what is a thousand lines.
mod files;
mod frame;
mod recovery;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use files::Blank;
pub(crate) use files::Files;
pub(crate) use recovery::recover;
pub use writer::{CommitError, Done, Writer, Written};

use crate::{
    Error,
    disk::{BLOCK_BYTES, Disk, File},
    limits,
};

/// The end of the log of entries. One per shard, used by one thread.
#[derive(Debug)]
pub struct Journal {
    files: Arc<Files>,
    active: Option<Active>,
    next_index: u64,
    file_bytes: u64,
    buffer: Buffer,
    poisoned: bool,
}

/// The file being written.
#[derive(Debug)]
struct Active {
    name: String,
    file: Arc<dyn File>,
    header: frame::FileHeader,
    /// Where the next group goes.
    position: u64,
    /// What stands before that in its block, which is written again with the next group, as the disk takes whole blocks.
    begun: Vec<u8>,
    /// Length of the file: beyond it a write has to allocate.
    len: u64,
}

/// Memory for one write, at an address that a disk takes without a copy. Kept from one write to the next.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// To be filled with at most so many bytes.
    fn begin(&mut self, bytes_max: usize) -> &mut Vec<u8> {
        self.bytes.clear();
        self.bytes.reserve(BLOCK_BYTES + bytes_max);
        self.start = self.bytes.as_ptr().align_offset(BLOCK_BYTES);
        self.bytes.resize(self.start, 0);
        &mut self.bytes
    }

    /// What it was filled with, and zeros up to so many bytes.
    fn end(&mut self, bytes: usize) -> &[u8] {
        self.bytes.resize(self.start + bytes, 0);
        &self.bytes[self.start..]
    }
}

impl Journal {
    pub(crate) fn new(files: Arc<Files>, next_index: u64, file_bytes: u64) -> Self {
        Self {
            files,
            active: None,
            next_index,
            file_bytes,
            buffer: Buffer::default(),
            poisoned: false,
        }
    }

    /// Index that the next entry will have.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Makes entries durable, in order, with one write and one sync. Gives the index of the first.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing was written, the same index will be given again. [`Error::Contract`]: an entry is too large, nothing was
    /// written. Anything else: it is unknown what is on the disk, and every later call fails; the process must stop.
    pub fn append(&mut self, entries: &[Vec<Bytes>]) -> Result<u64, Error> {
        if self.poisoned {
            return Err(Error::Contract("the journal failed before".into()));
        }
        let first = self.next_index;
        if entries.is_empty() {
            return Ok(first);
        }
        if entries.iter().any(|entry| limits::ENTRY_BYTES_MAX < rope_bytes(entry)) {
            return Err(Error::Contract(format!(
                "an entry is larger than {} bytes",
                limits::ENTRY_BYTES_MAX
            )));
        }
        let result = self.write(first, entries);
        match &result {
            Ok(()) => self.next_index += entries.len() as u64,
            Err(error) => self.poisoned = !error.is_retriable(),
        }
        result.map(|()| first)
    }

    fn write(&mut self, first: u64, entries: &[Vec<Bytes>]) -> Result<(), Error> {
        match &mut self.active {
            Some(active) if active.position + frame::group_bytes(entries) <= self.file_bytes => {
                active.append(&mut self.buffer, first, entries, self.file_bytes)
            }
            _ => self.roll(first, entries),
        }
    }

    /// Begins a file with these entries. It gets its name when they are durable, and they are acknowledged when the name is.
    fn roll(&mut self, first: u64, entries: &[Vec<Bytes>]) -> Result<(), Error> {
        let blank = self.files.blank()?;
        let mut next = Active::new(&blank, self.files.header(first));
        if let Err(error) = next.append(&mut self.buffer, first, entries, self.file_bytes) {
            if error.is_retriable() {
                self.files.put_back(blank);
            }
            return Err(error);
        }
        next.name = self.files.name(&blank, first)?;
        if let Some(full) = self.active.replace(next) {
            self.files.close(full.name, first - 1);
        }
        Ok(())
    }
}

impl Active {
    /// Nothing but its header, which is written with the first group.
    fn new(blank: &Blank, header: frame::FileHeader) -> Self {
        let mut begun = Vec::with_capacity(BLOCK_BYTES);
        header.encode(&mut begun);
        Self {
            name: blank.name.clone(),
            file: blank.file.clone(),
            position: begun.len() as u64,
            header,
            begun,
            len: blank.len,
        }
    }

    fn append(
        &mut self,
        buffer: &mut Buffer,
        first: u64,
        entries: &[Vec<Bytes>],
        file_bytes: u64,
    ) -> Result<(), Error> {
        let from = self.position - self.begun.len() as u64;
        let group_bytes = frame::group_bytes(entries);
        let end = self.position + group_bytes;
        let until = frame::padded(group_bytes, end, self.len, file_bytes);
        let out = buffer.begin(in_memory(until - from));
        out.extend_from_slice(&self.begun);
        frame::encode_group(out, &self.header, first, entries);
        let data = buffer.end(in_memory(until - from));
        let written = if until <= self.len {
            self.file.write_over_at(from, data)
        } else {
            self.file.write_at(from, data)
        };
        if let Err(error) = written {
            let error = Error::io("write", &self.name, error);
            if error.is_retriable() {
                self.undo()?;
            }
            return Err(error);
        }
        self.file.sync().map_err(|error| fatal("sync", &self.name, error))?;
        self.len = self.len.max(until);
        self.position = end;
        self.begun.clear();
        let begun = end - end % BLOCK_BYTES as u64;
        self.begun
            .extend_from_slice(&data[in_memory(begun - from)..in_memory(end - from)]);
        Ok(())
    }

    /// Takes back what a refused write left: it must not be there when the same index is written again.
    fn undo(&mut self) -> Result<(), Error> {
        self.file
            .set_len(self.len)
            .map_err(|error| fatal("truncate", &self.name, error))
    }
}

/// A full disk reported by a sync is fatal like everything a sync reports: the pages may be gone already.
fn fatal(action: &'static str, file: &str, source: std::io::Error) -> Error {
    Error::Io {
        action,
        file: file.to_owned(),
        source,
    }
}

/// A part of one write.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a group and what a file grows by")
}

/// Bytes in an entry.
pub(crate) fn rope_bytes(entry: &[Bytes]) -> usize {
    entry.iter().map(Bytes::len).sum()
}

/// Where the journal of a shard is.
pub(crate) fn dir(shard: u32) -> String {
    format!("shard-{shard}/journal")
}

/// Used by the files and the scan, so that both mean the same.
pub(crate) type Shared = Arc<dyn Disk>;
