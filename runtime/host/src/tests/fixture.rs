//! Guests from `guest-examples`, a task's state in memory, and runs over records made here.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock, mpsc},
};

use bytes::Bytes;
use tidemill_broker::module::{
    Version,
    run::{Input, Kind, Limits, OutputTopic, Processed, Run, StateReader, StateScan, TaskKey},
    state_key,
    view::ViewId,
};
use tidemill_protocol::{
    batch::{Batch, Builder, patch},
    records::Records,
};

use crate::{Lanes, Sandbox, compile, digest};

/// The compiled component of a guest example, built if need be.
pub(super) fn component(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let release = BUILT.get_or_init(|| {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-examples");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--locked", "--release", "--target", "wasm32-wasip2"])
            .current_dir(&examples);
        // The build of a guest has nothing to do with the flags of the host's.
        for variable in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "RUSTDOCFLAGS",
        ] {
            build.env_remove(variable);
        }
        let output = build.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        examples.join("target/wasm32-wasip2/release")
    });
    fs::read(release.join(format!("{name}.wasm"))).unwrap()
}

/// Committed state in memory.
#[derive(Default)]
pub(super) struct Rows(Mutex<BTreeMap<(TaskKey, String, Vec<u8>), Bytes>>);

impl Rows {
    /// Number of rows, those that are not the guest's own included.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Puts a row into a view.
    pub(super) fn put(&self, view: ViewId, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        self.0.lock().unwrap().insert(Self::of_view(view, key), value);
    }

    fn of_view(view: ViewId, key: &[u8]) -> (TaskKey, String, Vec<u8>) {
        let (module, deployment, number) = (String::new(), view.began, 0);
        let task = TaskKey {
            module,
            deployment,
            number,
        };
        (task, "!view".into(), key.to_vec())
    }

    /// Commits what a run wrote.
    pub(super) fn commit(&self, processed: &Processed) {
        let mut rows = self.0.lock().unwrap();
        for (bucket, key, value) in &processed.state {
            let bucket = String::from_utf8(bucket.to_vec()).unwrap();
            let key = (processed.task.clone(), bucket, key.to_vec());
            match value {
                Some(value) => rows.insert(key, value.clone()),
                None => rows.remove(&key),
            };
        }
    }
}

impl StateReader for Rows {
    fn get(&self, task: &TaskKey, bucket: &str, key: &[u8]) -> Option<Bytes> {
        self.0
            .lock()
            .unwrap()
            .get(&(task.clone(), bucket.to_owned(), key.to_vec()))
            .cloned()
    }

    fn scan(&self, scan: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        let rows = self.0.lock().unwrap();
        let inside = rows.iter().filter(|((of, named, key), _)| {
            of == scan.task
                && named == scan.bucket
                && scan.start <= key.as_slice()
                && (scan.end.is_empty() || key.as_slice() < scan.end)
        });
        let mut rows: Vec<_> = inside
            .map(|((_, _, key), value)| (Bytes::from(key.clone()), value.clone()))
            .collect();
        if scan.reverse {
            rows.reverse();
        }
        rows.truncate(scan.entries_max);
        rows
    }

    /// The rows of a view lie in a bucket that no guest can name.
    fn look_up(&self, view: ViewId, key: &[u8]) -> Option<Bytes> {
        let rows = self.0.lock().unwrap();
        rows.get(&Self::of_view(view, key)).cloned()
    }

    fn rows(&self, task: &TaskKey, after: &[u8], rows_max: usize) -> Vec<(Bytes, Bytes)> {
        let (start, end) = state_key::rest(task, after);
        let mut rows = BTreeMap::new();
        for ((of, bucket, key), value) in &*self.0.lock().unwrap() {
            let row = state_key::encode(of, bucket, key);
            if start <= row && row < end {
                rows.insert(row.slice(state_key::task_prefix(task).len()..), value.clone());
            }
        }
        rows.into_iter().take(rows_max).collect()
    }
}

/// One record of a test: key and value.
pub(super) type KeyValue<'a> = (Option<&'a str>, &'a str);

/// A record batch at an offset; record i has timestamp 1,000 + i.
pub(super) fn batch(base_offset: i64, records: &[KeyValue<'_>]) -> Records {
    let mut builder = Builder::new();
    for (timestamp, (key, value)) in (1_000..).zip(records) {
        builder.append(timestamp, key.map(str::as_bytes), Some(value.as_bytes()), []);
    }
    patch(&builder.finish(), base_offset, 0).unwrap().into_iter().collect()
}

/// An input with everything in `records`.
pub(super) fn input(topic: &str, from: i64, records: Records) -> Input {
    Input {
        topic: topic.into(),
        partition: 3,
        from,
        until: i64::MAX,
        give_up: Vec::new(),
        has_more: false,
        records,
    }
}

/// What a record batch holds: key, value, headers, timestamp.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timestamp: i64,
}

/// Decodes outputs again.
pub(super) fn sent(processed: &Processed) -> Vec<Sent> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut sent = Vec::new();
    for (topic, partition, bytes) in &processed.outputs {
        let payload = Batch::parse(bytes.clone()).unwrap().payload(1 << 30).unwrap();
        for record in payload.records() {
            let record = record.unwrap();
            sent.push(Sent {
                topic: topic.clone(),
                partition: *partition,
                key: record.key.map(text),
                value: record.value.map(text),
                headers: record
                    .headers
                    .map(|h| (text(h.key), text(h.value.unwrap_or_default())))
                    .collect(),
                timestamp: record.timestamp,
            });
        }
    }
    sent
}

/// A sandbox with one module in it.
pub(super) struct Fixture {
    pub(super) lanes: Lanes,
    pub(super) rows: Arc<Rows>,
    digest: [u8; 32],
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// Compiles a guest example.
    pub(super) fn new(name: &str) -> Self {
        Self::of(&component(name))
    }

    /// Compiles a component.
    pub(super) fn of(component: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        compile::compile(component, directory.path()).unwrap();
        let rows = Arc::new(Rows::default());
        let sandbox = Sandbox::new(directory.path(), Arc::clone(&rows) as Arc<dyn StateReader>).unwrap();
        let lanes = Lanes::start(2, Arc::new(sandbox)).unwrap();
        Self {
            lanes,
            rows,
            digest: digest(component),
            _directory: directory,
        }
    }

    /// A run of this module with one input; change what should differ.
    pub(super) fn run_of(&self, records: Records) -> Run {
        let output = OutputTopic {
            partitions: 4,
            batch_bytes_max: 1 << 20,
        };
        let outputs = ["tame", "wild.dlq", "team.orders", "team.users", "team.rest"];
        Run {
            task: TaskKey {
                module: "m".into(),
                deployment: 7,
                number: 3,
            },
            version: Version {
                module: "m".into(),
                number: 1,
                label: "1.2.3".into(),
                digest: self.digest,
            },
            generation: 5,
            attempt: 1,
            now: 1_700_000_000_000,
            is_fresh: false,
            firings: 0,
            event_time: None,
            state_bytes: 0,
            inputs: vec![input("wild", 0, records)],
            kind: Kind::Records,
            outputs: Arc::new(
                outputs
                    .iter()
                    .map(|name| ((*name).to_owned(), output.clone()))
                    .collect(),
            ),
            dead_letter: Some("wild.dlq".into()),
            buckets: Arc::default(),
            config: Arc::default(),
            tables: Arc::default(),
            metrics: Arc::default(),
            limits: Limits {
                records_max: 1_000,
                bytes_max: 1 << 20,
                timeout_ms: 200,
                memory_bytes_max: 16 << 20,
                output_bytes_max: 1 << 20,
                state_write_bytes_max: 1 << 20,
                state_bytes_max: 1 << 30,
                log_lines_per_second: 50,
            },
        }
    }

    /// Runs it on this thread.
    pub(super) fn run(&self, run: Run) -> Processed {
        let (answer, answered) = mpsc::channel();
        self.lanes
            .submit(run, Box::new(move |processed| answer.send(processed).unwrap()));
        answered.recv().unwrap()
    }
}

/// Config of a run.
pub(super) fn config(entries: &[(&str, &str)]) -> Arc<BTreeMap<String, String>> {
    Arc::new(
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    )
}
