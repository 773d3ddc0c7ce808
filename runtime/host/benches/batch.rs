//! What a batch of 1,000 records of 100 bytes costs, a record: through a guest that forwards by key (`route`), through one that reads every
//! record (`bad-actors`, tame), and the same bytes decoded and encoded without a sandbox.
//!
//! ```text
//! cargo bench --package tidemill-host --bench batch
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is a program for people"
)]
mod common;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{NoState, RECORDS, component, input, run};
use tidemill_broker::module::run::Verdict;
use tidemill_host::{Sandbox, compile};
use tidemill_protocol::batch::{Batch, Builder};

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

fn copy(batch: &Bytes) -> Bytes {
    let payload = Batch::parse(batch.clone()).unwrap().payload(1 << 30).unwrap();
    let mut builder = Builder::new();
    for record in payload.records() {
        let record = record.unwrap();
        builder.append(record.timestamp, record.key, record.value, record.headers);
    }
    builder.finish()
}
