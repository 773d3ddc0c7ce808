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
    sys::{self, World},
};

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
    world: World,
    offset: u64,
}

impl Bench {
    /// A bench around the module's function, with no outputs, buckets or settings granted.
    pub fn new(process: fn(&Batch<'_>) -> Result<Ack, Error>) -> Bench {
        Bench {
            process,
            world: World {
                attempt: 1,
                ..World::default()
            },
            offset: 0,
        }
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

    /// Sets a key of `[config]`.
    pub fn config(mut self, key: &str, value: &str) -> Bench {
        self.world.config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the host's clock, milliseconds.
    pub fn now(&mut self, now: i64) {
        self.world.now = now;
    }

    /// Delivers a batch. As in the daemon, a call that fails leaves nothing behind but its log lines.
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
        let (answer, mut after) = sys::within(self.world.clone(), || (self.process)(&Batch::borrowed(&inputs)));
        match answer {
            Ok(ack) => {
                let (sent, dead_letters) = (std::mem::take(&mut after.sent), std::mem::take(&mut after.dead));
                self.world = after;
                self.offset += inputs.len() as u64;
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

    /// The committed value of a key.
    pub fn state(&self, bucket: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.world.buckets.get(bucket)?.get(key).cloned()
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
