//! The loop's way to the Wasm host: runs go to the lanes, loading goes to a thread of its own.
//!
//! The host starts with the first module: a daemon without modules has neither its threads nor its address space.
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, OnceLock},
};

use tidemill_broker::module::{
    Version, rehearsal,
    run::{Processed, Run, StateReader},
};
use tidemill_host::{Lanes, Revoke, RevokeReason, Sandbox};
use tidemill_protocol::manifest::Manifest;

use super::{
    compiler::Compiler,
    event::{Event, Events},
    readers::Readers,
};
use crate::clock;

/// Lanes, and what they need to be started.
pub(super) struct Modules {
    shared: Arc<Shared>,
    events: Events,
    loader: Readers,
    rehearsals: u32,
}

/// Numbers of versions that are rehearsed: no release is ever among them.
const REHEARSALS: u32 = 1 << 31;

struct Shared {
    compiler: Arc<Compiler>,
    state: Arc<dyn StateReader>,
    lane_count: usize,
    lanes: OnceLock<Lanes>,
}

impl Modules {
    pub(super) fn new(
        compiler: Arc<Compiler>,
        state: Arc<dyn StateReader>,
        lanes: usize,
        events: Events,
    ) -> io::Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let lane_count = if lanes == 0 { cores() } else { lanes };
        let shared = Arc::new(Shared {
            compiler,
            state,
            lane_count,
            lanes: OnceLock::new(),
        });
        Ok(Self {
            shared,
            events,
            loader: Readers::start("loader", 1)?,
            rehearsals: 0,
        })
    }

    /// Runs a batch; what comes of it is an event.
    pub(super) fn run(&self, run: Run) {
        let events = self.events.clone();
        // The core runs only what has been loaded, and loading starts the lanes.
        if let Some(lanes) = self.shared.lanes.get() {
            lanes.submit(
                run,
                Box::new(move |processed| drop(events.send(Event::Processed(Box::new(processed))))),
            );
        }
    }

    /// Tries whether a component that was staged starts, before it is deployed. What comes of it goes to `then`, on whatever thread.
    pub(super) fn rehearse(
        &mut self,
        manifest: &Manifest,
        digest: [u8; 32],
        then: impl FnOnce(Result<u32, String>) + Send + 'static,
    ) {
        self.rehearsals = self.rehearsals.wrapping_add(1);
        let run = rehearsal::run(manifest, digest, REHEARSALS | self.rehearsals, clock::wall_ms());
        let (shared, version) = (Arc::clone(&self.shared), run.version.clone());
        self.loader.run(move || match shared.load(&version) {
            Err(error) => then(Err(error)),
            Ok(()) => {
                let Some(lanes) = shared.lanes.get() else { return };
                let sandbox = Arc::clone(lanes.sandbox());
                let done = Box::new(move |processed: Processed| {
                    // Whoever runs the same code loads it anew.
                    sandbox.forget(&version);
                    then(rehearsal::outcome(&processed));
                });
                lanes.submit(run, done);
            }
        });
    }

    /// Makes a version ready; whether it worked is an event.
    pub(super) fn load(&self, version: Version) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.loader.run(move || {
            let result = shared.load(&version);
            let _ = events.send(Event::Loaded(version, result));
        });
    }

    /// Tells the instance of a task that left that it did.
    pub(super) fn revoke(&self, version: Version, task: u32) {
        if let Some(lanes) = self.shared.lanes.get() {
            lanes.revoke(self.revocation(version, Some(task), RevokeReason::Rebalance, || {}));
        }
    }

    /// Drops what is kept of a version that will not run again, after its instances have been told.
    pub(super) fn unload(&self, version: Version, is_paused: bool) {
        let Some(lanes) = self.shared.lanes.get() else { return };
        lanes.cancel(&version);
        let reason = if is_paused {
            RevokeReason::Pause
        } else {
            RevokeReason::Upgrade
        };
        let (sandbox, gone) = (Arc::clone(lanes.sandbox()), version.clone());
        lanes.revoke(self.revocation(version, None, reason, move || sandbox.forget(&gone)));
    }

    /// Lets what runs end, then tells every instance that the node stops. That it is done is an event, with what they log.
    pub(super) fn close(&self) {
        let events = self.events.clone();
        let done = move |told| drop(events.send(Event::ModulesClosed(told)));
        match self.shared.lanes.get() {
            Some(lanes) => lanes.close(Box::new(done)),
            None => done(Vec::new()),
        }
    }

    /// What the instances log on their way is an event, like any outcome.
    fn revocation(
        &self,
        version: Version,
        task: Option<u32>,
        reason: RevokeReason,
        then: impl FnOnce() + Send + 'static,
    ) -> Revoke {
        let events = self.events.clone();
        Revoke {
            version,
            task,
            reason,
            done: Box::new(move |told| {
                then();
                for processed in told {
                    let _ = events.send(Event::Processed(Box::new(processed)));
                }
            }),
        }
    }

    /// Deletes the components that are none of these, on the loader's thread.
    pub(super) fn keep(&self, digests: BTreeSet<[u8; 32]>) {
        let shared = Arc::clone(&self.shared);
        self.loader.run(move || shared.compiler.keep(&digests));
    }
}

impl Shared {
    fn load(&self, version: &Version) -> Result<(), String> {
        let lanes = self.lanes()?;
        self.compiler.ensure(&version.digest, lanes.sandbox().artefacts())?;
        lanes.sandbox().load(&version.digest).map_err(|e| e.to_string())
    }

    /// Only the loader's one thread calls this, so nothing is started twice.
    fn lanes(&self) -> Result<&Lanes, String> {
        if let Some(lanes) = self.lanes.get() {
            return Ok(lanes);
        }
        let sandbox = Sandbox::new(self.compiler.directory(), Arc::clone(&self.state)).map_err(|e| e.to_string())?;
        let lanes = Lanes::start(self.lane_count, Arc::new(sandbox)).map_err(|e| e.to_string())?;
        Ok(self.lanes.get_or_init(|| lanes))
    }
}
