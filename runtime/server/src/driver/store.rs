//! Storage in memory, with a note of who appended what.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tidemill_broker::{
    State,
    effect::{Append, Changes, Found, LogId, LogRead, ReadError, Row, Table},
    module::{
        expiry_row::{self, Stamp},
        run::{Bucket, StateReader, StateScan, TaskKey},
        state_key,
        view::ViewId,
    },
};
use tidemill_protocol::{
    batch::{Batch, Header, patch},
    manifest::Manifest,
    records::Records,
};

use super::Record;

/// Bytes to which a batch may be decompressed: none of ours is compressed.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// A record that a module appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// The task that committed it.
    pub(crate) task: u32,
    /// What it is.
    pub(crate) record: Record,
}

/// An entry of a module's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) task: u32,
    pub(crate) bucket: String,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    logs: BTreeMap<LogId, Vec<Append>>,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    /// What tasks appended, in order of the commits.
    outputs: Vec<(u32, Append)>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear(&self) {
        *self.lock() = Tables::default();
    }

    pub(crate) fn forget_records(&self) {
        let mut tables = self.lock();
        tables.logs.clear();
        tables.outputs.clear();
    }

    /// Makes the changes of an entry visible; `task` is whose commit it was.
    pub(crate) fn publish(&self, changes: Changes, task: Option<u32>) {
        let mut tables = self.lock();
        for append in changes.appends {
            if let Some(task) = task {
                tables.outputs.push((task, append.clone()));
            }
            tables.logs.entry(append.log).or_default().push(append);
        }
        for Row { table, key, value } in changes.rows {
            match value {
                Some(value) => drop(tables.rows.insert((table, key), value)),
                None => drop(tables.rows.remove(&(table, key))),
            }
        }
        for (table, prefix) in &changes.cleared {
            tables
                .rows
                .retain(|(other, key), _| other != table || !key.starts_with(prefix));
        }
        for log in &changes.dropped {
            tables.logs.remove(log);
        }
    }

    /// What a restart finds.
    pub(crate) fn state(&self) -> State {
        let mut state = State::default();
        for ((table, key), value) in &self.lock().rows {
            let row = Row {
                table: *table,
                key: key.clone(),
                value: Some(value.clone()),
            };
            state.load(&row).expect("the core reads what it wrote");
        }
        state
    }

    pub(crate) fn read(&self, read: &LogRead) -> Result<Records, ReadError> {
        let tables = self.lock();
        let appends = tables.logs.get(&read.log).map_or(&[][..], Vec::as_slice);
        if appends.first().is_some_and(|first| read.from < first.base_offset) {
            return Err(ReadError::Gone);
        }
        let first = appends.partition_point(|append| append.last_offset < read.from);
        let mut records = Records::new();
        for append in appends[first..]
            .iter()
            .take_while(|append| append.last_offset < read.until)
        {
            if !records.is_empty() && read.bytes_max < records.len() + append.batch.len() {
                break;
            }
            let batch = patch(&append.batch, append.base_offset, append.leader_epoch);
            records.extend(batch.ok_or(ReadError::Failed)?);
        }
        Ok(records)
    }

    /// The first batch with a record at or after a time; the batches of a driver are as long as its steps.
    pub(crate) fn find_time(&self, log: LogId, timestamp: i64) -> Option<Found> {
        let tables = self.lock();
        let append = tables
            .logs
            .get(&log)?
            .iter()
            .find(|append| timestamp <= append.max_timestamp)?;
        Some(Found {
            offset: append.base_offset,
            timestamp: Header::parse(&append.batch).ok()?.max_timestamp,
        })
    }

    /// What tasks appended, but for what the core itself keeps in topics.
    pub(crate) fn outputs(&self, state: &State) -> Vec<Output> {
        let mut names = BTreeMap::new();
        for topic in state.topics.iter().filter(|topic| !topic.is_internal()) {
            for partition in 0..topic.partitions() {
                if let Some(log) = i32::try_from(partition).ok().and_then(|partition| topic.log(partition)) {
                    names.insert(log, (topic.name.clone(), partition));
                }
            }
        }
        let mut outputs = Vec::new();
        for (task, append) in &self.lock().outputs {
            if let Some((topic, partition)) = names.get(&append.log) {
                let records = decode(topic, *partition, &append.batch);
                outputs.extend(records.into_iter().map(|record| Output { task: *task, record }));
            }
        }
        outputs
    }

    /// Puts entries into a bucket. They do not expire.
    pub(crate) fn put_state(&self, task: &TaskKey, bucket: &Bucket, entries: impl IntoIterator<Item = (Bytes, Bytes)>) {
        let stamp = Stamp {
            expires_at: i64::MAX,
            indexed_at: i64::MAX,
        };
        let mut tables = self.lock();
        for (key, value) in entries {
            let row = match bucket.ttl {
                Some(_) => expiry_row::encode(stamp, &value),
                None => value,
            };
            tables
                .rows
                .insert((Table::ModuleState, state_key::encode(task, &bucket.rows, &key)), row);
        }
    }

    pub(crate) fn state_of(&self, tasks: &[TaskKey], manifest: &Manifest) -> Vec<Entry> {
        let mut entries = Vec::new();
        for task in tasks {
            for bucket in Bucket::granted(manifest) {
                let found = self.scan(StateScan {
                    task,
                    bucket: &bucket.rows,
                    start: b"",
                    end: b"",
                    reverse: false,
                    entries_max: usize::MAX,
                });
                entries.extend(found.into_iter().filter_map(|(key, row)| {
                    Some(Entry {
                        task: task.number,
                        bucket: bucket.name.clone(),
                        key,
                        value: bucket.value(row)?,
                    })
                }));
            }
        }
        entries
    }
}

impl StateReader for Store {
    fn get(&self, task: &TaskKey, bucket: &str, key: &[u8]) -> Option<Bytes> {
        let row = (Table::ModuleState, state_key::encode(task, bucket, key));
        self.lock().rows.get(&row).cloned()
    }

    fn scan(&self, scan: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        let StateScan { task, bucket, .. } = scan;
        let (start, end) = state_key::range(task, bucket, scan.start, scan.end);
        if end <= start {
            return Vec::new();
        }
        let tables = self.lock();
        let rows = tables
            .rows
            .range((Table::ModuleState, start)..(Table::ModuleState, end));
        let entry = |((_, row), value): (&(Table, Bytes), &Bytes)| {
            Some((row.slice_ref(state_key::decode(task, bucket, row)?), value.clone()))
        };
        if scan.reverse {
            rows.rev().filter_map(entry).take(scan.entries_max).collect()
        } else {
            rows.filter_map(entry).take(scan.entries_max).collect()
        }
    }

    fn look_up(&self, view: ViewId, key: &[u8]) -> Option<Bytes> {
        self.lock().rows.get(&(Table::ViewRow, view.row(key))).cloned()
    }

    fn rows(&self, task: &TaskKey, after: &[u8], rows_max: usize) -> Vec<(Bytes, Bytes)> {
        let (start, end) = state_key::rest(task, after);
        let tables = self.lock();
        let rows = tables
            .rows
            .range((Table::ModuleState, start)..(Table::ModuleState, end));
        let of_task = |((_, row), value): (&(Table, Bytes), &Bytes)| {
            Some((row.slice_ref(state_key::in_task(task, row)?), value.clone()))
        };
        rows.filter_map(of_task).take(rows_max).collect()
    }
}

/// The records of a batch that the host made.
pub(super) fn decode(topic: &str, partition: u32, batch: &Bytes) -> Vec<Record> {
    let payload = Batch::parse(batch.clone()).and_then(|batch| batch.payload(BATCH_BYTES_MAX));
    let Ok(payload) = payload else {
        return Vec::new();
    };
    let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    let records = payload.records().map_while(Result::ok).map(|record| Record {
        topic: topic.to_owned(),
        partition,
        timestamp: record.timestamp,
        key: bytes(record.key),
        value: bytes(record.value),
        headers: record
            .headers
            .map(|header| (String::from_utf8_lossy(header.key).into_owned(), bytes(header.value)))
            .collect(),
    });
    records.collect()
}
