//! A host in memory, one for each thread: what `cargo test` of a module runs on.
use std::{cell::RefCell, collections::BTreeMap};

use super::{Columns, OutputColumns, Projection, SendError, StateError, TableError, TimerError};
use crate::{
    bindings::tidemill::processor::{
        logging,
        timers::{Clock, Timer},
        types::{Header, Source},
    },
    state::{Entry, Page},
    testing::{Input, Sent},
};

pub(crate) type Handle<'a> = &'a [Input];
pub(crate) type Buckets = BTreeMap<String, Entries>;
/// Timers in the order in which they fire: (whether by the clock, time, name, key), payload.
pub(crate) type Timers = BTreeMap<(bool, i64, String, Vec<u8>), Vec<u8>>;

/// One bucket.
#[derive(Clone, Default)]
pub(crate) struct Entries {
    /// Milliseconds after the last write, and by which clock.
    pub(crate) ttl: Option<(i64, Clock)>,
    /// Key, value and when it expires.
    pub(crate) rows: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
}

/// Event time, as the host keeps it.
#[derive(Clone, Copy, Default)]
pub(crate) struct EventTime {
    pub(crate) max_out_of_order: i64,
    pub(crate) watermark: Option<i64>,
    /// The largest timestamp, that of the call's own records included.
    pub(crate) latest: Option<i64>,
}

/// Everything that a call can see or leave behind.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) event_time: Option<EventTime>,
    pub(crate) timers: Timers,
    pub(crate) handles_timers: bool,
    pub(crate) attempt: u32,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) topics: Vec<String>,
    pub(crate) buckets: Buckets,
    pub(crate) tables: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) dead: Vec<(u32, String, String)>,
    pub(crate) logs: Vec<String>,
    pub(crate) counters: BTreeMap<String, u64>,
}

impl World {
    /// What the clock of a bucket says to a reader and to a writer.
    fn clocks(&self, clock: Clock) -> (Option<i64>, Option<i64>) {
        match (clock, self.event_time) {
            (Clock::WallClock, _) => (Some(self.now), Some(self.now)),
            (Clock::EventTime, None) => (None, None),
            (Clock::EventTime, Some(time)) => (time.watermark, time.watermark.max(time.latest)),
        }
    }

    /// Takes out what has expired.
    pub(crate) fn expire(&mut self) {
        let clocks = [self.clocks(Clock::EventTime).0, self.clocks(Clock::WallClock).0];
        for bucket in self.buckets.values_mut() {
            let Some((_, clock)) = bucket.ttl else { continue };
            if let Some(now) = clocks[usize::from(clock == Clock::WallClock)] {
                bucket.rows.retain(|_, (_, expires_at)| now < *expires_at);
            }
        }
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Runs a closure with this world in place; gives back what it has become.
pub(crate) fn within<T>(world: World, call: impl FnOnce() -> T) -> (T, World) {
    WORLD.set(world);
    let answer = call();
    (answer, WORLD.take())
}

fn with<T>(f: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(f)
}

fn signed(bytes: Option<&Vec<u8>>) -> i32 {
    bytes.map_or(-1, |b| i32::try_from(b.len()).expect("a test's record is small"))
}

pub(crate) fn len(batch: Handle<'_>) -> u32 {
    u32::try_from(batch.len()).expect("a test's batch is small")
}

fn source(input: &Input) -> Source {
    Source {
        topic: input.topic.clone(),
        partition: input.partition,
    }
}

pub(crate) fn sources(batch: Handle<'_>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for input in batch {
        if !sources
            .iter()
            .any(|s| s.topic == input.topic && s.partition == input.partition)
        {
            sources.push(source(input));
        }
    }
    sources
}

pub(crate) fn read(batch: Handle<'_>, first: u32, records: u32, _bytes: u32, what: Projection) -> Columns {
    let sources = sources(batch);
    let id = |i: &Input| {
        sources
            .iter()
            .position(|s| s.topic == i.topic && s.partition == i.partition)
    };
    let page = || batch.iter().skip(first as usize).take(records as usize);
    let mut data = Vec::new();
    for input in page() {
        let key = input.key.iter().filter(|_| what.contains(Projection::KEYS));
        let value = input.value.iter().filter(|_| what.contains(Projection::VALUES));
        key.chain(value).for_each(|bytes| data.extend_from_slice(bytes));
    }
    Columns {
        source_ids: page()
            .map(|i| u16::try_from(id(i).expect("a source of this batch")).expect("few sources"))
            .collect(),
        offsets: page().map(|i| i.offset).collect(),
        timestamps: page().map(|i| i.timestamp).collect(),
        key_lengths: page().map(|i| signed(i.key.as_ref())).collect(),
        value_lengths: page().map(|i| signed(i.value.as_ref())).collect(),
        header_counts: page()
            .map(|i| u16::try_from(i.headers.len()).expect("few headers"))
            .collect(),
        data,
    }
}

pub(crate) fn headers(batch: Handle<'_>, index: u32) -> Vec<Header> {
    let headers = &batch[index as usize].headers;
    headers
        .iter()
        .map(|(name, value)| Header {
            name: name.clone(),
            value: value.clone(),
        })
        .collect()
}

fn granted(world: &World, topic: &str) -> Result<(), SendError> {
    if world.topics.iter().any(|t| t == topic) {
        Ok(())
    } else {
        Err(SendError::AccessDenied(topic.to_owned()))
    }
}

pub(crate) fn forward(topic: &str, batch: Handle<'_>, indexes: &[u32]) -> Result<(), SendError> {
    with(|world| {
        granted(world, topic)?;
        for index in indexes {
            let input = batch
                .get(*index as usize)
                .ok_or_else(|| SendError::Other(format!("no record {index}")))?;
            world.sent.push(Sent {
                topic: topic.to_owned(),
                key: input.key.clone(),
                value: input.value.clone(),
                timestamp: Some(input.timestamp),
                partition: None,
                headers: input.headers.clone(),
            });
        }
        Ok(())
    })
}

pub(crate) fn dead_letter(_batch: Handle<'_>, index: u32, code: &str, reason: &str) -> Result<(), SendError> {
    with(|world| world.dead.push((index, code.to_owned(), reason.to_owned())));
    Ok(())
}

pub(crate) fn send_columns(topic: &str, columns: &OutputColumns) -> Result<(), SendError> {
    let mut data = columns.data.as_slice();
    let mut take = |length: i32| {
        let (head, rest) = data.split_at(usize::try_from(length).ok()?);
        data = rest;
        Some(head.to_vec())
    };
    let mut header_lengths = columns.header_lengths.iter();
    let mut sent = Vec::new();
    for row in 0..columns.key_lengths.len() {
        let (key, value) = (take(columns.key_lengths[row]), take(columns.value_lengths[row]));
        let mut headers = Vec::new();
        for _ in 0..columns.header_counts.get(row).copied().unwrap_or(0) {
            let name = take(*header_lengths.next().expect("a name for each header")).expect("a name is not null");
            let value = take(*header_lengths.next().expect("a value for each header"));
            headers.push((String::from_utf8(name).expect("a name is UTF-8"), value));
        }
        let timestamp = columns.timestamps.get(row).copied().filter(|t| *t >= 0);
        let partition = columns.partitions.get(row).and_then(|p| u32::try_from(*p).ok());
        sent.push(Sent {
            topic: topic.to_owned(),
            key,
            value,
            timestamp,
            partition,
            headers,
        });
    }
    with(|world| {
        granted(world, topic)?;
        world.sent.extend(sent);
        Ok(())
    })
}

pub(crate) fn now() -> i64 {
    with(|world| world.now)
}

pub(crate) fn attempt() -> u32 {
    with(|world| world.attempt)
}

pub(crate) fn config(key: &str) -> Option<String> {
    with(|world| world.config.get(key).cloned())
}

pub(crate) fn counter_add(name: &str, delta: u64) {
    with(|world| *world.counters.entry(name.to_owned()).or_default() += delta);
}

pub(crate) fn log(_level: logging::Level, message: &str) {
    with(|world| world.logs.push(message.to_owned()));
}

pub(crate) fn look_up(table: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, TableError> {
    with(|world| {
        let rows = world.tables.get(table).ok_or(TableError::AccessDenied)?;
        Ok(keys.iter().map(|key| rows.get(*key).cloned()).collect())
    })
}

pub(crate) struct Bucket(String);

pub(crate) fn open(name: &str) -> Result<Bucket, StateError> {
    with(|world| world.buckets.contains_key(name))
        .then(|| Bucket(name.to_owned()))
        .ok_or(StateError::NoSuchStore)
}

impl Bucket {
    fn with<T>(&self, f: impl FnOnce(&mut Entries) -> T) -> T {
        with(|world| f(world.buckets.get_mut(&self.0).expect("an open bucket exists")))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.with(|bucket| bucket.rows.get(key).map(|(value, _)| value.clone())))
    }

    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn exists(&self, key: &[u8]) -> Result<bool, StateError> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        with(|world| {
            let ttl = world.buckets[&self.0].ttl;
            let expires_at = ttl.map_or(i64::MAX, |(ms, clock)| {
                let written_at = world.clocks(clock).1;
                written_at.map_or(i64::MAX, |at| at.saturating_add(ms))
            });
            let bucket = world.buckets.get_mut(&self.0).expect("an open bucket exists");
            bucket.rows.insert(key.to_vec(), (value.to_vec(), expires_at));
        });
        Ok(())
    }

    pub(crate) fn set_many(&self, entries: &[Entry]) -> Result<(), StateError> {
        entries.iter().try_for_each(|(key, value)| self.set(key, value))
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), StateError> {
        self.with(|bucket| bucket.rows.remove(key));
        Ok(())
    }

    pub(crate) fn delete_range(&self, start: &[u8], end: &[u8]) -> Result<u64, StateError> {
        Ok(self.with(|bucket| {
            let before = bucket.rows.len();
            bucket.rows.retain(|key, _| !is_inside(key, start, end));
            (before - bucket.rows.len()) as u64
        }))
    }

    pub(crate) fn increment(&self, key: &[u8], delta: i64) -> Result<i64, StateError> {
        let old = self
            .get(key)?
            .map_or(Ok(0), |v| v.as_slice().try_into().map(i64::from_le_bytes));
        let sum = old
            .map_err(|_| StateError::Other("the value is not a counter: it is not 8 bytes long".into()))?
            .checked_add(delta)
            .ok_or_else(|| StateError::Other("the counter would overflow".into()))?;
        self.set(key, &sum.to_le_bytes()).map(|()| sum)
    }

    pub(crate) fn scan(&self, start: &[u8], end: &[u8], reverse: bool, max: u32) -> Result<Page, StateError> {
        let inside = self.with(|bucket| {
            let rows = bucket.rows.iter().filter(|(key, _)| is_inside(key, start, end));
            let mut rows: Vec<Entry> = rows.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
            if reverse {
                rows.reverse();
            }
            rows
        });
        let mut entries = inside;
        let is_last = entries.len() <= max as usize;
        entries.truncate(max as usize);
        let next = entries.last().filter(|_| !is_last).map(|(last, _)| {
            let after = if reverse { &[][..] } else { &[0] };
            [last, after].concat()
        });
        Ok(Page { entries, next })
    }
}

fn is_inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    start <= key && (end.is_empty() || key < end)
}

pub(crate) fn watermark() -> Option<i64> {
    with(|world| world.event_time?.watermark)
}

pub(crate) fn timer_set(timer: &Timer) -> Result<(), TimerError> {
    with(|world| {
        if !world.handles_timers {
            let why = "a timer is set, but the component does not export `timer-handler` (`Bench::timers`)";
            return Err(TimerError::Other(why.into()));
        }
        if timer.clock == Clock::EventTime && world.event_time.is_none() {
            let why = "the module has no event time: give an input `max-out-of-order` (`Bench::max_out_of_order`)";
            return Err(TimerError::Other(why.into()));
        }
        take_timer(world, timer.clock, &timer.name, &timer.key);
        let is_wall = timer.clock == Clock::WallClock;
        let place = (is_wall, timer.at, timer.name.clone(), timer.key.clone());
        world.timers.insert(place, timer.payload.clone());
        Ok(())
    })
}

pub(crate) fn timer_cancel(clock: Clock, name: &str, key: &[u8]) -> Result<bool, TimerError> {
    Ok(with(|world| take_timer(world, clock, name, key)))
}

fn take_timer(world: &mut World, clock: Clock, name: &str, key: &[u8]) -> bool {
    let before = world.timers.len();
    let is_wall = clock == Clock::WallClock;
    let other = |place: &(bool, i64, String, Vec<u8>)| place.0 != is_wall || place.2 != name || place.3 != key;
    world.timers.retain(|place, _| other(place));
    world.timers.len() < before
}
