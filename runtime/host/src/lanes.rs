//! Threads that guests run on. Who is next is decided in [`fair`](crate::fair).
//!
//! Guarantees: every run that was submitted is answered, also when the host itself fails, unless the lanes are closed or dropped first. A lane's
//! stack is far larger than a guest's, so recursion traps in the guest and never ends the process.
use std::{
    collections::BTreeMap,
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

use crate::{Error, clock, code::RevokeReason, fair::Fair, limits, sandbox::Sandbox};

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
    Close(Told),
}

/// Called on a lane with what instances logged when they were told that their task leaves.
pub type Told = Box<dyn FnOnce(Vec<Processed>) + Send>;

/// Tell instances that their task leaves.
pub struct Revoke {
    /// Of which version.
    pub version: Version,
    /// Which task; `None` for all.
    pub task: Option<u32>,
    /// Why.
    pub reason: RevokeReason,
    /// Called afterwards.
    pub done: Told,
}

struct Queue {
    jobs: Fair<Job>,
    lanes: usize,
    /// Lanes that wait for a job.
    idle: usize,
    /// Cancel flags of what waits or runs, by version.
    flags: BTreeMap<Version, Arc<AtomicBool>>,
    /// The same for what is done last.
    closing: Arc<AtomicBool>,
    /// What is left to do when nothing runs any more.
    last: Option<Job>,
    /// Whether nothing more is taken.
    closed: bool,
    stopped: bool,
}

impl Lanes {
    /// Starts so many lanes (at least one).
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn start(count: usize, sandbox: Arc<Sandbox>) -> Result<Self, Error> {
        let count = count.max(1);
        let shared = Arc::new(Shared {
            sandbox,
            queue: Mutex::new(Queue {
                jobs: Fair::new(count),
                lanes: count,
                idle: 0,
                flags: BTreeMap::new(),
                closing: Arc::default(),
                last: None,
                closed: false,
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let mut lanes = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..count {
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

    /// Runs a batch when it is its module's turn.
    pub fn submit(&self, run: Run, done: Done) {
        let version = run.version.clone();
        self.push(version, Work::Run(Box::new(run), done));
    }

    /// Calls `on-revoke` in idle instances, which are dropped then. It waits its module's turn and is charged like a run, behind what was
    /// submitted before: a guest may spin there too, and nobody but its own module waits for it.
    pub fn revoke(&self, revoke: Revoke) {
        self.push(revoke.version.clone(), Work::Revoke(revoke));
    }

    fn push(&self, version: Version, work: Work) {
        let module = version.module.clone();
        let mut queue = self.shared.lock();
        if queue.closed {
            return;
        }
        let cancel = Arc::clone(queue.flags.entry(version).or_default());
        queue.jobs.push(&module, Job { work, cancel });
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Ends what runs or waits of a version: it is answered with a retry. What is submitted afterwards runs.
    pub fn cancel(&self, version: &Version) {
        if let Some(flag) = self.shared.lock().flags.remove(version) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Begins nothing any more: what waits is dropped without an answer. When what runs has ended, every instance is told that the node stops.
    pub fn close(&self, done: Told) {
        let mut queue = self.shared.lock();
        queue.jobs.clear();
        queue.closed = true;
        let cancel = Arc::clone(&queue.closing);
        queue.last = Some(Job {
            work: Work::Close(done),
            cancel,
        });
        drop(queue);
        self.shared.changed.notify_all();
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
            queue.jobs.clear();
            for flag in queue.flags.values().chain([&queue.closing]) {
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
        while let Some((module, job)) = self.next() {
            let before = clock::processor_time();
            self.run(job, || {
                let took = clock::processor_time().saturating_sub(before);
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.lock().jobs.ended(&module, took_us);
                took_us
            });
        }
    }

    /// Does a job, has it charged, and hands on what came of it.
    fn run(&self, Job { work, cancel }: Job, charge: impl FnOnce() -> u64) {
        let (told, done) = match work {
            Work::Run(run, done) => {
                let (task, generation) = (run.task.clone(), run.generation);
                let rehearsed = (run.kind == Kind::Rehearse).then(|| run.version.clone());
                let processed = catch_unwind(AssertUnwindSafe(|| self.sandbox.run(*run, &cancel)));
                if let Some(version) = rehearsed {
                    // Under its number it never runs again.
                    self.lock().flags.remove(&version);
                }
                let mut processed = processed.unwrap_or_else(|_| broken(task, generation));
                processed.usage.cpu_us = charge();
                return done(processed);
            }
            Work::Revoke(revoke) => {
                let Revoke {
                    version,
                    task,
                    reason,
                    done,
                } = revoke;
                let revoke = || self.sandbox.revoke(&version, task, reason, &cancel);
                (catch_unwind(AssertUnwindSafe(revoke)), done)
            }
            Work::Close(done) => (catch_unwind(AssertUnwindSafe(|| self.sandbox.close(&cancel))), done),
        };
        charge();
        done(told.unwrap_or_default());
    }

    fn next(&self) -> Option<(String, Job)> {
        let mut queue = self.lock();
        loop {
            if queue.stopped {
                return None;
            }
            // All the others wait, so nothing runs.
            if queue.idle + 1 == queue.lanes
                && let Some(job) = queue.last.take()
            {
                return Some((String::new(), job));
            }
            if let Some(job) = queue.jobs.next() {
                // What has ended may let in more than one: those that were held back.
                if queue.idle != 0 && queue.jobs.has_next() {
                    self.changed.notify_one();
                }
                return Some(job);
            }
            queue.idle += 1;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("lanes", &self.lanes)
            .field("idle", &self.idle)
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
