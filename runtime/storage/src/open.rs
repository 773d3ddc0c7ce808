//! Opening a data directory: lock it, open the databases, scan the journal.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    Error, Row,
    database::NEW,
    disk::Disk,
    journal::{self, Journal},
    limits,
    segments::Segments,
    settle::Settler,
    state::State,
    storage::{Inner, Shared, Storage},
};

/// How to use a data directory. The defaults are right for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which shard.
    pub shard: u32,
    /// Chance: the journal's checksums start from it. Take it from the system in production, from a seed in tests.
    pub seed: u64,
    /// Size of a journal file, [`limits::JOURNAL_FILE_BYTES`].
    pub journal_file_bytes: u64,
    /// Size at which a segment is sealed, [`limits::SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Settle when so much is waiting, [`limits::SETTLE_BYTES`].
    pub settle_bytes: u64,
    /// Size of one transaction of a settle round, [`limits::TRANSACTION_BYTES`].
    pub transaction_bytes: usize,
    /// Settle when so much time has passed, [`limits::SETTLE_INTERVAL_MS`].
    pub settle_interval: Duration,
    /// Bound of what waits to be settled, [`limits::UNSETTLED_BYTES_MAX`].
    pub unsettled_bytes_max: u64,
    /// Settled batches kept in memory, [`limits::CACHED_BYTES_MAX`].
    pub cached_bytes_max: u64,
    /// Free space at which the disk counts as full, [`limits::RESERVE_BYTES`].
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shard: 0,
            seed: 0,
            journal_file_bytes: limits::JOURNAL_FILE_BYTES,
            segment_bytes: limits::SEGMENT_BYTES,
            settle_bytes: limits::SETTLE_BYTES,
            transaction_bytes: limits::TRANSACTION_BYTES,
            settle_interval: Duration::from_millis(limits::SETTLE_INTERVAL_MS),
            unsettled_bytes_max: limits::UNSETTLED_BYTES_MAX,
            cached_bytes_max: limits::CACHED_BYTES_MAX,
            reserve_bytes: limits::RESERVE_BYTES,
        }
    }
}

/// An opened data directory. Load `rows`, apply each of `entries` and publish its changes; then start a [`journal::Writer`] and a
/// [`crate::Settling`], and accept work.
#[derive(Debug)]
pub struct Opened {
    /// The handle for everything else.
    pub storage: Storage,
    /// Where new entries go.
    pub journal: Journal,
    /// Moves things from memory and journal to the databases.
    pub settler: Settler,
    /// All rows but the modules' own, as of entry `applied`.
    pub rows: Vec<Row>,
    /// Index of the last entry whose changes `rows` has.
    pub applied: u64,
    /// Entries above `applied`, in order: index and bytes.
    pub entries: Vec<(u64, Bytes)>,
}

impl Storage {
    /// Opens a data directory, or makes one of an empty directory.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Foreign`], [`Error::Newer`] and [`Error::Corrupt`] say what a person must do about it; nothing was changed.
    pub fn open(disk: Arc<dyn Disk>, options: &Options) -> Result<Opened, Error> {
        let lock = lock(&disk)?;
        let dir = format!("shard-{}", options.shard);
        let (segments_dir, journal_dir) = (format!("{dir}/segments"), journal::dir(options.shard));
        for dir in [&dir, &segments_dir, &journal_dir] {
            disk.create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
            // Names that an earlier process did not live to sync are about to be believed.
            disk.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
        }
        let state = State::open(&disk, &dir, options.shard, has_state(&disk, &dir)?)?;
        let (segments, extents) = Segments::open(&disk, segments_dir, options.segment_bytes)?;
        let (applied, starts, rows) = (state.applied()?, state.starts()?, state.rows()?);
        let found = journal::recover(&disk, options.shard, options.seed, applied)?;
        let inner = Inner::found(applied, starts, extents);
        let shared = Arc::new(Shared::new(disk, lock, options, state, segments, inner));
        shared.look_at_space()?;
        Ok(Opened {
            storage: Self { shared: shared.clone() },
            journal: Journal::new(found.files.clone(), found.next_index, options.journal_file_bytes),
            settler: Settler::new(shared, found.files, options.settle_interval),
            rows,
            applied,
            entries: found.entries,
        })
    }
}

fn lock(disk: &Arc<dyn Disk>) -> Result<Box<dyn crate::disk::Lock>, Error> {
    const LOCK: &str = "lock";
    disk.lock(LOCK).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::InUse(LOCK.into()),
        _ => Error::io("lock", LOCK, error),
    })
}

/// Looks at what is in the shard's directory: true if a state is. What was being made when the power failed is removed.
fn has_state(disk: &Arc<dyn Disk>, dir: &str) -> Result<bool, Error> {
    let mut found = false;
    for name in disk.list(dir).map_err(|error| Error::io("list", dir, error))? {
        let path = format!("{dir}/{name}");
        match name.as_str() {
            "journal" | "segments" => {}
            "state.redb" => found = true,
            NEW => disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?,
            _ => return Err(Error::Foreign(path)),
        }
    }
    Ok(found)
}
