//! A host in memory, one for each thread: what `cargo test` of a module runs on.
use std::{cell::RefCell, collections::BTreeMap};

use super::{Columns, OutputColumns, Projection, SendError, StateError};
use crate::{
    bindings::tidemill::processor::{
        logging,
        types::{Header, Source},
    },
    testing::{Input, Sent},
};

pub(crate) type Handle<'a> = &'a [Input];
pub(crate) type Buckets = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Everything that a call can see or leave behind.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) attempt: u32,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) topics: Vec<String>,
    pub(crate) buckets: Buckets,
    pub(crate) sent: Vec<Sent>,
    pub(crate) dead: Vec<(u32, String, String)>,
    pub(crate) logs: Vec<String>,
    pub(crate) counters: BTreeMap<String, u64>,
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

pub(crate) struct Bucket(String);

pub(crate) fn open(name: &str) -> Result<Bucket, StateError> {
    with(|world| world.buckets.contains_key(name))
        .then(|| Bucket(name.to_owned()))
        .ok_or(StateError::NoSuchStore)
}

impl Bucket {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        with(|world| f(world.buckets.get_mut(&self.0).expect("an open bucket exists")))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.with(|bucket| bucket.get(key).cloned()))
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.with(|bucket| bucket.insert(key.to_vec(), value.to_vec()));
        Ok(())
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), StateError> {
        self.with(|bucket| bucket.remove(key));
        Ok(())
    }

    pub(crate) fn increment(&self, key: &[u8], delta: i64) -> Result<i64, StateError> {
        let old = self
            .get(key)?
            .map_or(Ok(0), |v| v.as_slice().try_into().map(i64::from_le_bytes));
        let sum = old
            .map_err(|_| StateError::Other("the value is not a counter".into()))?
            .wrapping_add(delta);
        self.set(key, &sum.to_le_bytes()).map(|()| sum)
    }

    pub(crate) fn scan(&self, start: &[u8], end: &[u8], max: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StateError> {
        let inside = |key: &Vec<u8>| key.as_slice() >= start && (end.is_empty() || key.as_slice() < end);
        let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(self.with(|b| {
            b.iter()
                .filter(|(key, _)| inside(key))
                .take(max as usize)
                .map(copy)
                .collect()
        }))
    }
}
