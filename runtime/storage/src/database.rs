//! redb over a [`Disk`], and what our databases have in common.
//!
//! Guarantees: a database gets its name when it is whole, so a crash never leaves half of one under that name. Reads go on while it is being
//! sealed. After a write that failed it is as it was after the last commit, whatever redb would still do with it. A page that is not what it
//! should be, which redb may panic on, is damage like any other.
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    Builder, DatabaseError, Durability, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _, StorageBackend,
    TableDefinition, WriteTransaction,
};

use crate::{
    Error,
    disk::{Disk, File, Open},
    error::Named as _,
    limits,
    stage::Stage,
};

/// Format, owner and counters of a database.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const FORMAT: u32 = 1;

/// One database file, open or not.
pub(crate) struct Database {
    disk: Arc<dyn Disk>,
    path: String,
    kind: Kind,
    slot: RwLock<Slot>,
}

/// What a database is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// redb's cache while it is written.
    pub(crate) cache_bytes: usize,
    /// Whether it is hardly read once it is written: see [`File::write_once_at`].
    pub(crate) is_log: bool,
}

enum Slot {
    /// Opened for writing at the next use.
    Broken,
    /// Opened for reading at the next use.
    Closed,
    Reading(ReadOnlyDatabase),
    Writing(redb::Database, Fence),
}

/// Set when a round of writes failed. redb makes what it has committed so far durable when it is dropped, and half a round must not be.
#[derive(Clone, Debug, Default)]
struct Fence(Arc<AtomicBool>);

impl Fence {
    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(io::Error::other("a write before this one failed"));
        }
        Ok(())
    }
}

/// Raises the fence unless the round ends well.
struct Round<'a>(Option<&'a Fence>);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if let Some(fence) = self.0 {
            fence.0.store(true, Ordering::Release);
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish()
    }
}

impl Database {
    /// Makes a database whose tables `make` creates, and opens it for writing.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        dir: &str,
        name: &str,
        kind: Kind,
        make: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Self, Error> {
        let (new, path) = (format!("{dir}/{NEW}"), format!("{dir}/{name}"));
        let file = disk
            .open(&new, Open::New)
            .map_err(|error| Error::io("create", &new, error))?;
        let database = builder(kind.cache_bytes)
            .create_with_backend(Backend::new(file, kind, Fence::default()))
            .named(&new)?;
        let mut transaction = database.begin_write().named(&new)?;
        transaction.set_quick_repair(true);
        make(&transaction).named(&new)?;
        transaction
            .open_table(META)
            .named(&new)?
            .insert(FORMAT_KEY, u64::from(FORMAT))
            .named(&new)?;
        transaction.commit().named(&new)?;
        database.close().named(&new)?;
        disk.rename(&new, &path)
            .map_err(|error| Error::io("rename", &new, error))?;
        disk.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
        Self::open(disk, path, kind)
    }

    /// Opens a database for writing, repairing what a crash left.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: String, kind: Kind) -> Result<Self, Error> {
        let database = Self {
            disk: disk.clone(),
            path,
            kind,
            slot: RwLock::new(Slot::Broken),
        };
        database.believe()?;
        database.reopen()?;
        database.check_format()?;
        Ok(database)
    }

    /// Opens a database that is only read. If a crash caught it before it was sealed it is repaired and sealed.
    pub(crate) fn open_sealed(disk: &Arc<dyn Disk>, path: String, kind: Kind) -> Result<Self, Error> {
        let database = Self {
            disk: disk.clone(),
            path,
            kind,
            slot: RwLock::new(Slot::Closed),
        };
        database.believe()?;
        database.check_format()?;
        Ok(database)
    }

    /// What is read at a start may be in memory only, if the process died and the machine did not. The journal is cut by what is found here, so
    /// it must last.
    fn believe(&self) -> Result<(), Error> {
        self.backend(Fence::default())?
            .file
            .sync()
            .map_err(|error| Error::io("sync", &self.path, error))
    }

    fn check_format(&self) -> Result<(), Error> {
        let found = self.read(|transaction| {
            Ok(transaction
                .open_table(META)?
                .get(FORMAT_KEY)?
                .map(|format| format.value()))
        })?;
        match found.map(u32::try_from) {
            Some(Ok(FORMAT)) => Ok(()),
            Some(Ok(found)) if FORMAT < found => Err(Error::Newer {
                file: self.path.clone(),
                found,
                known: FORMAT,
            }),
            _ => Err(Error::corrupt(&self.path, 0, "it has no format")),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Reads one consistent snapshot. Keep it short: pages freed meanwhile cannot be used again.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        let result = self.undamaged(|| self.try_read(work));
        if matches!(result, Err(Error::Io { .. } | Error::Database { .. })) {
            // redb refuses everything after a failed read. Opened again, only what cannot be read is not there.
            self.rest();
        }
        result
    }

    fn try_read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        loop {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            let transaction = match &*slot {
                Slot::Reading(database) => database.begin_read(),
                Slot::Writing(database, _) => database.begin_read(),
                Slot::Closed | Slot::Broken => {
                    drop(slot);
                    self.reopen()?;
                    continue;
                }
            };
            let transaction = transaction.named(&self.path)?;
            return work(&transaction).named(&self.path);
        }
    }

    /// redb does not look at a page's checksum when it reads it, and panics on one that cannot be.
    fn undamaged<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(Error::corrupt(&self.path, 0, "a page is not what it should be")))
    }

    /// True if it was opened only to be read: nothing frees its pages, so what was read may be kept for as long as one likes.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(
            *self.slot.read().unwrap_or_else(PoisonError::into_inner),
            Slot::Reading(_) | Slot::Closed
        )
    }

    /// Writes all of `work`, durably, or nothing.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.write_in_parts(std::iter::empty::<()>(), |_, ()| Ok(()), work)
    }

    /// Writes each of `parts`, then `last`, durably, or nothing at all. Parts that fit half the cache write each page once. Readers may see the first
    /// parts before the last.
    pub(crate) fn write_in_parts<P, T>(
        &self,
        parts: impl Iterator<Item = P>,
        part: impl FnMut(&WriteTransaction, P) -> Result<(), redb::Error>,
        last: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let result = self.undamaged(|| self.try_write(parts, part, last));
        if let Err(error) = &result
            && error.is_retriable()
        {
            // redb refuses everything after a failed write, reads too. Opened again it is as after its last durable commit.
            *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Slot::Broken;
        }
        result
    }

    fn try_write<P, T>(
        &self,
        parts: impl Iterator<Item = P>,
        mut part: impl FnMut(&WriteTransaction, P) -> Result<(), redb::Error>,
        last: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        self.reopen()?;
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Slot::Writing(database, fence) = &*slot else {
            return Err(Error::Contract(format!("{} is sealed", self.path)));
        };
        let mut round = Round(Some(fence));
        let begin = |durability| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            Ok::<_, redb::Error>(transaction)
        };
        for each in parts {
            let transaction = begin(Durability::None).named(&self.path)?;
            part(&transaction, each).named(&self.path)?;
            transaction.commit().named(&self.path)?;
        }
        let mut transaction = begin(Durability::Immediate).named(&self.path)?;
        transaction.set_quick_repair(true);
        let done = last(&transaction).named(&self.path)?;
        transaction.commit().named(&self.path)?;
        round.0 = None;
        Ok(done)
    }

    /// Closes it cleanly; from now on it is only read.
    pub(crate) fn seal(&self) -> Result<(), Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Writing(database, _) => database.close().named(&self.path),
            _ => Ok(()),
        }
    }

    /// Gives back memory and the file handle until the next read.
    pub(crate) fn rest(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Reading(_)) {
            *slot = Slot::Closed;
        }
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        match *slot {
            Slot::Broken => {
                let fence = Fence::default();
                *slot = Slot::Writing(self.open_writing(fence.clone())?, fence);
            }
            Slot::Closed => *slot = Slot::Reading(self.open_reading()?),
            Slot::Reading(_) | Slot::Writing(..) => {}
        }
        Ok(())
    }

    fn open_writing(&self, fence: Fence) -> Result<redb::Database, Error> {
        // An empty file would be taken for a new database: what is lost must not look like what never was.
        let backend = self.backend(fence)?;
        if backend.len().map_err(|error| Error::io("measure", &self.path, error))? == 0 {
            return Err(Error::corrupt(&self.path, 0, "it is empty"));
        }
        builder(self.kind.cache_bytes)
            .create_with_backend(backend)
            .named(&self.path)
    }

    fn open_reading(&self) -> Result<ReadOnlyDatabase, Error> {
        let builder = builder(limits::SEALED_CACHE_BYTES);
        let backend = || self.backend(Fence::default());
        match builder.open_read_only_with_backend(backend()?) {
            Err(DatabaseError::RepairAborted) => {
                self.open_writing(Fence::default())?.close().named(&self.path)?;
                builder.open_read_only_with_backend(backend()?).named(&self.path)
            }
            opened => opened.named(&self.path),
        }
    }

    fn backend(&self, fence: Fence) -> Result<Backend, Error> {
        let file = self.disk.open(&self.path, Open::Existing);
        let file = file.map_err(|error| Error::io("open", &self.path, error))?;
        Ok(Backend::new(file, self.kind, fence))
    }
}

/// Name of a database that is being made.
pub(crate) const NEW: &str = "new";

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

#[derive(Debug)]
struct Backend {
    file: Arc<dyn File>,
    stage: Option<Stage>,
    fence: Fence,
}

impl Backend {
    fn new(file: Arc<dyn File>, kind: Kind, fence: Fence) -> Self {
        let stage = kind.is_log.then(Stage::default);
        Self { file, stage, fence }
    }

    fn write_out(&self) -> io::Result<()> {
        self.stage.as_ref().map_or(Ok(()), |stage| stage.write_out(&*self.file))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.stage {
            Some(stage) => stage.read_at(&*self.file, offset, out),
            None => self.file.read_at(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fence.check()?;
        self.write_out()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fence.check()?;
        // Here a full disk loses nothing yet.
        self.write_out()?;
        // Whatever a sync reports is fatal, a full disk too: what it was to keep may be gone from memory already.
        self.file.sync().map_err(io::Error::other)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fence.check()?;
        match &self.stage {
            Some(stage) => stage.write(&*self.file, offset, data),
            None => self.file.write_at(offset, data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const KIND: Kind = Kind {
        cache_bytes: 1 << 20,
        is_log: false,
    };
    const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");

    fn disk(dir: &tempfile::TempDir) -> Arc<dyn Disk> {
        Arc::new(RealDisk::open(dir.path()).unwrap())
    }

    fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
        transaction.open_table(ROWS)?;
        Ok(())
    }

    fn put(transaction: &WriteTransaction, row: u64) -> Result<(), redb::Error> {
        transaction.open_table(ROWS)?.insert(row, &[7; 100][..])?;
        Ok(())
    }

    fn has(database: &Database, row: u64) -> Result<bool, Error> {
        database.read(|transaction| Ok(transaction.open_table(ROWS)?.get(row)?.is_some()))
    }

    fn after_a_round_that(ends: impl Fn() -> Result<(), redb::Error>) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(&disk(&dir), ".", "d", KIND, make).unwrap();
        database.write(|transaction| put(transaction, 0)).unwrap();
        let part = |transaction: &WriteTransaction, row| if row == 2 { ends() } else { put(transaction, row) };
        let failed = database.write_in_parts([1, 2].into_iter(), part, |_| Ok(()));
        assert!(failed.is_err_and(|error| !error.is_retriable()));
        drop(database);
        let database = Database::open(&disk(&dir), "./d".into(), KIND).unwrap();
        assert!(has(&database, 0).unwrap(), "what was durable");
        assert!(!has(&database, 1).unwrap(), "half a round");
    }

    #[test]
    fn half_a_round_is_not_made_durable_by_whoever_drops_it() {
        after_a_round_that(|| Err(redb::Error::Corrupted("a page".into())));
        after_a_round_that(|| panic!("a page that cannot be"));
    }

    #[test]
    fn a_page_that_cannot_be_is_damage_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create(&disk(&dir), ".", "d", KIND, make).unwrap();
        (0..100).for_each(|row| database.write(|transaction| put(transaction, row)).unwrap());
        database.seal().unwrap();
        drop(database);
        let path = dir.path().join("d");
        let mut bytes = std::fs::read(&path).unwrap();
        // Every page but the first, which says where the others are.
        for page in bytes.chunks_mut(4096).skip(1) {
            page[0] = 0;
        }
        std::fs::write(&path, bytes).unwrap();
        let database = Database {
            disk: disk(&dir),
            path: "./d".into(),
            kind: KIND,
            slot: RwLock::new(Slot::Closed),
        };
        assert!(matches!(has(&database, 50), Err(Error::Corrupt { .. })));
    }
}
