//! Threads that guests run on, and who is next: deployments in turn, so that none waits for another's backlog.
//!
//! Guarantees: every run that was submitted is answered, also when the host itself fails, unless the lanes are dropped first. A lane's
//! stack is far larger than a guest's, so recursion traps in the guest and never ends the process.
use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tidemill_broker::module::{
    Version,
    run::{Failure, Kind, Processed, Run, Verdict},
};

use crate::{Error, code::RevokeReason, limits, sandbox::Sandbox};

/// Called on a lane with what came of a run. It should hand the answer on and return.
pub type Done = Box<dyn FnOnce(Processed) + Send>;

/// The lanes over one sandbox.
#[derive(Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    sandbox: Arc<Sandbox>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Job {
    work: Work,
    cancel: Arc<AtomicBool>,
}

enum Work {
    Run(Box<Run>, Done),
    Revoke(Revoke),
}

/// Tell instances that their task leaves.
pub struct Revoke {
    /// Of which version.
    pub version: Version,
    /// Which task; `None` for all.
    pub task: Option<u32>,
    /// Why.
    pub reason: RevokeReason,
    /// Called on a lane with what the instances logged.
    pub done: Box<dyn FnOnce(Vec<Processed>) + Send>,
}

#[derive(Default)]
struct Queue {
    /// Runs that wait, by deployment, and the deployments in turn.
    waiting: BTreeMap<String, VecDeque<Job>>,
    turns: VecDeque<String>,
    /// Cancel flags of what waits or runs, by version.
    flags: BTreeMap<Version, Arc<AtomicBool>>,
    stopped: bool,
}

impl Lanes {
    /// Starts so many lanes (at least one).
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn start(count: usize, sandbox: Arc<Sandbox>) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            sandbox,
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut lanes = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..count.max(1) {
            let shared = Arc::clone(&lanes.shared);
            let lane = thread::Builder::new()
                .name(format!("lane-{number}"))
                .stack_size(limits::LANE_STACK_BYTES);
            lanes
                .threads
                .push(lane.spawn(move || shared.work()).map_err(Error::Thread)?);
        }
        Ok(lanes)
    }

    /// Runs a batch when it is its deployment's turn.
    pub fn submit(&self, run: Run, done: Done) {
        let version = run.version.clone();
        self.push(version, Work::Run(Box::new(run), done));
    }

    /// Calls `on-revoke` in idle instances, which are dropped then. After what was submitted before.
    pub fn revoke(&self, revoke: Revoke) {
        self.push(revoke.version.clone(), Work::Revoke(revoke));
    }

    fn push(&self, version: Version, work: Work) {
        let module = version.module.clone();
        let mut queue = self.shared.lock();
        let cancel = Arc::clone(queue.flags.entry(version).or_default());
        let waiting = queue.waiting.entry(module.clone()).or_default();
        waiting.push_back(Job { work, cancel });
        if waiting.len() == 1 {
            queue.turns.push_back(module);
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Ends what runs or waits of a version: it is answered with a retry. What is submitted afterwards runs.
    pub fn cancel(&self, version: &Version) {
        if let Some(flag) = self.shared.lock().flags.remove(version) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// The sandbox that the lanes run.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.shared.sandbox
    }
}

impl Drop for Lanes {
    /// Interrupts the guests and waits for the lanes.
    fn drop(&mut self) {
        {
            let mut queue = self.shared.lock();
            queue.stopped = true;
            queue.waiting.clear();
            queue.turns.clear();
            for flag in queue.flags.values() {
                flag.store(true, Ordering::Relaxed);
            }
        }
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A lane catches what panics in it.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(Job { work, cancel }) = self.next() {
            let (run, done) = match work {
                Work::Run(run, done) => (*run, done),
                Work::Revoke(revoke) => {
                    let Revoke {
                        version,
                        task,
                        reason,
                        done,
                    } = revoke;
                    let told = catch_unwind(AssertUnwindSafe(|| self.sandbox.revoke(&version, task, reason)));
                    done(told.unwrap_or_default());
                    continue;
                }
            };
            let (task, generation) = (run.task.clone(), run.generation);
            let rehearsed = (run.kind == Kind::Rehearse).then(|| run.version.clone());
            let processed = catch_unwind(AssertUnwindSafe(|| self.sandbox.run(run, &cancel)));
            drop(cancel);
            if let Some(version) = rehearsed {
                // Under its number it never runs again.
                self.lock().flags.remove(&version);
            }
            done(processed.unwrap_or_else(|_| broken(task, generation)));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(job) = queue.next() {
                return Some(job);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Job> {
        let module = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&module)?;
        let job = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&module);
        } else {
            self.turns.push_back(module);
        }
        job
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("turns", &self.turns)
            .finish_non_exhaustive()
    }
}

/// The answer when the host itself failed: our fault, but perhaps because of one record.
fn broken(task: tidemill_broker::module::run::TaskKey, generation: u64) -> Processed {
    tracing::error!(module = task.module, task = task.number, "the sandbox panicked");
    let verdict = Verdict::Failed {
        kind: Failure::Trap,
        message: "the sandbox itself failed on this batch; see the daemon's log".into(),
        suspect: None,
        delivered: Vec::new(),
    };
    Processed::nothing_of(task, generation, verdict)
}
