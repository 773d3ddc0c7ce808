//! One task as its owner sees it: where it stands in its inputs, and what it is doing.
//!
//! ```text
//!   Finding ──► Unclaimed ──► Claiming ──► Idle ──► Reading ──► Running ──► Committing ──┐
//!   (start by                 (generation)  ▲ ▲                  │  ▲                    │ positions move
//!    time)                                  │ └──── again ───────┤  │                    │
//!                                           │                    ▼  │                    │
//!                                           ├───────────────── Waiting (backoff)         │
//!                                           ├─────────────────────────────────────────────┘
//!                                           ├──► Switching (to another release) ──► Idle
//!                                           └──► Migrating (a chunk of its state) ──► Idle
//! ```
//!
//! One batch is in flight at a time. Whatever happens to it, the positions move only with a commit.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use tidemill_protocol::{admin, ids::Uuid, manifest::Manifest};

use super::{
    durable,
    event_time::{self, EventTimes, Seen},
    policy::{self, Plan},
    redrive::Letter,
    run::{Due, Metric},
};
use crate::{effect::LogId, state::State};

/// One input partition of a task.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// Topic name.
    pub(super) topic: String,
    /// Topic identity.
    pub(super) id: Uuid,
    /// The partition's log.
    pub(super) log: LogId,
    /// Partition number.
    pub(super) partition: i32,
    /// Next offset to process.
    pub(super) position: i64,
    /// What is committed; the position may be above it when retention took records away.
    pub(super) committed: Option<i64>,
    /// How far it has come in event time.
    pub(super) seen: Seen,
}

impl Source {
    /// Takes the position from what is committed, or from the log's start.
    pub(super) fn seek(&mut self, state: &State, module: &str) {
        let start = state.logs.get(&self.log).map_or(0, |log| log.start);
        self.committed = state
            .offsets
            .get(module, &self.id, self.partition)
            .map(|committed| committed.offset);
        self.position = self.committed.unwrap_or(start).max(start);
    }

    /// End of what can be read.
    pub(super) fn high_watermark(&self, state: &State) -> i64 {
        state
            .logs
            .get(&self.log)
            .map_or(self.position, |log| log.high_watermark())
    }
}

/// What a task is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// Searches by time for where to begin; this many searches are out.
    Finding(usize),
    /// Knows where to begin; the claim is not proposed.
    Unclaimed,
    /// Its claim is proposed.
    Claiming,
    /// Nothing to do, or lingering for more until then.
    Idle(Option<i64>),
    /// A read from these sources is out, in this order.
    Reading(Vec<usize>),
    /// The guest runs.
    Running,
    /// The commit is proposed.
    Committing(Committing),
    /// Tries again then.
    Waiting(i64),
    /// Going on with this release is proposed.
    Switching(u32),
    /// A chunk of its state's migration for this release is with the host, or on its way to the log.
    Migrating(u32),
    /// Held while two versions are compared by what it has processed.
    Shadowing,
}

/// What becomes true with a commit.
#[derive(Debug, Default)]
pub(super) struct Committing {
    /// Where the sources stand then.
    pub(super) positions: Vec<i64>,
    /// What the guest measured.
    pub(super) metrics: Vec<Metric>,
    /// How far event time has come then.
    pub(super) event_time: Option<EventTimes>,
    /// When timers are due then.
    pub(super) due: Option<Due>,
    /// By how much the state has grown then.
    pub(super) state_growth: i64,
    /// Whether timers have fired.
    pub(super) fired: bool,
    /// Whether the guest was called: it is not where everything is given up.
    pub(super) served: bool,
}

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    /// Tells this ownership from earlier ones of the same number.
    pub(super) token: u64,
    /// Place of the member that owns it.
    pub(super) member: usize,
    /// Given by the claim or the last switch.
    pub(super) generation: u64,
    /// Number of the release that it runs.
    pub(super) release: u32,
    /// Inputs, in the order of the manifest.
    pub(super) sources: Vec<Source>,
    /// What it is doing.
    pub(super) phase: Phase,
    /// What its present records have been through.
    pub(super) plan: Plan,
    /// Whether the group wants it back after the batch at hand.
    pub(super) revoking: bool,
    /// Where to begin where nothing is committed: (topic, partition, offset).
    pub(super) starts: Vec<(Uuid, i32, i64)>,
    /// Source to read first, so that all get their turn.
    pub(super) turn: usize,
    /// The dead letter that is with the guest or on its way to the log, instead of a batch.
    pub(super) letter: Option<Letter>,
    /// Whether nothing that the guest was called for was committed since it was taken.
    pub(super) is_fresh: bool,
    /// Whether its release has event time. Another one's timers by event time wait until one has it again.
    pub(super) has_event_time: bool,
    /// Watermark as committed.
    pub(super) watermark: Option<i64>,
    /// When timers are due.
    pub(super) due: Due,
    /// Times that timers have fired.
    pub(super) firings: u64,
    /// Number of its state.
    pub(super) state: u64,
    /// Bytes of state.
    pub(super) state_bytes: u64,
    /// Whether it is idle because a table is not as far as it must be.
    pub(super) is_held: bool,
    /// When an idle task wants to be looked at though nothing was appended.
    pub(super) wake: Option<i64>,
}

impl Task {
    /// Begins where the durable task is.
    pub(super) fn take_over(&mut self, kept: &durable::Task, now: i64) {
        self.state = kept.state;
        self.watermark = kept.event_time.watermark;
        self.due = kept.due;
        self.firings = kept.firings;
        self.state_bytes = kept.state_bytes;
        for source in &mut self.sources {
            source.seen.latest = kept.event_time.latest.get(&source.id).copied();
            source.seen.heard = now;
        }
    }

    /// Sees event time as its release does.
    pub(super) fn follow(&mut self, manifest: &Manifest) {
        self.has_event_time = manifest.has_event_time();
        for source in &mut self.sources {
            if let Some(input) = manifest.input.iter().find(|input| input.topic == source.topic) {
                source.seen.follow(input);
            }
        }
    }

    /// Takes note of a commit.
    pub(super) fn commit(&mut self, done: &Committing, now: i64) {
        self.is_fresh &= !done.served;
        for (source, position) in self.sources.iter_mut().zip(&done.positions) {
            if source.position < *position {
                source.position = *position;
                source.committed = Some(*position);
                source.seen.heard = now;
            }
        }
        self.due = done.due.unwrap_or(self.due);
        self.firings += u64::from(done.fired);
        self.state_bytes = self.state_bytes.saturating_add_signed(done.state_growth);
        if let Some(event_time) = &done.event_time {
            self.watermark = self.watermark.max(event_time.watermark);
            for source in &mut self.sources {
                source.seen.latest = source.seen.latest.max(event_time.latest.get(&source.id).copied());
            }
        }
    }

    /// Where the watermark is when inputs have come as far as `seen` says.
    pub(super) fn watermark_at(&self, state: &State, seen: impl Iterator<Item = Seen>, now: i64) -> Option<i64> {
        let unread = self
            .sources
            .iter()
            .map(|source| source.position < source.high_watermark(state));
        let seen: Vec<Seen> = seen
            .zip(unread)
            .map(|(seen, unread)| Seen {
                heard: if unread { now } else { seen.heard },
                ..seen
            })
            .collect();
        event_time::watermark(self.watermark, &seen, now)
    }

    /// How far the inputs have come with what is committed.
    pub(super) fn seen(&self) -> impl Iterator<Item = Seen> {
        self.sources.iter().map(|source| source.seen)
    }

    /// Whether timers are due.
    pub(super) fn fires(&self, state: &State, now: i64) -> bool {
        if self.due.wall_clock.is_some_and(|at| at <= now) {
            return true;
        }
        let Some(at) = self.due.event_time.filter(|_| self.has_event_time) else {
            return false;
        };
        self.watermark_at(state, self.seen(), now)
            .is_some_and(|watermark| at <= watermark)
    }

    /// When to look again whether timers are due: by the clock, or because an input falls idle and holds the watermark up no longer.
    pub(super) fn next_wake(&self, now: i64) -> Option<i64> {
        let idle = |source: &Source| Some(source.seen.idle_at()).filter(|at| now < *at);
        let idle = self
            .due
            .event_time
            .filter(|_| self.has_event_time)
            .and_then(|_| self.sources.iter().filter_map(idle).min());
        self.due.wall_clock.into_iter().chain(idle).min()
    }

    /// Whether a batch is with the guest or on its way to the log.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Committing(_))
    }

    /// Whether it is owned but not begun.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Finding(_) | Phase::Unclaimed | Phase::Claiming)
    }

    /// Whether it has exactly these inputs.
    pub(super) fn reads(&self, sources: &[Source]) -> bool {
        let places = |sources: &[Source]| sources.iter().map(|source| source.log).collect::<Vec<_>>();
        places(&self.sources) == places(sources)
    }

    /// Records that can be read now, as far as the plan allows.
    pub(super) fn backlog(&self, state: &State) -> i64 {
        let waiting = |(place, source): (usize, &Source)| {
            let end = source.high_watermark(state).min(self.plan.until(place));
            end.saturating_sub(source.position).max(0)
        };
        self.sources
            .iter()
            .enumerate()
            .map(waiting)
            .fold(0, i64::saturating_add)
    }

    /// Places of the sources that have something, beginning with the one whose turn it is.
    pub(super) fn readable(&self, state: &State) -> Vec<usize> {
        let count = self.sources.len();
        let order = (0..count).map(|step| (self.turn + step) % count);
        let has_more = |place: &usize| {
            let source = &self.sources[*place];
            source.position < source.high_watermark(state).min(self.plan.until(*place))
        };
        order.filter(has_more).collect()
    }

    /// The inputs as the policy sees them.
    pub(super) fn policy_sources(&self) -> Vec<policy::Source<'_>> {
        let mut sources = Vec::with_capacity(self.sources.len());
        for Source {
            topic,
            partition,
            position,
            ..
        } in &self.sources
        {
            let (partition, position) = (partition.cast_unsigned(), *position);
            sources.push(policy::Source {
                topic,
                partition,
                position,
            });
        }
        sources
    }

    /// Place of an input.
    pub(super) fn place(&self, topic: &str, partition: u32) -> Option<usize> {
        let partition = i32::try_from(partition).ok()?;
        self.sources
            .iter()
            .position(|source| source.topic == topic && source.partition == partition)
    }

    /// When it wants to be looked at.
    pub(super) fn deadline(&self) -> Option<i64> {
        match self.phase {
            Phase::Idle(linger) => linger.into_iter().chain(self.wake).min(),
            Phase::Waiting(until) => Some(until),
            _ => None,
        }
    }

    /// For `status`.
    pub(super) fn phase(&self) -> admin::Phase {
        match self.phase {
            Phase::Idle(_) if self.is_held => admin::Phase::Waiting,
            Phase::Finding(_) | Phase::Unclaimed | Phase::Claiming | Phase::Switching(_) | Phase::Idle(_) => {
                admin::Phase::Idle
            }
            Phase::Reading(_) => admin::Phase::Reading,
            Phase::Running | Phase::Shadowing => admin::Phase::Running,
            Phase::Committing(_) => admin::Phase::Committing,
            Phase::Migrating(_) => admin::Phase::Migrating,
            Phase::Waiting(_) => admin::Phase::Waiting,
        }
    }
}

/// Tasks by number.
pub(super) type Tasks = BTreeMap<u32, Task>;
