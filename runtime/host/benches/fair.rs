//! What a neighbour that spins costs a well-behaved module: `route` beside `bad-actors`, whose every batch takes hundreds of times as long and
//! never fails. The module's fair share is what it does alone, at most half of what the lanes can do for it; the ratio is what is left of that.
//!
//! ```text
//! cargo bench --package tidemill-host --bench fair
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench is a program for people"
)]
mod common;

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::{NoState, component, run};
use tidemill_broker::module::run::{Run, Verdict};
use tidemill_host::{Lanes, Sandbox, compile};
use tidemill_protocol::{batch::Builder, records::Records};

/// How long a batch of the neighbour spins: well below the timeout, which counts wall time.
const SPIN: Duration = Duration::from_millis(300);
const TIMEOUT_MS: u32 = 2_000;
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 3;

fn main() {
    let (Some(route), Some(actors)) = (component("route"), component("bad_actors")) else {
        println!("the guests are not built; run `cargo xtask guests` first");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    for component in [&route, &actors] {
        compile::compile(component, directory.path()).unwrap();
    }
    let count = thread::available_parallelism().map_or(1, usize::from);
    let sandbox = Arc::new(Sandbox::new(directory.path(), Arc::new(NoState)).unwrap());
    let lanes = Lanes::start(count, sandbox).unwrap();
    let decent = run("route", &route, "");
    let spinning = spinning(&lanes, run("bad_actors", &actors, ""));
    // One task is one batch in flight: nothing waits while its outcome is on its way.
    for tasks in [1, 2 * count] {
        let (mut capacity, mut alone, mut beside, mut neighbour) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..ROUNDS {
            capacity += rates(&lanes, &[(&decent, 2 * count)])[0];
            alone += rates(&lanes, &[(&decent, tasks)])[0];
            let both = rates(&lanes, &[(&decent, tasks), (&spinning, 2 * count)]);
            beside += both[0];
            neighbour += both[1];
        }
        let fair: f64 = f64::min(alone, capacity / 2.0);
        let of_each = |sum: f64| sum / f64::from(ROUNDS);
        println!(
            "{tasks} tasks on {count} lanes: {:.0} batches/s alone, {:.0} beside {:.1} of the neighbour's: {:.1} % of its fair share",
            of_each(alone),
            of_each(beside),
            of_each(neighbour),
            100.0 * beside / fair
        );
    }
}

/// The neighbour, with as many steps as it takes to spin for so long on this machine.
fn spinning(lanes: &Lanes, mut run: Run) -> Run {
    let mut builder = Builder::new();
    builder.append(run.now, None, Some(b"now"), []);
    run.inputs[0].records = Records::from(builder.finish());
    run.limits.timeout_ms = TIMEOUT_MS;
    let mut millions: u64 = 10;
    loop {
        let config = [("act", "spin".to_owned()), ("millions", millions.to_string())];
        run.config = Arc::new(config.map(|(key, value)| (key.to_owned(), value)).into());
        let begin = Instant::now();
        rates_for(lanes, &[(&run, 1)], Duration::ZERO);
        let took = begin.elapsed();
        if SPIN / 2 < took {
            return run;
        }
        let wanted = u128::from(millions) * SPIN.as_millis() / took.as_millis().max(1);
        millions = u64::try_from(wanted).unwrap().clamp(millions + 1, millions * 20);
    }
}

fn rates(lanes: &Lanes, loads: &[(&Run, usize)]) -> Vec<f64> {
    rates_for(lanes, loads, ROUND)
}

/// Batches a second of each module, when so many of its tasks have a batch in flight all the time.
fn rates_for(lanes: &Lanes, loads: &[(&Run, usize)], time: Duration) -> Vec<f64> {
    let (answer, answered) = mpsc::channel();
    let submit = |place: usize, number: u32| {
        let (mut run, answer) = (loads[place].0.clone(), answer.clone());
        run.task.number = number;
        let done = move |processed| answer.send((place, number, processed)).unwrap();
        lanes.submit(run, Box::new(done));
    };
    let mut in_flight = 0;
    for (place, (_, tasks)) in loads.iter().enumerate() {
        (0..*tasks).for_each(|number| submit(place, u32::try_from(number).unwrap()));
        in_flight += tasks;
    }
    let (begin, mut counts) = (Instant::now(), vec![0_u32; loads.len()]);
    while in_flight != 0 {
        let (place, number, processed) = answered.recv().unwrap();
        assert_eq!(processed.verdict, Verdict::Ack, "{:?}", processed.logs);
        if begin.elapsed() < time {
            counts[place] += 1;
            submit(place, number);
        } else {
            in_flight -= 1;
        }
    }
    let seconds = time.as_secs_f64();
    counts.iter().map(|count| f64::from(*count) / seconds).collect()
}
