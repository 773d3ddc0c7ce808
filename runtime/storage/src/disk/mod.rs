//! The one door to the file system. The journal and redb both go through it, so that a simulated disk can forget, tear and refuse.
//!
//! Guarantees: none beyond what the trait's words say. A write is durable after [`File::sync`], a name after [`Disk::sync_dir`]; nothing
//! else may be relied upon, and the simulated disk breaks whatever relies on more.
//! Does not do: caching, retries, directories deeper than it is asked for.
mod real;
#[cfg(feature = "sim")]
mod sim;

use std::{
    fmt::Debug,
    io::{self, IoSlice},
    sync::Arc,
};

pub use real::RealDisk;
#[cfg(feature = "sim")]
pub use sim::{Crash, Fault, Loss, Op, SimDisk, Trace};

/// A directory tree. Paths are relative to its root, with `/` between names.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` for [`Open::Existing`], and whatever the system says.
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>>;

    /// Renames a file within its directory, replacing what is there. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory and those above it, durably. No error if it exists.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes a lock that no other process and no other caller has, until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else has it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// Whatever the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Reads and writes are whole: there is no short one.
pub trait File: Debug + Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// True if the length is zero.
    ///
    /// # Errors
    /// Whatever the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`, growing the file if need be. After an error any part of it may have been written.
    ///
    /// # Errors
    /// `StorageFull`, and whatever the system says.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// As [`File::write_at`], of what will hardly be read: it need not be kept in memory at any price. Offset, addresses and lengths are
    /// multiples of [`BLOCK_BYTES`].
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn write_once_at(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut at = offset;
        for piece in pieces {
            self.write_at(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// As [`File::write_at`], over what was written and synced before, and of what nobody reads before the next start: it is not kept in
    /// memory. Offset, address and length are multiples of [`BLOCK_BYTES`].
    ///
    /// # Errors
    /// As [`File::write_at`].
    fn write_over_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)
    }

    /// Cuts or grows the file; what is new is zero.
    ///
    /// # Errors
    /// Whatever the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes everything written so far durable, with the length. After an error nothing is known about it, for ever.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync(&self) -> io::Result<()>;
}

/// What the system's page cache and disks take at a time.
pub const BLOCK_BYTES: usize = 4096;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// Create it, or empty it if it exists.
    New,
}

/// A lock, held while this lives.
pub trait Lock: Debug + Send + Sync {}

/// The directory part of a path.
#[cfg(feature = "sim")]
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
