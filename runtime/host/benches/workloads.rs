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
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{NoState, RECORDS, component, input, run};
use rustix::time::{ClockId, clock_gettime};
use tidemill_broker::module::run::{Run, Verdict};
use tidemill_host::{RevokeReason, Sandbox, compile};
use tidemill_protocol::batch::{Batch, Builder, Record};

const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(4);
/// Long enough that reading the clock does not count, short beside what disturbs a machine.
const SLICE: Duration = Duration::from_millis(5);

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
        let mut guest = guest(run("workloads", &workloads, name), &workloads);
        let mut native = || drop(std::hint::black_box(native(&records)));
        let [guest, native] = times([&mut guest, &mut native]);
        println!("{name:<12} {guest:>10.0} {native:>10.0} {:>8.2}", guest / native);
    }
    // A module as people write it. It has no native form here.
    if is_asked("route") {
        let [guest] = times([&mut guest(run("route", &route, ""), &route)]);
        println!("{:<12} {guest:>10.0}", "route");
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

/// A sandbox in which every call takes the whole batch.
fn guest(run: Run, component: &[u8]) -> impl FnMut() {
    let (directory, sandbox) = sandbox(component);
    move || {
        let _stays = &directory;
        let processed = sandbox.run(run.clone(), &Arc::default());
        assert!(
            processed.verdict == Verdict::Ack && (1..=RECORDS as u64).contains(&processed.output_records),
            "{:?}",
            processed.verdict
        );
    }
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
    let [kept, fresh] = times([&mut || call(false), &mut || call(true)]);
    println!("an instance starts in {:.0} us", (fresh - kept) * RECORDS as f64 / 1e3);
}

/// Nanoseconds a record of each, medians of slices in turn: what a busy or throttled machine does, it does to all of them. It is this
/// thread's processor time, which does not count the others' turns.
fn times<const N: usize>(mut works: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut slices = [const { Vec::new() }; N];
    let begin = Instant::now();
    while begin.elapsed() < WARM_UP + TIME {
        for (work, slices) in works.iter_mut().zip(&mut slices) {
            let (begun, mut times) = (processor_time(), 0_u32);
            let spent = loop {
                work();
                times += 1;
                let spent = processor_time() - begun;
                if SLICE <= spent {
                    break spent;
                }
            };
            if WARM_UP <= begin.elapsed() {
                slices.push(spent.as_nanos() as f64 / f64::from(times) / RECORDS as f64);
            }
        }
    }
    slices.map(|mut slices| {
        slices.sort_by(f64::total_cmp);
        slices[slices.len() / 2]
    })
}

/// So far, in this thread.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}
