//! What a batch of 1,000 records of 100 bytes costs, a record, storage excluded: through guests in the sandbox, and by the same functions
//! compiled natively. Both decode the same record batch, and encode one. An instance's start is at the end.
//!
//! ```text
//! cargo xtask guests && cargo bench --workspace --bench workloads [WORK ...]
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is a program for people"
)]
mod common;
#[path = "../../../guest-examples/workloads/src/work.rs"]
mod work;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{NoState, RECORDS, component, input, run};
use tidemill_broker::module::run::{Run, Verdict};
use tidemill_host::{RevokeReason, Sandbox, compile};
use tidemill_protocol::batch::{Batch, Builder, Record};

const TIME: Duration = Duration::from_secs(2);

/// Name, and what the guest does, natively.
type Work = (&'static str, fn(&Bytes) -> Bytes);

const WORKS: [Work; 5] = [
    ("identity", |batch| {
        through(batch, |record, out| {
            out.append(record.timestamp, record.key, record.value, []);
        })
    }),
    ("forward", |batch| {
        through(batch, |record, out| {
            out.append_encoded(record.timestamp, record.encoded)
        })
    }),
    ("upper-case", |batch| {
        let mut upper = Vec::new();
        through(batch, |record, out| {
            work::upper_case(record.value.unwrap_or_default(), &mut upper);
            out.append(record.timestamp, record.key, Some(&upper), []);
        })
    }),
    ("filter", |batch| {
        through(batch, |record, out| {
            if record.value.is_some_and(work::is_large_payment) {
                out.append_encoded(record.timestamp, record.encoded);
            }
        })
    }),
    ("count", |batch| {
        let payload = Batch::parse(batch.clone()).unwrap().payload(1 << 30).unwrap();
        let (mut counts, mut out) = (work::Counts::new(), Builder::new());
        for record in payload.records() {
            work::count(&mut counts, record.unwrap().key.unwrap_or_default());
        }
        for (key, count) in counts {
            out.append(0, Some(key), Some(&count.to_le_bytes()), []);
        }
        out.finish()
    }),
];

fn main() {
    let records = input();
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let (Some(workloads), Some(route)) = (component("workloads"), component("route")) else {
        return println!("the guests are not built: run `cargo xtask guests` first");
    };
    println!("{:<12} {:>10} {:>10} {:>8}", "ns a record", "module", "native", "ratio");
    for (name, native) in WORKS.into_iter().filter(|(name, _)| is_asked(name)) {
        let native = time(&mut || drop(std::hint::black_box(native(&records))));
        let guest = guest(run("workloads", &workloads, name), &workloads);
        println!("{name:<12} {guest:>10.0} {native:>10.0} {:>8.2}", guest / native);
    }
    // A module as people write it. It has no native form here.
    if is_asked("route") {
        println!("{:<12} {:>10.0}", "route", guest(run("route", &route, ""), &route));
    }
    if is_asked("start") {
        start(&run("workloads", &workloads, "nothing"), &workloads);
    }
}

/// Every record on its way to the output.
fn through(batch: &Bytes, mut each: impl FnMut(&Record<'_>, &mut Builder)) -> Bytes {
    let payload = Batch::parse(batch.clone()).unwrap().payload(1 << 30).unwrap();
    let mut builder = Builder::new();
    for record in payload.records() {
        each(&record.unwrap(), &mut builder);
    }
    builder.finish()
}

fn sandbox(component: &[u8]) -> (tempfile::TempDir, Sandbox) {
    let directory = tempfile::tempdir().unwrap();
    compile::compile(component, directory.path()).unwrap();
    let sandbox = Sandbox::new(directory.path(), Arc::new(NoState)).unwrap();
    (directory, sandbox)
}

fn guest(run: Run, component: &[u8]) -> f64 {
    let (_directory, sandbox) = sandbox(component);
    let ran = |records: u64| {
        let processed = sandbox.run(run.clone(), &Arc::default());
        assert!(
            processed.verdict == Verdict::Ack && 0 < processed.output_records && processed.output_records <= records,
            "{:?}",
            processed.verdict
        );
    };
    time(&mut || ran(RECORDS as u64))
}

/// What the first call of a new instance costs more than that of one that is kept: both refuse their batch at once.
fn start(run: &Run, component: &[u8]) {
    let (_directory, sandbox) = sandbox(component);
    sandbox.load(&run.version.digest).unwrap();
    let call = |fresh: bool| {
        if fresh {
            sandbox.revoke(&run.version, None, RevokeReason::Rebalance, &Arc::default());
        }
        sandbox.run(run.clone(), &Arc::default());
    };
    let (kept, fresh) = (time(&mut || call(false)), time(&mut || call(true)));
    println!("an instance starts in {:.0} us", (fresh - kept) * RECORDS as f64 / 1e3);
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
    spent.as_nanos() as f64 / f64::from(times) / RECORDS as f64
}

/// So far, in this thread.
fn processor_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
