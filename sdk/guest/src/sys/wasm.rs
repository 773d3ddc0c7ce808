//! The component's imports.
use super::{Columns, OutputColumns, Projection, SendError, StateError, TableError, TimerError};
use crate::{
    bindings::tidemill::processor::{
        config as settings, context, logging, metrics, producer, records, state, tables, timers,
        types::{Failure, Header, Source},
    },
    state::{Entry, Page},
};

pub(crate) type Handle<'a> = &'a records::Batch;

pub(crate) fn len(batch: Handle<'_>) -> u32 {
    batch.len()
}

pub(crate) fn sources(batch: Handle<'_>) -> Vec<Source> {
    batch.sources()
}

pub(crate) fn read(batch: Handle<'_>, first: u32, records: u32, bytes: u32, what: Projection) -> Columns {
    batch.read(first, records, bytes, what)
}

pub(crate) fn headers(batch: Handle<'_>, index: u32) -> Vec<Header> {
    batch.headers(index)
}

pub(crate) fn forward(topic: &str, batch: Handle<'_>, indexes: &[u32]) -> Result<(), SendError> {
    producer::forward(topic, batch, indexes)
}

pub(crate) fn dead_letter(batch: Handle<'_>, index: u32, code: &str, reason: &str) -> Result<(), SendError> {
    producer::dead_letter(
        batch,
        index,
        &Failure {
            code: code.to_owned(),
            reason: reason.to_owned(),
        },
    )
}

pub(crate) fn send_columns(topic: &str, columns: &OutputColumns) -> Result<(), SendError> {
    producer::send_columns(topic, columns)
}

pub(crate) fn now() -> i64 {
    context::now()
}

pub(crate) fn watermark() -> Option<i64> {
    context::watermark()
}

pub(crate) fn timer_set(timer: &timers::Timer) -> Result<(), TimerError> {
    timers::set(timer)
}

pub(crate) fn timer_cancel(clock: timers::Clock, name: &str, key: &[u8]) -> Result<bool, TimerError> {
    timers::cancel(clock, name, key)
}

pub(crate) fn attempt() -> u32 {
    context::attempt()
}

pub(crate) fn config(key: &str) -> Option<String> {
    settings::get(key)
}

pub(crate) fn counter_add(name: &str, delta: u64) {
    metrics::counter_add(name, delta);
}

pub(crate) fn log(level: logging::Level, message: &str) {
    logging::log(level, "", message);
}

pub(crate) fn look_up(table: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, TableError> {
    tables::get_many(table, &owned(keys))
}

pub(crate) struct Bucket(state::Bucket);

pub(crate) fn open(name: &str) -> Result<Bucket, StateError> {
    state::open(name).map(Bucket)
}

impl Bucket {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.0.get(key)
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.0.set(key, value)
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), StateError> {
        self.0.delete(key)
    }

    pub(crate) fn increment(&self, key: &[u8], delta: i64) -> Result<i64, StateError> {
        self.0.increment(key, delta)
    }

    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        self.0.get_many(&owned(keys))
    }

    pub(crate) fn set_many(&self, entries: &[Entry]) -> Result<(), StateError> {
        self.0.set_many(entries)
    }

    pub(crate) fn exists(&self, key: &[u8]) -> Result<bool, StateError> {
        self.0.exists(key)
    }

    pub(crate) fn delete_range(&self, start: &[u8], end: &[u8]) -> Result<u64, StateError> {
        self.0.delete_range(&range(start, end, false))
    }

    pub(crate) fn scan(&self, start: &[u8], end: &[u8], reverse: bool, max: u32) -> Result<Page, StateError> {
        let page = self.0.scan(&range(start, end, reverse), max, u32::MAX)?;
        let mut data = page.data.as_slice();
        let mut take = |length: u32| {
            let (head, rest) = data.split_at(length as usize);
            data = rest;
            head.to_vec()
        };
        let lengths = page.key_lengths.iter().zip(&page.value_lengths);
        Ok(Page {
            entries: lengths.map(|(k, v)| (take(*k), take(*v))).collect(),
            next: page.next,
        })
    }
}

fn range(start: &[u8], end: &[u8], reverse: bool) -> state::KeyRange {
    state::KeyRange {
        start: start.to_vec(),
        end: end.to_vec(),
        reverse,
    }
}

fn owned(keys: &[&[u8]]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.to_vec()).collect()
}
