//! One batch through one guest: everything but threads.
//!
//! Guarantees: the same run over the same state gives the same outcome, down to the bytes; nothing of a call that did not end in
//! [`Verdict::Ack`] is left but its log. Decides nothing: see the core's `module`.
mod in_memory;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tidemill_broker::module::{
    Version,
    run::{Bucket, EventTime, Kind, Migrated, Processed, Run, StateReader, Ttl, Verdict},
};
use tidemill_protocol::manifest::Clock;
use wasmtime::{Engine, component::Resource};

use crate::{
    Error,
    artefact::Artefacts,
    bindings::tidemill::processor::{
        timers::Timer,
        types::{ProcessError, Task},
    },
    call::{Call, Metering, Metrics, Within},
    clock,
    code::{Code, Functions, Lifecycle, Progress, RevokeReason},
    delivery::Delivery,
    engine::{self, Ticker},
    fault,
    instance::{Idle, Instance, Key},
    limits,
    log::{Budget, Log},
    memory::Refusal,
    outcome::{Answer, unreadable_verdict},
    output::Outputs,
    overlay::{Expiry, Overlay, Quota},
    timers::{self, Firing},
    wasi,
};

/// Runs guests.
pub struct Sandbox {
    engine: Engine,
    ticker: Ticker,
    artefacts: Artefacts,
    reader: Arc<dyn StateReader>,
    codes: Mutex<BTreeMap<[u8; 32], Arc<Code>>>,
    budgets: Mutex<BTreeMap<String, Arc<Budget>>>,
    idle: Idle,
    metering: Metering,
}

impl Sandbox {
    /// A sandbox over the artefacts in a directory and the committed state.
    ///
    /// # Errors
    /// When this machine cannot run compiled code.
    pub fn new(artefacts: impl Into<PathBuf>, reader: Arc<dyn StateReader>) -> Result<Self, Error> {
        Self::over(engine::running()?, artefacts.into(), reader)
    }

    fn over(engine: Engine, artefacts: PathBuf, reader: Arc<dyn StateReader>) -> Result<Self, Error> {
        Ok(Self {
            ticker: Ticker::start(&engine)?,
            artefacts: Artefacts::new(artefacts, &engine),
            engine,
            reader,
            codes: Mutex::default(),
            budgets: Mutex::default(),
            idle: Idle::default(),
            metering: Metering::default(),
        })
    }

    /// Where artefacts are.
    pub fn artefacts(&self) -> &Artefacts {
        &self.artefacts
    }

    /// Loads a component's artefact, so that the first batch need not.
    ///
    /// # Errors
    /// When it is absent or damaged.
    pub fn load(&self, digest: &[u8; 32]) -> Result<(), Error> {
        self.code(digest).map(drop)
    }

    /// Drops a version's instances and its code. Another version of the same code loads it anew when it needs it. The instances are not
    /// told: see [`Sandbox::revoke`].
    pub fn forget(&self, version: &Version) {
        drop(self.idle.take_all(|(other, _)| other == version));
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.remove(&version.digest);
    }

    /// Tells the idle instances of a version, or of one of its tasks, that their task leaves, and drops them. What they log is given
    /// back, one answer an instance. A true `cancel` makes it end early. For a lane: guests run.
    pub fn revoke(
        &self,
        version: &Version,
        task: Option<u32>,
        reason: RevokeReason,
        cancel: &Arc<AtomicBool>,
    ) -> Vec<Processed> {
        self.tell(
            |(own, key)| own == version && task.is_none_or(|number| key.number == number),
            reason,
            cancel,
        )
    }

    /// Tells every idle instance that the node stops, as [`Sandbox::revoke`] does.
    pub fn close(&self, cancel: &Arc<AtomicBool>) -> Vec<Processed> {
        self.tell(|_| true, RevokeReason::Shutdown, cancel)
    }

    fn tell(&self, whom: impl Fn(&Key) -> bool, reason: RevokeReason, cancel: &Arc<AtomicBool>) -> Vec<Processed> {
        let instances = self.idle.take_all(whom).into_iter();
        instances
            .take_while(|_| !cancel.load(Ordering::Relaxed))
            .filter_map(|instance| self.revoked(instance, reason, cancel))
            .collect()
    }

    /// Runs one batch, or what else [`Run::kind`] says. A true `cancel` makes it end as soon as the guest can be interrupted.
    pub fn run(&self, run: Run, cancel: &Arc<AtomicBool>) -> Processed {
        let run = Arc::new(run);
        let mut call = self.call(&run, cancel);
        if let Some((at, unreadable)) = call.delivery.unreadable() {
            let verdict = unreadable_verdict(at, unreadable);
            return call.outcome(verdict, 0);
        }
        if let Kind::Timers(most) = run.kind {
            call.take_timers(most as usize);
        }
        let has_nothing = match &run.kind {
            Kind::Copy { after } => return call.copy(after),
            Kind::Records => call.delivery.len() == 0,
            Kind::Timers(_) => call.due.is_empty(),
            Kind::Migrate { .. } | Kind::Rehearse => false,
        };
        if has_nothing {
            return call.acknowledge(0, 0);
        }
        match self.code(&run.version.digest) {
            Ok(code) => self.process(&code, call),
            Err(error) => call.outcome(
                Verdict::Fatal(format!("version {} cannot be loaded: {error}", run.version.label)),
                0,
            ),
        }
    }

    fn call(&self, run: &Arc<Run>, cancel: &Arc<AtomicBool>) -> Call {
        let delivery = Delivery::cut(&run.inputs, &run.limits);
        let (place, kind) = place(run, &delivery);
        let started = clock::now();
        let outputs = Outputs::new(
            Arc::clone(&run.outputs),
            run.limits.output_bytes_max,
            (run.task.number, place),
        );
        let buckets = run
            .buckets
            .iter()
            .map(|bucket| Overlay::new(expiry(run, bucket, &delivery)));
        Call {
            run: Arc::clone(run),
            buckets: buckets.collect(),
            delivery,
            due: Vec::new(),
            within: Within::Task,
            outputs,
            timers: None,
            handles_timers: false,
            quota: Quota {
                max: run.limits.state_write_bytes_max,
                state: run.state_bytes,
                state_max: run.limits.state_bytes_max,
                ..Quota::default()
            },
            reader: Arc::clone(&self.reader),
            given_up: 0,
            metrics: Metrics::new(Arc::clone(&run.metrics)),
            log: Log::new(run.task.number, run.now, started, run.limits.log_lines_per_second),
            budget: self.budget(&run.task.module),
            mark: None,
            limits_hit: Vec::new(),
            noticed: BTreeSet::new(),
            random: wasi::task_seed(&run.task) ^ kind ^ place.cast_unsigned(),
            waited_ns: 0,
            host_calls: 0,
            started,
            metering: self.metering,
            cancel: Arc::clone(cancel),
        }
    }

    fn process(&self, code: &Code, mut call: Call) -> Processed {
        let run = Arc::clone(&call.run);
        call.handles_timers = code.handles_timers();
        let key = (run.version.clone(), run.task.clone());
        let mut instance = self.idle.take(&key).unwrap_or_else(|| Instance::new(&self.engine));
        instance.bound(&run.limits);
        instance.store.data_mut().call = Some(call);
        let answer = {
            let _tick = self.ticker.guest();
            instance.store.set_epoch_deadline(1);
            self.fuel(&mut instance, &run.limits);
            self.call_guest(code, &mut instance, &run)
        };
        let (call, refusal, memory_bytes) = instance.end_call();
        match answer {
            Ok(answer) => {
                let is_kept = matches!(answer, Answer::Batch(_) | Answer::Timers(_));
                if is_kept && instance.is_good_for_another(&run.limits) {
                    self.idle.keep(key, instance);
                }
                call.answered(answer, memory_bytes)
            }
            Err(error) => {
                let verdict = fault::verdict(&error, refusal, &call);
                call.outcome(verdict, memory_bytes)
            }
        }
    }

    /// Everything that is called in the guest for one run.
    fn call_guest(&self, code: &Code, instance: &mut Instance, run: &Arc<Run>) -> wasmtime::Result<Answer> {
        let is_new = instance.functions.is_none();
        let functions = self.instantiated(code, instance)?;
        if let Some(lifecycle) = &functions.lifecycle
            && let Some(refused) = instance.prepare(lifecycle, run, is_new)?
        {
            return Ok(refused);
        }
        let store = &mut instance.store;
        match &run.kind {
            Kind::Copy { .. } => unreachable!("rows are copied without a guest"),
            Kind::Records => {
                let batch = Resource::new_borrow(0);
                Ok(Answer::Batch(functions.process.call(store, (batch,))?.0))
            }
            Kind::Timers(_) => {
                let Some(on_timers) = functions.on_timers else {
                    let why = "timers are due, but the component does not export `timer-handler`";
                    return Ok(Answer::Timers(Err(ProcessError::Fatal(why.into()))));
                };
                let due = store.data_mut().call().wire_timers();
                Ok(Answer::Timers(on_timers.call(store, (due,))?.0))
            }
            Kind::Rehearse => {
                store.data_mut().call().within = Within::Init;
                let version = functions
                    .migrator
                    .map(|migrator| migrator.state_version.call(store, ()));
                Ok(Answer::Rehearsed(version.transpose()?.map(|(version,)| version)))
            }
            Kind::Migrate { from_version, cursor } => {
                let Some(migrator) = functions.migrator else {
                    let why = "the component does not export it".to_owned();
                    return Ok(Answer::Refused("migrator", why));
                };
                store.data_mut().call().within = Within::Migrate;
                let arguments = (task(run), *from_version, cursor.as_ref().map(|cursor| cursor.to_vec()));
                Ok(match migrator.migrate.call(store, arguments)?.0 {
                    Ok(Progress::Done) => Answer::Migrated(Migrated::Done),
                    Ok(Progress::More(cursor)) if limits::CURSOR_BYTES_MAX < cursor.len() => {
                        let most = limits::CURSOR_BYTES_MAX;
                        let why = format!("its cursor has {} bytes, at most {most} are kept", cursor.len());
                        Answer::Refused("migrate", why)
                    }
                    Ok(Progress::More(cursor)) => Answer::Migrated(Migrated::More(cursor.into())),
                    Err(why) => Answer::Refused("migrate", why),
                })
            }
        }
    }

    fn revoked(&self, mut instance: Instance, reason: RevokeReason, cancel: &Arc<AtomicBool>) -> Option<Processed> {
        let (lifecycle, run) = (instance.functions?.lifecycle?, instance.assigned.take()?);
        let mut call = self.call(&run, cancel);
        call.within = Within::OnRevoke;
        instance.store.data_mut().call = Some(call);
        let told = {
            let _tick = self.ticker.guest();
            instance.store.set_epoch_deadline(1);
            lifecycle.on_revoke.call(&mut instance.store, (task(&run), reason))
        };
        let (mut call, _, memory_bytes) = instance.end_call();
        if let Err(error) = told {
            let why = format!(
                "`on-revoke` failed, which changes nothing: {}",
                crate::error::chain(&error)
            );
            call.log.host("warn", None, &why);
        }
        // Its task is over: whoever takes this for the outcome of a run has another generation.
        Some(Processed {
            generation: 0,
            ..call.outcome(Verdict::Ack, memory_bytes)
        })
    }

    fn instantiated(&self, code: &Code, instance: &mut Instance) -> wasmtime::Result<Functions> {
        if let Some(functions) = &instance.functions {
            return Ok(*functions);
        }
        let functions = match code.instantiate(&mut instance.store) {
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() && self.idle.make_room() => {
                code.instantiate(&mut instance.store)?
            }
            instantiated => instantiated?,
        };
        instance.functions = Some(functions);
        Ok(functions)
    }

    fn code(&self, digest: &[u8; 32]) -> Result<Arc<Code>, Error> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.get(digest) {
            return Ok(Arc::clone(code));
        }
        let component = self.artefacts.load(&self.engine, digest)?;
        let code = Arc::new(Code::new(&self.engine, &component).map_err(Error::component)?);
        codes.insert(*digest, Arc::clone(&code));
        Ok(code)
    }

    fn budget(&self, module: &str) -> Arc<Budget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(budgets.entry(module.to_owned()).or_default())
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("artefacts", &self.artefacts)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Calls `init` in a new instance, and `on-assign` in one that does not know the task's owner yet or whose task has committed
    /// nothing since: what `on-assign` wrote before is then nowhere.
    fn prepare(&mut self, lifecycle: &Lifecycle, run: &Arc<Run>, is_new: bool) -> wasmtime::Result<Option<Answer>> {
        if is_new {
            self.store.data_mut().call().within = Within::Init;
            let (ready,) = lifecycle.init.call(&mut self.store, ())?;
            if let Err(why) = ready {
                return Ok(Some(Answer::Refused("init", why)));
            }
            self.store.data_mut().call().within = Within::Task;
        }
        let knows = |known: &Arc<Run>| known.generation == run.generation;
        let is_served = matches!(run.kind, Kind::Records | Kind::Timers(_));
        if !is_served || !run.is_fresh && self.assigned.as_ref().is_some_and(knows) {
            return Ok(None);
        }
        let (ready,) = lifecycle.on_assign.call(&mut self.store, (task(run),))?;
        self.assigned = Some(Arc::new(Run {
            inputs: Vec::new(),
            kind: Kind::Records,
            ..Run::clone(run)
        }));
        Ok(ready.err().map(|why| Answer::Refused("on-assign", why)))
    }

    /// Takes the call out again.
    fn end_call(&mut self) -> (Call, Option<Refusal>, u64) {
        let guest = self.store.data_mut();
        wasi::flush(guest);
        let refusal = guest.memory.take_refusal();
        let memory_bytes = guest.memory.bytes() as u64;
        let call = guest.call.take().expect("a call was put there");
        (call, refusal, memory_bytes)
    }
}

/// What tells a run from all others of its task, and is the same when it is done again: the first record's offset, and its topic as a number; the
/// number of the firing where there are no records.
pub(crate) fn place(run: &Run, delivery: &Delivery) -> (i64, u64) {
    match delivery.coordinates(0) {
        Some(first) => (first.offset, wasi::text_seed(0, &first.topic)),
        None => (run.firings.cast_signed(), u64::MAX),
    }
}

/// The task, as the guest is told.
fn task(run: &Run) -> Task {
    Task {
        deployment: run.task.module.clone(),
        version: run.version.label.clone(),
        number: run.task.number,
        generation: run.generation,
    }
}

/// When entries of a bucket expire that are written now, and which have. By event time a batch is as old as its oldest record may be when
/// it reads, and as young as its youngest when it writes: so an entry is seen by every record that comes within its ttl and is not late.
fn expiry(run: &Run, bucket: &Bucket, delivery: &Delivery) -> Option<Expiry> {
    let Ttl { ms, clock } = bucket.ttl?;
    let (read_at, write_at) = match clock {
        Clock::WallClock => (Some(run.now), Some(run.now)),
        Clock::EventTime => {
            let EventTime { watermark, latest } = run.event_time.unwrap_or_default();
            let youngest = delivery.records().iter().map(|entry| entry.timestamp).max();
            (watermark, watermark.max(latest).max(youngest))
        }
    };
    Some(Expiry {
        clock,
        read_at,
        expires_at: write_at.map_or(i64::MAX, |at| at.saturating_add(ms)),
        keeps_age: matches!(run.kind, Kind::Migrate { .. }),
    })
}

impl Call {
    /// Takes out the timers that fire: they are gone with the commit, unless the guest sets them again.
    fn take_timers(&mut self, most: usize) {
        let watermark = self.run.event_time.and_then(|event_time| event_time.watermark);
        let committed = timers::committed(self.reader.as_ref(), &self.run.task);
        self.due = timers::due(committed, watermark, self.run.now, most);
        let mut quota = Quota {
            max: usize::MAX,
            ..self.quota
        };
        let overlay = self.timers.get_or_insert_default();
        // Taking out needs no room, and is not the guest's to pay for.
        let removed = timers::remove(overlay, committed, &self.due, &mut quota);
        debug_assert_eq!(removed, Ok(()), "no quota refuses to delete");
        self.quota = Quota {
            max: self.quota.max.saturating_add(quota.used),
            ..quota
        };
    }

    fn wire_timers(&self) -> Vec<Timer> {
        let timer = |timer: &Firing| Timer {
            clock: timer.clock.into(),
            name: timer.name.clone(),
            key: timer.key.clone(),
            at: timer.at,
            payload: timer.payload.to_vec(),
        };
        self.due.iter().map(timer).collect()
    }
}
