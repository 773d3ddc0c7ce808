//! The handle that everybody else uses: publish what an entry changed, read logs and rows.
//!
//! Guarantees: what [`Storage::publish`] was given is seen by every later read, whole; a read sees no entry in part. What was published and is not
//! settled is in memory, and its entry is in the journal.
//! Does not do: bound what it is given. The caller asks [`Storage::is_behind`] before it proposes more.
mod read;
mod rows;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
pub use read::Found;
pub use rows::Scan;

use crate::{
    Changes, Error, LogId, Table,
    ahead::Ahead,
    disk::{Disk, Lock},
    limits,
    log::{Extent, Freed, Log},
    overlay::Overlay,
    segments::Segments,
    state::{DROPPED, Round, State},
};

/// Partitions and rows of one shard. Clones are the same storage.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) shared: Arc<Shared>,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Index of the last entry published.
    pub applied: u64,
    /// Index of the last entry whose changes are in the databases.
    pub settled: u64,
    /// Memory of what is not in the databases yet.
    pub unsettled_bytes: u64,
    /// Memory of what is also in the databases.
    pub cached_bytes: u64,
    /// Bytes of batches in segments, as far as they are live.
    pub segment_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Logs with anything in them.
    pub logs: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) state: State,
    pub(crate) segments: Segments,
    pub(crate) ahead: Ahead,
    pub(crate) settle_bytes: u64,
    pub(crate) transaction_bytes: usize,
    pub(crate) unsettled_bytes_max: u64,
    pub(crate) cached_bytes_max: u64,
    pub(crate) reserve_bytes: u64,
    full: AtomicBool,
    inner: RwLock<Inner>,
    signal: Signal,
    /// The data directory is ours for as long as anybody may write to it.
    pub(crate) _lock: Box<dyn Lock>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) applied: u64,
    pub(crate) settled: u64,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) overlay: Overlay,
    /// Starts that moved and are not in the databases yet.
    pub(crate) starts: BTreeMap<LogId, i64>,
    /// Beginnings of keys whose rows are gone and are in the database yet.
    pub(crate) cleared: Vec<(Table, Bytes)>,
    pub(crate) unsettled_bytes: u64,
    pub(crate) cached_bytes: u64,
    /// The log of each settled batch in memory, oldest first. Trims leave names behind that stand for nothing.
    pub(crate) cached: VecDeque<LogId>,
}

/// Wakes the settling thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    wake: Mutex<bool>,
    ready: Condvar,
}

impl Signal {
    pub(crate) fn notify(&self) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ready.notify_one();
    }

    /// Waits until somebody notifies or the time is up.
    pub(crate) fn wait(&self, longest: Duration) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ready.wait_timeout_while(wake, longest, |wake| !*wake);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Storage {
    /// Makes visible what an entry changed. Entries come in order, each once, after their journal entry is durable.
    ///
    /// # Errors
    /// [`Error::Contract`] if the entry is not the next, or a batch is not what it says or does not fit its log. The process must stop: memory and
    /// journal no longer agree.
    pub fn publish(&self, changes: Changes) -> Result<(), Error> {
        let unsettled_bytes = {
            let mut inner = self.shared.write();
            inner.publish(changes)?;
            inner.unsettled_bytes
        };
        if self.shared.settle_bytes <= unsettled_bytes {
            self.shared.signal.notify();
        }
        Ok(())
    }

    /// Index of the last entry published.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.shared.read().applied
    }

    /// True if settling has fallen so far behind that memory and restarts suffer: propose nothing until it is false. It changes after a
    /// settle round, see [`crate::Settling::spawn`].
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shared.unsettled_bytes_max <= self.shared.read().unsettled_bytes
    }

    /// True if the disk is nearly full: refuse records retriably, and keep what is left for retention and deletes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Bytes by which files may grow before the disk is [full](Self::is_full), as of now. 0 if that cannot be measured.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let spoken_for = self.shared.read().unsettled_bytes + self.shared.reserve_bytes;
        self.shared.disk.free_bytes().unwrap_or(0).saturating_sub(spoken_for)
    }

    /// How much of everything there is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let inner = self.shared.read();
        let extents = inner.logs.values().flat_map(|log| &log.extents);
        Usage {
            applied: inner.applied,
            settled: inner.settled,
            unsettled_bytes: inner.unsettled_bytes,
            cached_bytes: inner.cached_bytes,
            segment_bytes: extents.map(|extent| extent.bytes).sum(),
            segments: self.shared.segments.count(),
            logs: inner.logs.len(),
        }
    }
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        lock: Box<dyn Lock>,
        options: &crate::Options,
        state: State,
        segments: Segments,
        inner: Inner,
    ) -> Self {
        Self {
            disk,
            state,
            segments,
            ahead: Ahead::default(),
            settle_bytes: options.settle_bytes,
            transaction_bytes: options.transaction_bytes,
            unsettled_bytes_max: options.unsettled_bytes_max,
            cached_bytes_max: options.cached_bytes_max,
            reserve_bytes: options.reserve_bytes,
            full: AtomicBool::new(false),
            inner: RwLock::new(inner),
            signal: Signal::default(),
            _lock: lock,
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Looks at what is left of the disk, besides what settling will need. Full ends at twice the reserve, or it would flicker.
    pub(crate) fn look_at_space(&self) -> Result<(), Error> {
        let free = self
            .disk
            .free_bytes()
            .map_err(|error| Error::io("measure", "the disk", error))?;
        let (spoken_for, live) = {
            let inner = self.read();
            (inner.unsettled_bytes, inner.live_segments())
        };
        // A database hardly ever gives back what it has; the segment that is written fills it again.
        let free = free.saturating_add(self.segments.reusable_bytes(&live));
        let factor = if self.full.load(Ordering::Relaxed) { 2 } else { 1 };
        self.set_full(free.saturating_sub(spoken_for) < self.reserve_bytes.saturating_mul(factor));
        Ok(())
    }

    pub(crate) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(full, reserve_bytes = self.reserve_bytes, "free space of the disk");
        }
    }
}

impl Inner {
    /// What the databases hold after a restart.
    pub(crate) fn found(applied: u64, starts: Vec<(LogId, i64)>, extents: Vec<(LogId, Extent)>) -> Self {
        let starts: BTreeMap<_, _> = starts.into_iter().collect();
        let mut inner = Self {
            applied,
            settled: applied,
            ..Self::default()
        };
        for (&log, &start) in starts.iter().filter(|&(_, &start)| start != DROPPED) {
            inner.logs.insert(log, Log::found(start));
        }
        for (log, extent) in extents {
            if starts.get(&log) != Some(&DROPPED) {
                inner.logs.entry(log).or_default().found_extent(extent);
            }
        }
        inner
    }

    fn publish(&mut self, changes: Changes) -> Result<(), Error> {
        if changes.index != self.applied + 1 {
            return Err(Error::Contract(format!(
                "entry {} published after entry {}",
                changes.index, self.applied
            )));
        }
        for append in changes.appends {
            self.unsettled_bytes += self.logs.entry(append.log).or_default().append(append)?;
        }
        for row in changes.rows {
            self.unsettled_bytes += self.overlay.put(row);
        }
        for (log, start) in changes.log_starts {
            self.trim(log, start);
        }
        for log in changes.dropped {
            self.trim(log, DROPPED);
            self.logs.remove(&log);
        }
        self.cleared.extend(changes.cleared);
        self.applied = changes.index;
        Ok(())
    }

    fn trim(&mut self, log: LogId, start: i64) {
        let Freed {
            settled_bytes,
            unsettled_bytes,
        } = self.logs.entry(log).or_default().trim(start);
        self.cached_bytes -= settled_bytes;
        self.unsettled_bytes -= unsettled_bytes;
        let known = self.starts.entry(log).or_default();
        *known = start.max(*known);
    }

    /// Begins a round: what the state must be told.
    pub(crate) fn begin(&mut self) -> Round {
        Round {
            rows: self.overlay.freeze(),
            cleared: std::mem::take(&mut self.cleared),
            starts: std::mem::take(&mut self.starts).into_iter().collect(),
            applied: self.applied,
        }
    }

    /// The databases hold the round.
    pub(crate) fn end(&mut self, round: &Round) {
        self.unsettled_bytes -= self.overlay.settled();
        self.settled = round.applied;
    }

    /// The databases could not take the round: it goes back under what was published since.
    pub(crate) fn take_back(&mut self, round: Round) {
        self.overlay.thaw();
        for (log, start) in round.starts {
            let known = self.starts.entry(log).or_default();
            *known = start.max(*known);
        }
        self.cleared.extend(round.cleared);
    }

    /// A round is in the segment with this number.
    pub(crate) fn segment_written(&mut self, number: u64, extents: Vec<(LogId, Option<Extent>)>) {
        for (id, extent) in extents {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            for bytes in log.settle(number, extent) {
                self.unsettled_bytes -= bytes;
                self.cached_bytes += bytes;
                self.cached.push_back(id);
            }
        }
    }

    /// Forgets what the databases hold, oldest first, down to a bound.
    pub(crate) fn evict(&mut self, cached_bytes_max: u64) {
        while cached_bytes_max < self.cached_bytes || limits::CACHED_NAMES_MAX < self.cached.len() {
            let Some(log) = self.cached.pop_front() else { break };
            self.cached_bytes -= self.logs.get_mut(&log).and_then(Log::evict).unwrap_or(0);
        }
    }

    /// Bytes of live batches in each segment that has any.
    pub(crate) fn live_segments(&self) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        for extent in self.logs.values().flat_map(|log| &log.extents) {
            *live.entry(extent.segment).or_default() += extent.bytes;
        }
        live
    }
}
