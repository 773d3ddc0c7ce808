//! A test bench for modules: a host in memory with the host's rules, and no daemon.
//!
//! ```
//! use tidemill_guest::{prelude::*, testing::{Bench, Input}};
//!
//! fn process(batch: &Batch) -> Result<Ack, Error> {
//!     let counts = state::open("counts")?;
//!     for record in batch {
//!         counts.increment(record.key_str()?.as_bytes(), 1)?;
//!     }
//!     Ok(Ack::All)
//! }
//!
//! let mut bench = Bench::new(process).bucket("counts");
//! bench.run(&[Input::new("clicks").key("ann"), Input::new("clicks").key("ann")]).unwrap();
//! assert_eq!(bench.state("counts", b"ann"), Some(2i64.to_le_bytes().to_vec()));
//! ```
use crate::{
    batch::Batch,
    error::{Ack, Error},
    migrator::{Migrator, Progress, Task},
    sys::{self, World},
    timers::Timer,
};

pub use crate::timers::Clock;

/// One input record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Input {
    /// A record of this topic's partition 0, with null key and value. The bench numbers offsets.
    pub fn new(topic: &str) -> Input {
        Input {
            topic: topic.to_owned(),
            ..Input::default()
        }
    }

    /// Sets the key.
    pub fn key(self, key: impl AsRef<[u8]>) -> Input {
        Input {
            key: Some(key.as_ref().to_vec()),
            ..self
        }
    }

    /// Sets the value.
    pub fn value(self, value: impl AsRef<[u8]>) -> Input {
        Input {
            value: Some(value.as_ref().to_vec()),
            ..self
        }
    }

    /// Sets the timestamp, milliseconds.
    pub fn at(self, timestamp: i64) -> Input {
        Input { timestamp, ..self }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &[u8]) -> Input {
        self.headers.push((name.to_owned(), Some(value.to_vec())));
        self
    }
}

/// One record that a call produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Topic.
    pub topic: String,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Timestamp, where the module set one.
    pub timestamp: Option<i64>,
    /// Partition, where the module set one.
    pub partition: Option<u32>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What a successful call left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How much was committed.
    pub ack: Ack,
    /// Records produced, in order.
    pub sent: Vec<Sent>,
    /// Records given up on: index, code, reason.
    pub dead_letters: Vec<(u32, String, String)>,
}

/// A module and the host it believes to run in.
pub struct Bench {
    process: fn(&Batch<'_>) -> Result<Ack, Error>,
    on_timers: Option<fn(&[Timer]) -> Result<(), Error>>,
    world: World,
    offset: u64,
}

impl Bench {
    /// A bench around the module's function, with no outputs, buckets or settings granted.
    pub fn new(process: fn(&Batch<'_>) -> Result<Ack, Error>) -> Bench {
        Bench {
            process,
            on_timers: None,
            world: World {
                attempt: 1,
                ..World::default()
            },
            offset: 0,
        }
    }

    /// Gives it the function that timers fire into.
    pub fn timers(mut self, on_timers: fn(&[Timer]) -> Result<(), Error>) -> Bench {
        self.on_timers = Some(on_timers);
        self.world.handles_timers = true;
        self
    }

    /// Switches event time on: how far behind the latest record another may still come, milliseconds.
    pub fn max_out_of_order(mut self, ms: i64) -> Bench {
        self.world.event_time.get_or_insert_default().max_out_of_order = ms;
        self
    }

    /// Grants an output topic.
    pub fn output(mut self, topic: &str) -> Bench {
        self.world.topics.push(topic.to_owned());
        self
    }

    /// Declares a state bucket.
    pub fn bucket(mut self, name: &str) -> Bench {
        self.world.buckets.entry(name.to_owned()).or_default();
        self
    }

    /// Declares a state bucket whose entries expire so many milliseconds after they were written last.
    pub fn bucket_with_ttl(mut self, name: &str, ttl_ms: i64, clock: Clock) -> Bench {
        self.world.buckets.entry(name.to_owned()).or_default().ttl = Some((ttl_ms, clock));
        self
    }

    /// Declares a table.
    pub fn table(mut self, name: &str) -> Bench {
        self.world.tables.entry(name.to_owned()).or_default();
        self
    }

    /// Puts a value into a table that was declared; none deletes the key.
    ///
    /// # Panics
    /// If the table was not declared.
    pub fn put_row(&mut self, table: &str, key: impl AsRef<[u8]>, value: Option<impl AsRef<[u8]>>) {
        let rows = self.world.tables.get_mut(table).expect("the table was declared");
        let key = key.as_ref().to_vec();
        match value {
            Some(value) => drop(rows.insert(key, value.as_ref().to_vec())),
            None => drop(rows.remove(&key)),
        }
    }

    /// Sets a key of `[config]`.
    pub fn config(mut self, key: &str, value: &str) -> Bench {
        self.world.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the host's clock, milliseconds.
    pub fn now(&mut self, now: i64) {
        self.world.now = now;
    }

    /// Moves the watermark on, as an input that falls idle does. It never goes back.
    pub fn watermark(&mut self, to: i64) {
        let event_time = self.world.event_time.get_or_insert_default();
        event_time.watermark = event_time.watermark.max(Some(to));
    }

    /// Delivers a batch. As in the daemon, a call that fails leaves nothing behind but its log lines. Timers that are due then wait for
    /// [`Bench::fire`].
    ///
    /// # Errors
    /// What the module returned.
    pub fn run(&mut self, inputs: &[Input]) -> Result<Outcome, Error> {
        assert!(!inputs.is_empty(), "the host delivers no empty batch");
        let number = |(n, input): (u64, &Input)| Input {
            offset: self.offset + n,
            ..input.clone()
        };
        let inputs: Vec<Input> = (0..).zip(inputs).map(number).collect();
        let mut world = self.world.clone();
        if let Some(event_time) = &mut world.event_time {
            event_time.latest = event_time.latest.max(inputs.iter().map(|input| input.timestamp).max());
        }
        let process = self.process;
        let outcome = self.call(world, || process(&Batch::borrowed(&inputs)))?;
        self.offset += inputs.len() as u64;
        if let Some(event_time) = &mut self.world.event_time {
            let reached = event_time
                .latest
                .map(|at| at.saturating_sub(event_time.max_out_of_order));
            event_time.watermark = event_time.watermark.max(reached);
        }
        Ok(outcome)
    }

    /// Fires the timers that are due, as the daemon does after a batch: those of event time first, in order of time. `None` when none is.
    ///
    /// # Errors
    /// What the module returned; the timers are still there then.
    ///
    /// # Panics
    /// If timers are due and the bench was given no function for them.
    pub fn fire(&mut self) -> Result<Option<Outcome>, Error> {
        let (now, watermark) = (self.world.now, self.world.event_time.and_then(|time| time.watermark));
        let until = |is_wall: bool| if is_wall { Some(now) } else { watermark };
        let mut world = self.world.clone();
        let due: Vec<Timer> = world
            .timers
            .extract_if(.., |(is_wall, at, ..), _| {
                until(*is_wall).is_some_and(|until| *at <= until)
            })
            .map(|((is_wall, at, name, key), payload)| Timer {
                clock: if is_wall { Clock::WallClock } else { Clock::EventTime },
                name,
                key,
                at,
                payload,
            })
            .collect();
        if due.is_empty() {
            return Ok(None);
        }
        let on_timers = self.on_timers.expect("a module with timers is given its `timers`");
        self.call(world, || on_timers(&due).map(|()| Ack::All)).map(Some)
    }

    /// One call of the guest in a world, which takes the place of the bench's if the call succeeds.
    fn call(&mut self, mut world: World, call: impl FnOnce() -> Result<Ack, Error>) -> Result<Outcome, Error> {
        world.expire();
        let (answer, mut after) = sys::within(world, call);
        match answer {
            Ok(ack) => {
                let (sent, dead_letters) = (std::mem::take(&mut after.sent), std::mem::take(&mut after.dead));
                self.world = after;
                Ok(Outcome {
                    ack,
                    sent,
                    dead_letters,
                })
            }
            Err(error) => {
                self.world.logs = after.logs;
                Err(error)
            }
        }
    }

    /// The committed value of a key, unless it has expired.
    pub fn state(&self, bucket: &str, key: &[u8]) -> Option<Vec<u8>> {
        let mut world = self.world.clone();
        world.expire();
        world.buckets.get(bucket)?.rows.get(key).map(|(value, _)| value.clone())
    }

    /// When a timer of this name and key is due, if it is set.
    pub fn timer(&self, clock: Clock, name: &str, key: impl AsRef<[u8]>) -> Option<i64> {
        let is_wall = clock == Clock::WallClock;
        let timers = self.world.timers.keys();
        let mut same = timers.filter(|timer| timer.0 == is_wall && timer.2 == name && timer.3 == key.as_ref());
        same.next().map(|timer| timer.1)
    }

    /// Puts an entry into a bucket, as an earlier version left it. It does not expire.
    pub fn set_state(&mut self, bucket: &str, key: &[u8], value: &[u8]) {
        let bucket = self.world.buckets.entry(bucket.to_owned()).or_default();
        bucket.rows.insert(key.to_owned(), (value.to_owned(), i64::MAX));
    }

    /// Migrates the state from an earlier layout, as an upgrade does before the module runs; in how many calls.
    ///
    /// # Errors
    /// What the migrator returned; the state is as it was then.
    pub fn migrate<M: Migrator>(&mut self, from_version: u32) -> Result<usize, Error> {
        let task = Task {
            deployment: "test".to_owned(),
            version: "test".to_owned(),
            number: 0,
            generation: 1,
        };
        let (mut world, mut cursor) = (self.world.clone(), None);
        for calls in 1.. {
            let (progress, after) = sys::within(world, || M::migrate(&task, from_version, cursor.take()));
            match progress? {
                Progress::Done => {
                    self.world = after;
                    return Ok(calls);
                }
                Progress::More(next) => (world, cursor) = (after, Some(next)),
            }
        }
        unreachable!("nobody counts so far")
    }

    /// Log lines so far.
    pub fn logs(&self) -> &[String] {
        &self.world.logs
    }

    /// The committed value of a counter.
    pub fn counter(&self, name: &str) -> u64 {
        self.world.counters.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{state, timers};

    fn seen(batch: &Batch<'_>) -> Result<Ack, Error> {
        let (seen, keys) = (state::open("seen")?, state::open("keys")?);
        for record in batch {
            let key = record.key_str()?.as_bytes();
            if !seen.exists(key)? {
                keys.increment(key, 1)?;
            }
            seen.set(key, b"")?;
            timers::event_time("silent", key, record.timestamp() + 50)?;
        }
        Ok(Ack::All)
    }

    fn silent(due: &[Timer]) -> Result<(), Error> {
        let keys = state::open("keys")?;
        due.iter().try_for_each(|timer| keys.delete(&timer.key))
    }

    fn bench() -> Bench {
        Bench::new(seen)
            .timers(silent)
            .max_out_of_order(10)
            .bucket("keys")
            .bucket_with_ttl("seen", 100, Clock::EventTime)
    }

    fn at(key: &str, at: i64) -> Input {
        Input::new("in").key(key).at(at)
    }

    #[test]
    fn timers_fire_when_the_watermark_passes_them() {
        let mut bench = bench();
        bench.run(&[at("a", 100), at("b", 120)]).unwrap();
        assert_eq!(bench.fire(), Ok(None));
        bench.run(&[at("b", 160)]).unwrap();
        assert_eq!(bench.timer(Clock::EventTime, "silent", "b"), Some(210));
        assert!(bench.fire().unwrap().is_some());
        assert_eq!((bench.state("keys", b"a"), bench.fire()), (None, Ok(None)));
        assert!(bench.state("keys", b"b").is_some());
        bench.watermark(210);
        assert!(bench.fire().unwrap().is_some());
        assert_eq!(bench.state("keys", b"b"), None);
    }

    #[test]
    fn entries_expire_by_the_watermark() {
        let mut bench = bench();
        bench.run(&[at("a", 0)]).unwrap();
        bench.run(&[at("a", 105)]).unwrap();
        assert_eq!(
            bench.state("keys", b"a"),
            Some(1i64.to_le_bytes().to_vec()),
            "the watermark was at -10"
        );
        bench.run(&[at("b", 215)]).unwrap();
        assert_eq!(bench.state("seen", b"a"), None);
        bench.run(&[at("a", 216)]).unwrap();
        assert_eq!(bench.state("keys", b"a"), Some(2i64.to_le_bytes().to_vec()));
    }

    fn walk(batch: &Batch<'_>) -> Result<Ack, Error> {
        let bucket = state::open("b")?;
        for record in batch {
            bucket.set(record.key().unwrap(), b"")?;
        }
        let keys = |entries: Vec<state::Entry>| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>().concat();
        assert_eq!(bucket.range(b"b", b"").count(), batch.len() as usize - 1);
        assert_eq!(keys(bucket.scan(b"", b"", 2)?), *b"aba");
        let down: Result<Vec<_>, _> = bucket.prefix(b"b").reversed().collect();
        assert!(keys(down?).starts_with(b"bz"));
        assert_eq!(bucket.delete_range(b"b", b"c")?, u64::from(batch.len()) - 1);
        Ok(Ack::All)
    }

    #[test]
    fn ranges_are_walked_in_pages_both_ways() {
        let inputs: Vec<Input> = (0..600).map(|n| Input::new("in").key(format!("ba{n:03}"))).collect();
        let mut inputs = [vec![at("a", 0), at("bz", 0)], inputs].concat();
        inputs[2] = inputs[2].clone().key("ba");
        Bench::new(walk).bucket("b").run(&inputs).unwrap();
    }
}
