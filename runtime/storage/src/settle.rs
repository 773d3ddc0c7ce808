//! Settling: what is journalled and in memory goes into redb, in large transactions, off the acknowledgement path.
//!
//! A round: unlink dead segments; one transaction of the last segment; one of `state.redb`; only then does memory count as settled, and the
//! journal files below are recycled. Segments commit first, so after a crash they may be ahead of the state, never behind: the replay
//! from the state's `applied` passes over the batches that are there already.
//! Both transactions are durable: nothing leaves memory before it is safe, so a full disk costs a round and never data.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Error, LogId,
    journal::Files,
    log::Batch,
    segments::Round,
    storage::{Shared, Storage},
};

/// Settles one shard. One per storage.
#[derive(Debug)]
pub struct Settler {
    shared: Arc<Shared>,
    files: Arc<Files>,
    interval: Duration,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The databases hold everything up to this entry.
    pub applied: u64,
    /// Segment files unlinked.
    pub segments_unlinked: usize,
}

impl Settler {
    pub(crate) fn new(shared: Arc<Shared>, files: Arc<Files>, interval: Duration) -> Self {
        Self {
            shared,
            files,
            interval,
        }
    }

    /// Does one round: afterwards the databases hold everything that was published before the call.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing is lost, the next round tries again. After any other the process must stop.
    pub fn step(&mut self) -> Result<Settled, Error> {
        let live = self.shared.read().live_segments();
        let segments_unlinked = self.shared.segments.unlink_dead(&live)?;
        let result = self.round();
        match &result {
            Err(error) if error.is_retriable() => self.shared.set_full(true),
            _ => self.shared.look_at_space()?,
        }
        let applied = result?;
        self.shared.segments.rest();
        Ok(Settled {
            applied,
            segments_unlinked,
        })
    }

    fn round(&mut self) -> Result<u64, Error> {
        let round = {
            let mut inner = self.shared.write();
            (inner.settled < inner.applied).then(|| inner.begin())
        };
        if let Some(round) = round {
            let result = self
                .segments(&round.starts)
                .and_then(|()| self.shared.state.write(&round, self.shared.transaction_bytes));
            let mut inner = self.shared.write();
            if let Err(error) = result {
                inner.take_back(round);
                return Err(error);
            }
            inner.end(&round);
            inner.evict(self.shared.cached_bytes_max);
        }
        let settled = self.shared.read().settled;
        self.files.release(settled)?;
        Ok(settled)
    }

    /// Puts the batches that are not in a segment into one, in as many transactions as it takes: segments may be ahead of the state.
    fn segments(&self, starts: &[(LogId, i64)]) -> Result<(), Error> {
        let starts = if self.shared.segments.count() == 0 {
            Vec::new()
        } else {
            starts.to_vec()
        };
        let mut rounds = rounds(self.unsettled(), self.shared.transaction_bytes);
        match rounds.first_mut() {
            Some(first) => first.starts = starts,
            None if !starts.is_empty() => rounds.push(Round {
                starts,
                ..Round::default()
            }),
            None => {}
        }
        for round in rounds {
            let (number, extents) = self.shared.segments.write(&round)?;
            self.shared.write().segment_written(number, extents);
        }
        Ok(())
    }

    /// Log by log, so that nobody waits long for the lock. What is published meanwhile may be taken along: its entry is durable.
    fn unsettled(&self) -> Vec<(LogId, Vec<Batch>)> {
        let logs: Vec<_> = self.shared.read().logs.keys().copied().collect();
        let batches = logs.into_iter().map(|log| {
            let inner = self.shared.read();
            (
                log,
                inner
                    .logs
                    .get(&log)
                    .map_or_else(Vec::new, |log| log.unsettled().cloned().collect()),
            )
        });
        batches
            .filter(|(_, batches): &(LogId, Vec<_>)| !batches.is_empty())
            .collect()
    }

    /// Settles everything and closes the databases cleanly, so that the next start finds nothing to repair or replay.
    ///
    /// # Errors
    /// Those of [`Settler::step`]. Nothing is lost: the journal has it.
    pub fn close(mut self) -> Result<(), Error> {
        self.step()?;
        self.shared.segments.close()?;
        self.shared.state.close()
    }
}

/// Cuts what waits into rounds of about so many bytes.
fn rounds(unsettled: Vec<(LogId, Vec<Batch>)>, transaction_bytes: usize) -> Vec<Round> {
    let mut rounds = Vec::new();
    let (mut round, mut round_bytes) = (Round::default(), 0);
    for (log, batches) in unsettled {
        let mut part = Vec::new();
        for batch in batches {
            round_bytes += batch.data.len();
            part.push(batch);
            if transaction_bytes <= round_bytes {
                round.appends.push((log, std::mem::take(&mut part)));
                rounds.push(std::mem::take(&mut round));
                round_bytes = 0;
            }
        }
        if !part.is_empty() {
            round.appends.push((log, part));
        }
    }
    if !round.appends.is_empty() {
        rounds.push(round);
    }
    rounds
}

/// A thread that settles when enough is waiting or time has passed. Dropping it settles a last time and closes the databases.
#[derive(Debug)]
pub struct Settling {
    storage: Storage,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Settling {
    /// Starts the thread. `settled` is called after each round that did something or failed; after an error that is not retriable no
    /// more rounds follow, and the process must stop.
    ///
    /// # Panics
    /// If the system has no thread left.
    #[must_use]
    pub fn spawn(settler: Settler, settled: Box<dyn FnMut(Result<Settled, Error>) + Send>) -> Self {
        let storage = Storage {
            shared: settler.shared.clone(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || run(settler, &stopped, settled);
        let thread = thread::Builder::new()
            .name("settle".into())
            .spawn(work)
            .expect("the system has a thread at start");
        Self {
            storage,
            stop,
            thread: Some(thread),
        }
    }
}

fn run(mut settler: Settler, stop: &AtomicBool, mut settled: Box<dyn FnMut(Result<Settled, Error>) + Send>) {
    let mut last = Settled::default();
    while !stop.load(Ordering::Acquire) {
        settler.shared.signal().wait(settler.interval);
        match settler.step() {
            Ok(now) if now == last => {}
            Ok(now) => {
                last = now;
                settled(Ok(now));
            }
            Err(error) => {
                tracing::error!(%error, "settling failed");
                let fatal = !error.is_retriable();
                settled(Err(error));
                if fatal {
                    return;
                }
            }
        }
    }
    if let Err(error) = settler.close() {
        tracing::warn!(%error, "what is not settled will be replayed at the next start");
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.storage.shared.signal().notify();
        if let Some(thread) = self.thread.take() {
            // It has reported its own failures.
            let _ = thread.join();
        }
    }
}
