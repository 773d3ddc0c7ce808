//! What a batch of 1,000 records of 100 bytes costs, a record: through a guest that forwards by key (`route`), through one that reads every
//! record (`bad-actors`, tame), and the same bytes decoded and encoded without a sandbox.
//!
//! ```text
//! cargo bench --package tidemill-host
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is a program for people"
)]
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidemill_broker::module::{
    Version,
    run::{Input, Kind, Limits, OutputTopic, Run, StateReader, StateScan, TaskKey, Verdict},
};
use tidemill_host::{Sandbox, compile, digest};
use tidemill_protocol::{
    batch::{Batch, Builder},
    records::Records,
};

const RECORDS: usize = 1_000;
const VALUE_BYTES: usize = 100;
const TIME: Duration = Duration::from_secs(2);

fn main() {
    let records = input();
    let native = time(&mut || drop(copy(&records)));
    println!("decode and encode, no sandbox   {native:7.0} ns a record");
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    for name in ["route", "bad_actors"] {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let Some(component) = component(name) else {
            println!("{name}: not built; run `cargo xtask guests` first");
            continue;
        };
        let guest = guest(name, &component);
        println!(
            "{name:<31} {guest:7.0} ns a record, {:.1} times as much",
            guest / native
        );
    }
}

fn guest(name: &str, component: &[u8]) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    compile::compile(component, directory.path()).unwrap();
    let sandbox = Sandbox::new(directory.path(), Arc::new(NoState)).unwrap();
    let run = run(name, component);
    time(&mut || {
        let processed = sandbox.run(run.clone(), &Arc::default());
        assert!(
            processed.verdict == Verdict::Ack && processed.output_records == RECORDS as u64,
            "{:?}",
            processed.verdict
        );
    })
}

/// Nanoseconds a record, of this thread's processor time: a busy machine does not change them.
fn time(once: &mut dyn FnMut()) -> f64 {
    let warm_up = Instant::now();
    while warm_up.elapsed() < TIME / 4 {
        once();
    }
    let (begin, busy, mut times) = (Instant::now(), processor_time(), 0_u32);
    while begin.elapsed() < TIME {
        once();
        times += 1;
    }
    let spent = match (busy, processor_time()) {
        (Some(before), Some(after)) => after - before,
        _ => begin.elapsed(),
    };
    spent.as_secs_f64() * 1e9 / f64::from(times) / RECORDS as f64
}

/// What this thread has run so far, where the system says.
fn processor_time() -> Option<Duration> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?))
}

fn input() -> Bytes {
    let value = [b'v'; VALUE_BYTES];
    let mut builder = Builder::new();
    for (n, timestamp) in (0..RECORDS).zip(1_700_000_000_000..) {
        let key = format!("{}.{}", ["orders", "users", "weather"][n / 10 % 3], n % 97);
        builder.append(timestamp, Some(key.as_bytes()), Some(&value), []);
    }
    builder.finish()
}

fn copy(batch: &Bytes) -> Bytes {
    let payload = Batch::parse(batch.clone()).unwrap().payload(1 << 30).unwrap();
    let mut builder = Builder::new();
    for record in payload.records() {
        let record = record.unwrap();
        builder.append(record.timestamp, record.key, record.value, record.headers);
    }
    builder.finish()
}

fn component(name: &str) -> Option<Vec<u8>> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-examples/target/wasm32-wasip2/release");
    fs::read(guests.join(format!("{name}.wasm"))).ok()
}

fn run(name: &str, component: &[u8]) -> Run {
    let output = OutputTopic {
        partitions: 4,
        batch_bytes_max: 1 << 20,
    };
    let topics = ["tame", "team.orders", "team.users", "team.rest"];
    let config = [
        ("orders", "team.orders"),
        ("users", "team.users"),
        ("otherwise", "team.rest"),
        ("act", "none"),
    ];
    let records = Records::from(input());
    Run {
        task: TaskKey {
            module: name.into(),
            deployment: 1,
            number: 0,
        },
        version: Version {
            module: name.into(),
            number: 1,
            label: "1".into(),
            digest: digest(component),
        },
        generation: 1,
        attempt: 1,
        now: 1_700_000_000_000,
        is_fresh: false,
        event_time: None,
        state_bytes: 0,
        kind: Kind::Records,
        inputs: vec![Input {
            topic: "in".into(),
            partition: 0,
            from: 0,
            until: i64::MAX,
            give_up: Vec::new(),
            has_more: false,
            records,
        }],
        outputs: Arc::new(
            topics
                .iter()
                .map(|topic| ((*topic).to_owned(), output.clone()))
                .collect(),
        ),
        dead_letter: None,
        buckets: Arc::default(),
        config: Arc::new(
            config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        ),
        metrics: Arc::default(),
        limits: Limits {
            records_max: 10_000,
            bytes_max: 16 << 20,
            timeout_ms: 2_000,
            memory_bytes_max: 64 << 20,
            output_bytes_max: 8 << 20,
            state_write_bytes_max: 1 << 20,
            state_bytes_max: 1 << 30,
            log_lines_per_second: 50,
        },
    }
}

struct NoState;

impl StateReader for NoState {
    fn get(&self, _: &TaskKey, _: &str, _: &[u8]) -> Option<Bytes> {
        None
    }

    fn scan(&self, _: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }

    fn rows(&self, _: &TaskKey, _: &[u8], _: usize) -> Vec<(Bytes, Bytes)> {
        Vec::new()
    }
}
