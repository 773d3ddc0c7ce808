//! Everything that one call may see and leave behind: the data that host functions work on.
//!
//! A [`Guest`] lives as long as its store, a [`Call`] as long as one batch. Nothing of a call outlives it but what the run takes out.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tidemill_broker::module::run::{Coordinates, Metric, Run, StateReader};
use tidemill_protocol::manifest::Metrics as Declared;

use crate::{
    delivery::Delivery,
    limits,
    log::{Budget, Log},
    memory::Memory,
    output::Outputs,
    overlay::{Overlay, Quota},
    timers::Firing,
    wasi::Streams,
};

/// What a call may take, as `batch.timeout` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metering {
    /// Wall time.
    #[default]
    Time,
    /// Instructions, [`limits::FUEL_PER_MS`] for a millisecond: runs are the same on every machine, and slower.
    Instructions,
}

/// Why the host stops a guest in the middle of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    /// The call took longer than it may.
    #[error("time is up")]
    Timeout,
    /// The run was cancelled by its deployment.
    #[error("cancelled")]
    Cancelled,
    /// A bound of the host; the text names it.
    #[error("{0}")]
    Limit(String),
    /// `init` and `on-revoke` have no task to read, write or send for.
    #[error("`{0}` has no task: it cannot use state, timers, tables or the producer")]
    NoTask(&'static str),
    /// A migration is about state and nothing else.
    #[error("`migrate` can use state only: no timers, no tables, no producer")]
    OnlyState,
    /// The guest ended its process.
    #[error("the guest called exit")]
    Exit,
}

/// The data of a store.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Bounds of linear memory and tables.
    pub(crate) memory: Memory,
    /// Standard output and error.
    pub(crate) streams: Streams,
    /// The call that runs.
    pub(crate) call: Option<Call>,
}

impl Guest {
    /// Without a call yet.
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::default(),
            streams: Streams::default(),
            call: None,
        }
    }

    /// The call that runs. Host functions are reached from within a call only.
    pub(crate) fn call(&mut self) -> &mut Call {
        let call = self.call.as_mut().expect("a guest runs within a call");
        call.host_calls = call.host_calls.saturating_add(1);
        call
    }

    /// The call that runs, for what needs a task.
    ///
    /// # Errors
    /// In functions that have none.
    pub(crate) fn tasked(&mut self) -> Result<&mut Call, Stop> {
        let call = self.call();
        call.has_task()?;
        Ok(call)
    }
}

/// Which of its functions the guest is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// `lifecycle.init`.
    Init,
    /// `lifecycle.on-revoke`.
    OnRevoke,
    /// `migrator.migrate`, which has nothing but state.
    Migrate,
    /// Any that has a task.
    Task,
}

/// One batch in the hands of a guest.
pub(crate) struct Call {
    /// What was asked for; its records are in `delivery`.
    pub(crate) run: Arc<Run>,
    /// Records.
    pub(crate) delivery: Delivery,
    /// Timers that fire, instead of records.
    pub(crate) due: Vec<Firing>,
    /// Which function runs.
    pub(crate) within: Within,
    /// Records produced.
    pub(crate) outputs: Outputs,
    /// State written, by position in `run.buckets`.
    pub(crate) buckets: Vec<Overlay>,
    /// Timers set and cancelled; `None` until one is.
    pub(crate) timers: Option<Overlay>,
    /// Whether the component has a `timer-handler`.
    pub(crate) handles_timers: bool,
    /// State bytes.
    pub(crate) quota: Quota,
    /// Committed state.
    pub(crate) reader: Arc<dyn StateReader>,
    /// Records that the guest sent to the dead-letter topic.
    pub(crate) given_up: u32,
    /// Measurements.
    pub(crate) metrics: Metrics,
    /// Log lines.
    pub(crate) log: Log,
    /// Log lines left to the deployment.
    pub(crate) budget: Arc<Budget>,
    /// The record that the guest says it works on.
    pub(crate) mark: Option<u32>,
    /// Limits that refused something, with their keys in the manifest.
    pub(crate) limits_hit: Vec<String>,
    /// What was said about the guest.
    pub(crate) noticed: BTreeSet<String>,
    /// State of the guest's random numbers.
    pub(crate) random: u64,
    /// How far the guest's monotonic clock is ahead of the call's: it advances by looks and sleeps, not by time.
    pub(crate) waited_ns: u64,
    /// Calls from the guest into the host.
    pub(crate) host_calls: u32,
    /// When the call began.
    pub(crate) started: Instant,
    /// What bounds the call.
    pub(crate) metering: Metering,
    /// Set when nobody waits for the outcome any more.
    pub(crate) cancel: Arc<AtomicBool>,
}

impl Call {
    /// Nothing, if the guest may use state at the moment.
    ///
    /// # Errors
    /// In functions that have no task.
    pub(crate) fn has_state(&self) -> Result<(), Stop> {
        match self.within {
            Within::Migrate => Ok(()),
            _ => self.has_task(),
        }
    }

    /// Nothing, if the guest has a task at the moment.
    ///
    /// # Errors
    /// In functions that have none.
    pub(crate) fn has_task(&self) -> Result<(), Stop> {
        match self.within {
            Within::Task => Ok(()),
            Within::Migrate => Err(Stop::OnlyState),
            Within::Init => Err(Stop::NoTask("init")),
            Within::OnRevoke => Err(Stop::NoTask("on-revoke")),
        }
    }

    /// Whether the guest may go on.
    ///
    /// # Errors
    /// When its time is up or it was cancelled.
    pub(crate) fn check_time(&self) -> Result<(), Stop> {
        if self.cancel.load(Ordering::Relaxed) {
            Err(Stop::Cancelled)
        } else if self.remaining().is_zero() {
            Err(Stop::Timeout)
        } else {
            Ok(())
        }
    }

    /// When the guest is interrupted.
    pub(crate) fn deadline(&self) -> Instant {
        self.started + Duration::from_millis(self.run.limits.timeout_ms.into())
    }

    /// Time left before the guest is interrupted.
    pub(crate) fn remaining(&self) -> Duration {
        let all = Duration::from_millis(self.run.limits.timeout_ms.into());
        match self.metering {
            Metering::Time => all.saturating_sub(self.started.elapsed()),
            Metering::Instructions => all,
        }
    }

    /// The record being worked on, where it is known: marked, or the only one.
    pub(crate) fn suspect(&self) -> Option<Coordinates> {
        match self.mark {
            Some(index) => self.delivery.coordinates(index as usize),
            None if self.delivery.len() == 1 => self.delivery.coordinates(0),
            None => None,
        }
    }

    /// Timestamp for records that do not say theirs: of the record or timer being worked on, else of the youngest.
    pub(crate) fn timestamp(&self) -> i64 {
        let marked = self.mark.and_then(|index| {
            let record = self.delivery.get(index as usize).map(|(entry, _)| entry.timestamp);
            record.or_else(|| self.due.get(index as usize).map(|timer| timer.at))
        });
        let youngest = || self.delivery.records().iter().map(|entry| entry.timestamp).max();
        let last = || self.due.last().map(|timer| timer.at);
        marked.or_else(youngest).or_else(last).unwrap_or(self.run.now)
    }

    /// A line from the guest.
    pub(crate) fn log(&mut self, level: &'static str, message: &str) {
        let at = self.mark.and_then(|index| self.delivery.coordinates(index as usize));
        self.log.guest(&self.budget, level, at, message);
    }

    /// Remembers that a limit refused something, and says so once.
    pub(crate) fn hit(&mut self, what: String) {
        if !self.limits_hit.contains(&what) && self.limits_hit.len() < limits::NOTICES_MAX {
            self.log.host("warn", None, &what);
            self.limits_hit.push(what);
        }
    }

    /// Says something about the guest once.
    pub(crate) fn notice(&mut self, what: String) {
        if self.noticed.len() < limits::NOTICES_MAX && self.noticed.insert(what.clone()) {
            self.log.host("warn", None, &what);
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("task", &self.run.task)
            .field("delivery", &self.delivery.len())
            .finish_non_exhaustive()
    }
}

/// Measurements of a call: counters added up, the last value of a gauge, every value of a histogram.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    declared: Arc<Declared>,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    histograms: Vec<(String, f64)>,
}

impl Metrics {
    /// None yet, of those that the manifest declares.
    pub(crate) fn new(declared: Arc<Declared>) -> Self {
        Self {
            declared,
            ..Self::default()
        }
    }

    /// Adds one; false if its name is not declared. What is too much is dropped: a measurement never fails a call.
    pub(crate) fn add(&mut self, metric: Metric) -> bool {
        let (declared, name) = match &metric {
            Metric::Counter(name, _) => (&self.declared.counters, name),
            Metric::Gauge(name, _) => (&self.declared.gauges, name),
            Metric::Histogram(name, _) => (&self.declared.histograms, name),
        };
        if !declared.contains(name) {
            return false;
        }
        match metric {
            Metric::Counter(name, delta) => {
                let sum = self.counters.entry(name).or_default();
                *sum = sum.saturating_add(delta);
            }
            Metric::Gauge(name, value) => {
                self.gauges.insert(name, value);
            }
            Metric::Histogram(name, value) if self.histograms.len() < limits::MEASUREMENTS_MAX => {
                self.histograms.push((name, value));
            }
            Metric::Histogram(..) => {}
        }
        true
    }

    /// All of them, by kind and name.
    pub(crate) fn finish(self) -> Vec<Metric> {
        let counters = self
            .counters
            .into_iter()
            .map(|(name, value)| Metric::Counter(name, value));
        let gauges = self.gauges.into_iter().map(|(name, value)| Metric::Gauge(name, value));
        let histograms = self
            .histograms
            .into_iter()
            .map(|(name, value)| Metric::Histogram(name, value));
        counters.chain(gauges).chain(histograms).collect()
    }
}
