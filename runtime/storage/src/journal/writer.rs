//! A thread that makes entries durable in groups: while it syncs one, the next gathers.
//!
//! Guarantees: callbacks come in the order of the entries, each exactly once, and a good one only when its entry is durable. A lone entry is
//! written at once: there is no timer. After a failure that leaves the disk unknown nobody is told anything but that it stopped.
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;

use super::{Journal, rope_bytes};
use crate::{Error, limits};

/// Called on the writer's thread with what became of an entry. It must be quick.
pub type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// Why an entry was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing was written; the next entry must have the same index.
    #[error("the disk is full")]
    NoSpace,
    /// An entry before this one was refused, so its index is wrong. Nothing was written.
    #[error("entry {expected} is expected next")]
    OutOfSequence {
        /// The index that the next entry must have.
        expected: u64,
    },
    /// It is larger than [`limits::ENTRY_BYTES_MAX`]. Nothing was written.
    #[error("the entry is too large")]
    TooLarge,
    /// The journal failed or was closed: it is unknown what became of it.
    #[error("the journal has stopped")]
    Stopped,
}

/// Group commit. Dropping it waits for what was submitted.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    groups: AtomicU64,
    group_bytes: AtomicU64,
}

/// What a writer has made durable since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Groups, each with one write and one sync.
    pub groups: u64,
    /// Bytes of entries in them.
    pub bytes: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Submission>,
    waiting_bytes: usize,
    stopped: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.waiting.len())
            .field("stopped", &self.stopped)
            .finish()
    }
}

struct Submission {
    index: u64,
    entry: Vec<Bytes>,
    bytes: usize,
    done: Done,
}

impl Writer {
    /// Starts the thread. `failed` is called at most once, before any callback learns of it; after it the process must stop.
    ///
    /// # Panics
    /// If the system has no thread left.
    #[must_use]
    pub fn spawn(journal: Journal, failed: Box<dyn FnOnce(Error) + Send>) -> Self {
        let shared = Arc::new(Shared::default());
        let inner = shared.clone();
        let work = move || inner.run(journal, failed);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(work)
            .expect("the system has a thread at start");
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Hands in the entry with this index; `done` learns what became of it.
    ///
    /// An index is taken when its entry is durable. After a refusal go on from the index that the refusal names: everything submitted in
    /// between is refused too, in order.
    pub fn submit(&self, index: u64, entry: Vec<Bytes>, done: Done) {
        let bytes = rope_bytes(&entry);
        let mut queue = self.shared.queue();
        if queue.stopped {
            drop(queue);
            return done(Err(CommitError::Stopped));
        }
        // It waits for the first only; to wake it costs a system call even when it is awake.
        let is_first = queue.waiting.is_empty();
        queue.waiting_bytes += bytes;
        queue.waiting.push_back(Submission {
            index,
            entry,
            bytes,
            done,
        });
        drop(queue);
        if is_first {
            self.shared.ready.notify_one();
        }
    }

    /// Bytes submitted and not yet being written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.shared.queue().waiting_bytes
    }

    /// What is durable so far.
    #[must_use]
    pub fn written(&self) -> Written {
        Written {
            groups: self.shared.groups.load(Ordering::Relaxed),
            bytes: self.shared.group_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue().stopped = true;
        self.shared.ready.notify_one();
        if let Some(thread) = self.thread.take() {
            // It reports its own failures; a panic in a callback is the caller's.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut journal: Journal, failed: Box<dyn FnOnce(Error) + Send>) {
        while let Some(group) = self.gather() {
            let bytes: usize = group.iter().map(|submission| submission.bytes).sum();
            if let Err((error, untold)) = commit(&mut journal, group) {
                tracing::error!(%error, "the journal failed");
                failed(error);
                untold.into_iter().for_each(|done| done(Err(CommitError::Stopped)));
                break;
            }
            self.groups.fetch_add(1, Ordering::Relaxed);
            self.group_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        let rest = {
            let mut queue = self.queue();
            queue.stopped = true;
            std::mem::take(&mut queue.waiting)
        };
        rest.into_iter()
            .for_each(|submission| (submission.done)(Err(CommitError::Stopped)));
    }

    /// Waits for entries; `None` when it is time to stop and nothing is left.
    fn gather(&self) -> Option<Vec<Submission>> {
        let mut queue = self.queue();
        while queue.waiting.is_empty() {
            if queue.stopped {
                return None;
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            let full = limits::GROUP_BYTES_MAX < bytes + next.bytes || limits::GROUP_ENTRIES_MAX <= group.len();
            if full && !group.is_empty() {
                break;
            }
            bytes += next.bytes;
            group.extend(queue.waiting.pop_front());
        }
        queue.waiting_bytes -= bytes;
        Some(group)
    }
}

/// Writes what of a group is in sequence, then tells everybody, in order. An error gives back those who may be told nothing.
fn commit(journal: &mut Journal, group: Vec<Submission>) -> Result<(), (Error, Vec<Done>)> {
    let first = journal.next_index();
    let mut expected = first;
    let mut entries = Vec::with_capacity(group.len());
    let mut verdicts = Vec::with_capacity(group.len());
    for submission in group {
        let verdict = if limits::ENTRY_BYTES_MAX < submission.bytes {
            Err(CommitError::TooLarge)
        } else if submission.index != expected {
            Err(CommitError::OutOfSequence { expected })
        } else {
            expected += 1;
            entries.push(submission.entry);
            Ok(())
        };
        verdicts.push((submission.done, verdict));
    }
    match journal.append(&entries) {
        Ok(_) => verdicts.into_iter().for_each(|(done, verdict)| done(verdict)),
        Err(error) if error.is_retriable() => {
            tracing::warn!(%error, "an entry was refused");
            refuse(first, verdicts);
        }
        Err(error) => return Err((error, verdicts.into_iter().map(|(done, _)| done).collect())),
    }
    Ok(())
}

/// The disk is full: the index that the group began with is still free.
fn refuse(first: u64, verdicts: Vec<(Done, Result<(), CommitError>)>) {
    let mut sequence = Err(CommitError::NoSpace);
    for (done, verdict) in verdicts {
        match verdict {
            Err(CommitError::TooLarge) => done(verdict),
            _ => {
                done(sequence);
                sequence = Err(CommitError::OutOfSequence { expected: first });
            }
        }
    }
}
