//! One batch through one guest: everything but threads.
//!
//! Guarantees: the same run over the same state gives the same outcome, down to the bytes; nothing of a call that did not end in
//! [`Verdict::Ack`] is left but its log. Decides nothing: see the core's `module`.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use tidemill_broker::module::{
    Version,
    run::{Coordinates, Failure, Processed, Run, StateReader, Usage, Verdict},
};
use wasmtime::{Engine, component::Resource};

use crate::{
    Error,
    artefact::Artefacts,
    bindings::tidemill::processor::types::{Ack, ProcessError},
    call::{Call, Metrics},
    clock,
    code::Code,
    dead_letter::Letter,
    delivery::{Delivery, GivenUp, Unreadable},
    engine::{self, Ticker},
    fault,
    instance::{Idle, Instance},
    log::{Budget, Log},
    output::Outputs,
    overlay::{Overlay, Quota},
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
}

impl Sandbox {
    /// A sandbox over the artefacts in a directory and the committed state.
    ///
    /// # Errors
    /// When this machine cannot run compiled code.
    pub fn new(artefacts: impl Into<PathBuf>, reader: Arc<dyn StateReader>) -> Result<Self, Error> {
        let engine = engine::running()?;
        Ok(Self {
            ticker: Ticker::start(&engine)?,
            artefacts: Artefacts::new(artefacts, &engine),
            engine,
            reader,
            codes: Mutex::default(),
            budgets: Mutex::default(),
            idle: Idle::default(),
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

    /// Drops a version's instances and its code. Another version of the same code loads it anew when it needs it.
    pub fn forget(&self, version: &Version) {
        self.idle.forget(version);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.remove(&version.digest);
    }

    /// Runs one batch. A true `cancel` makes it end as soon as the guest can be interrupted.
    pub fn run(&self, run: Run, cancel: &Arc<AtomicBool>) -> Processed {
        let run = Arc::new(run);
        let call = self.call(&run, cancel);
        if let Some((at, unreadable)) = call.delivery.unreadable() {
            let verdict = unreadable_verdict(at, unreadable);
            return call.outcome(verdict, 0);
        }
        if call.delivery.len() == 0 {
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
        let first_offset = delivery.records().first().map_or(0, |entry| entry.offset);
        let started = clock::now();
        let outputs = Outputs::new(
            Arc::clone(&run.outputs),
            run.limits.output_bytes_max,
            (run.task.number, first_offset),
        );
        Call {
            run: Arc::clone(run),
            delivery,
            outputs,
            buckets: run.buckets.iter().map(|_| Overlay::default()).collect(),
            quota: Quota {
                used: 0,
                max: run.limits.state_bytes_max,
            },
            reader: Arc::clone(&self.reader),
            given_up: 0,
            metrics: Metrics::new(Arc::clone(&run.metrics)),
            log: Log::new(run.task.number, run.now, started, run.limits.log_lines_per_second),
            budget: self.budget(&run.task.module),
            mark: None,
            limits_hit: Vec::new(),
            noticed: BTreeSet::new(),
            random: wasi::task_seed(&run.task) ^ first_offset.cast_unsigned(),
            waited_ns: 0,
            host_calls: 0,
            started,
            cancel: Arc::clone(cancel),
        }
    }

    fn process(&self, code: &Code, call: Call) -> Processed {
        let run = Arc::clone(&call.run);
        let key = (run.version.clone(), run.task.clone());
        let mut instance = self.idle.take(&key).unwrap_or_else(|| Instance::new(&self.engine));
        instance.bound(&run.limits);
        instance.store.data_mut().call = Some(call);
        let answer = {
            let _tick = self.ticker.guest();
            instance.store.set_epoch_deadline(1);
            self.instantiated(code, &mut instance)
                .and_then(|process| process.call(&mut instance.store, (Resource::new_borrow(0),)))
        };
        let guest = instance.store.data_mut();
        wasi::flush(guest);
        let refusal = guest.memory.take_refusal();
        let memory_bytes = guest.memory.bytes() as u64;
        let call = guest.call.take().expect("put there above");
        match answer {
            Ok(answer) => {
                if instance.is_good_for_another(&run.limits) {
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

    fn instantiated(&self, code: &Code, instance: &mut Instance) -> wasmtime::Result<crate::code::Process> {
        if let Some(process) = &instance.process {
            return Ok(*process);
        }
        let process = match code.instantiate(&mut instance.store) {
            Err(error) if error.is::<wasmtime::PoolConcurrencyLimitError>() && self.idle.make_room() => {
                code.instantiate(&mut instance.store)?
            }
            instantiated => instantiated?,
        };
        instance.process = Some(process);
        Ok(process)
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

impl Call {
    /// What the guest's answer means.
    fn answered(self, answer: (Result<Ack, ProcessError>,), memory_bytes: u64) -> Processed {
        let count = self.delivery.len();
        let verdict = match answer.0 {
            Ok(Ack::All) => return self.acknowledge(count, memory_bytes),
            Ok(Ack::First(0)) => self.retry("`ack.first(0)` makes no progress".into(), None),
            Ok(Ack::First(first)) if first as usize <= count => return self.acknowledge(first as usize, memory_bytes),
            Ok(Ack::First(first)) => {
                fault::failed(Failure::Trap, format!("`ack.first({first})` of {count} records"), &self)
            }
            Err(ProcessError::Retry(retry)) => self.retry(retry.reason, retry.after_ms),
            Err(ProcessError::Poison(poison)) => match self.delivery.coordinates(poison.index as usize) {
                Some(at) => Verdict::Poison {
                    at,
                    code: poison.failure.code,
                    reason: poison.failure.reason,
                },
                None => fault::failed(
                    Failure::Trap,
                    format!("`poison({})` of {count} records", poison.index),
                    &self,
                ),
            },
            Err(ProcessError::Fatal(reason)) => Verdict::Fatal(reason),
        };
        self.outcome(verdict, memory_bytes)
    }

    fn retry(&self, reason: String, after_ms: Option<u32>) -> Verdict {
        Verdict::Retry {
            reason,
            after_ms,
            delivered: self.delivery.delivered(),
        }
    }

    /// Commits the first `count` records, with the dead letters of what is given up before them.
    fn acknowledge(mut self, count: usize, memory_bytes: u64) -> Processed {
        let next = self.delivery.next(count);
        if let Err(fatal) = self.give_up(&next) {
            return self.outcome(Verdict::Fatal(fatal), memory_bytes);
        }
        let names = Arc::clone(&self.run.buckets);
        let state = std::mem::take(&mut self.buckets).into_iter().zip(names.iter());
        let state = state
            .flat_map(|(bucket, name)| bucket.into_writes().map(|(key, value)| (name.clone(), key, value)))
            .collect();
        let (given_up, output_records) = (self.given_up, self.outputs.records());
        let outputs = std::mem::take(&mut self.outputs).finish();
        let metrics = std::mem::take(&mut self.metrics).finish();
        Processed {
            next,
            given_up,
            output_records,
            outputs,
            state,
            metrics,
            ..self.outcome(Verdict::Ack, memory_bytes)
        }
    }

    fn give_up(&mut self, next: &[(String, u32, i64)]) -> Result<(), String> {
        self.outputs.lift_quota();
        for GivenUp { entry, source, give_up } in self.delivery.given_up() {
            let (topic, partition, next) = &next[usize::from(*source)];
            let (Some(letters), true) = (&self.run.dead_letter, give_up.dead_letter && give_up.offset < *next) else {
                continue;
            };
            let at = Coordinates {
                topic: topic.clone(),
                partition: *partition,
                offset: give_up.offset,
            };
            let letter = Letter::new(&self.run, &at, &give_up.code, &give_up.reason, give_up.attempt);
            letter
                .put(&mut self.outputs, letters, &self.delivery, entry.as_ref())
                .map_err(|refused| {
                    format!(
                        "dead-letter topic `{letters}` does not take record {topic}-{partition}@{}: {refused:?}",
                        at.offset
                    )
                })?;
        }
        Ok(())
    }

    /// The outcome of a run that leaves nothing but its log.
    fn outcome(self, verdict: Verdict, memory_bytes: u64) -> Processed {
        let usage = Usage {
            records: u32::try_from(self.delivery.len()).unwrap_or(u32::MAX),
            bytes: self.delivery.bytes() as u64,
            guest_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            memory_bytes,
            host_calls: self.host_calls,
        };
        Processed {
            task: self.run.task.clone(),
            generation: self.run.generation,
            verdict,
            next: Vec::new(),
            given_up: 0,
            output_records: 0,
            outputs: Vec::new(),
            state: Vec::new(),
            metrics: Vec::new(),
            logs: self.log.finish(),
            usage,
        }
    }
}

fn unreadable_verdict(at: Coordinates, unreadable: &Unreadable) -> Verdict {
    match unreadable {
        Unreadable::Record(_, error) => Verdict::Poison {
            at,
            code: "bad-record-batch".into(),
            reason: format!("the record cannot be read: {error}"),
        },
        Unreadable::Batch(_, error) => Verdict::Fatal(format!(
            "the log of {}-{} is damaged at offset {}: {error}",
            at.topic, at.partition, at.offset
        )),
    }
}
