//! The clients of one measurement: workers spread over threads, started together, waited for together.
//!
//! Each thread has a current-thread runtime, because QUIC on a runtime of several threads takes half the throughput. A worker that fails
//! ends the measurement; the others are left where they are, for the process is about to end.
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::{Barrier, mpsc};
use tokio::task::{LocalSet, spawn_local};

use super::Problem;
use crate::clock;

/// What a worker has of the crew.
#[derive(Clone)]
pub(super) struct Seat {
    /// Which worker, from 0.
    pub(super) number: usize,
    line: Arc<Barrier>,
    progress: Arc<AtomicU64>,
}

impl Seat {
    /// Waits until every worker stands at the start and is let go. To be called once.
    pub(super) async fn start(&self) {
        self.line.wait().await;
        self.line.wait().await;
    }

    /// So many records more, for whoever watches.
    pub(super) fn advance(&self, records: u64) {
        self.progress.fetch_add(records, Ordering::Relaxed);
    }
}

/// Workers whose results are to come.
pub(super) struct Crew<T> {
    results: mpsc::UnboundedReceiver<Result<T, Problem>>,
    line: Arc<Barrier>,
    progress: Arc<AtomicU64>,
    size: usize,
}

impl<T: Send + 'static> Crew<T> {
    /// Starts `size` workers on `threads` threads.
    pub(super) fn hire<F, W>(threads: usize, size: usize, work: F) -> Result<Crew<T>, Problem>
    where
        F: Fn(Seat) -> W + Clone + Send + 'static,
        W: Future<Output = Result<T, Problem>> + 'static,
    {
        let line = Arc::new(Barrier::new(size + 1));
        let progress = Arc::new(AtomicU64::new(0));
        let (report, results) = mpsc::unbounded_channel();
        let threads = threads.clamp(1, size.max(1));
        for thread in 0..threads {
            let seats = (thread..size).step_by(threads).map(|number| Seat {
                number,
                line: line.clone(),
                progress: progress.clone(),
            });
            let (seats, work, report) = (seats.collect::<Vec<_>>(), work.clone(), report.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                // Each a task of its own: within one task the first that always has work would leave the others none of its turns.
                let workers = |seat| {
                    let (work, report) = (work.clone(), report.clone());
                    spawn_local(async move { drop(report.send(work(seat).await)) })
                };
                LocalSet::new().block_on(&runtime, async { join_all(seats.into_iter().map(workers)).await });
            };
            std::thread::Builder::new()
                .name(format!("client-{thread}"))
                .spawn(run)?;
        }
        Ok(Crew {
            results,
            line,
            progress,
            size,
        })
    }

    /// Waits until all workers stand at the start.
    pub(super) async fn ready(&mut self) -> Result<(), Problem> {
        let line = self.line.clone();
        tokio::select! {
            _ = line.wait() => Ok(()),
            early = self.results.recv() => Err(match early {
                Some(Err(problem)) => problem,
                _ => "a client ended before the start".into(),
            }),
        }
    }

    /// Lets them go. When.
    pub(super) async fn go(&mut self) -> Instant {
        self.line.wait().await;
        clock::instant()
    }

    /// Tells the records so far, whenever it is called.
    pub(super) fn progress_counter(&self) -> impl Fn() -> u64 + 'static {
        let progress = self.progress.clone();
        move || progress.load(Ordering::Relaxed)
    }

    /// Waits for all results, in the order in which they come.
    pub(super) async fn finish(&mut self) -> Result<Vec<T>, Problem> {
        let mut results = Vec::with_capacity(self.size);
        while results.len() < self.size {
            let result = self.results.recv().await;
            results.push(result.unwrap_or_else(|| Err("a client has died".into()))?);
        }
        Ok(results)
    }
}
