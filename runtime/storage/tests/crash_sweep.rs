//! A recorded workload, cut at every write, sync and rename of journal and redb, reopened and checked.
//!
//! After every cut: every acknowledged entry is there, nothing is there that was not handed in, entries and offsets are dense, logs and rows are the
//! fold of exactly the entries that are there. Then work goes on, and the recovery itself is cut too.
//! `TIDEMILL_SWEEP=20` does it for as many seeds, each with a longer workload, more ways to lose writes and more cuts in recoveries.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
mod common;

use common::{
    Chance,
    node::{Node, fold, small},
    toy::Command,
};
use tidemill_storage::disk::{Crash, Loss, Op, SimDisk, Trace};

/// The workload of the short form.
const SEED: u64 = 11;
const ROUNDS: usize = 80;

/// What was handed in and when it was acknowledged, in operations of the disk.
struct Recorded {
    trace: Trace,
    history: Vec<Command>,
    /// (operations when handed in, operations when acknowledged) of each entry.
    times: Vec<(usize, usize)>,
}

impl Recorded {
    /// A history from a seed, on a new disk.
    fn new(seed: u64, rounds: usize) -> Self {
        let mut chance = Chance(seed);
        let disk = SimDisk::new();
        disk.record();
        let (mut history, mut times) = (Vec::new(), Vec::new());
        let mut node = Node::open(&disk, &small(), &history).unwrap();
        for _ in 0..rounds {
            match chance.below(12) {
                0 => {
                    node.settler.step().unwrap();
                }
                1 if chance.one_in(4) => {
                    node.close().unwrap();
                    node = Node::open(&disk, &small(), &history).unwrap();
                }
                _ => {
                    let commands: Vec<_> = (0..1 + chance.below(3))
                        .map(|_| Command::random(&mut chance, 20_000))
                        .collect();
                    history.extend(commands.iter().cloned());
                    let handed_in = disk.recorded();
                    node.commit(&commands).unwrap();
                    times.extend(commands.iter().map(|_| (handed_in, disk.recorded())));
                }
            }
        }
        Self {
            trace: disk.trace(),
            history,
            times,
        }
    }

    /// Entries acknowledged, and entries handed in, when so many operations were done.
    fn bounds(&self, operations: usize) -> (u64, u64) {
        let acknowledged = self
            .times
            .partition_point(|&(_, acknowledged)| acknowledged <= operations);
        let handed_in = self.times.partition_point(|&(handed_in, _)| handed_in <= operations);
        (acknowledged as u64, handed_in as u64)
    }
}

/// Opens a disk after a crash and checks everything. Gives the node and how many entries survived.
fn reopen(disk: &SimDisk, history: &[Command], (acknowledged, handed_in): (u64, u64), what: &str) -> (Node, u64) {
    let node = Node::open(disk, &small(), history).unwrap_or_else(|error| panic!("{what}: {error}"));
    let applied = node.applied();
    assert!(
        acknowledged <= applied,
        "{what}: {acknowledged} were acknowledged, {applied} are there"
    );
    assert!(
        applied <= handed_in,
        "{what}: {handed_in} were handed in, {applied} are there"
    );
    let (toy, model) = fold(history, applied);
    assert_eq!(node.toy, toy, "{what}");
    model.check(&node.storage);
    (node, applied)
}

/// Goes on after a crash: other entries under the indices that were lost, a settle round, a clean restart.
fn go_on(mut node: Node, disk: &SimDisk, history: &[Command], applied: u64, chance: &mut Chance) {
    let mut history = history[..usize::try_from(applied).unwrap()].to_vec();
    for _ in 0..2 {
        let commands = [Command::random(chance, 5_000), Command::random(chance, 5_000)];
        history.extend(commands.iter().cloned());
        node.commit(&commands).unwrap();
    }
    node.settler.step().unwrap();
    let commands = [Command::random(chance, 5_000)];
    history.extend(commands.iter().cloned());
    node.commit(&commands).unwrap();
    drop(node);
    let all = history.len() as u64;
    reopen(disk, &history, (all, all), "after going on");
}

fn losses(seed: u64, long: bool) -> Vec<Loss> {
    let mut losses = vec![Loss::All, Loss::Nothing];
    losses.extend((0..if long { 2 } else { 1 }).map(|n| Loss::Some(seed * 100 + n)));
    losses
}

fn sweep(seed: u64, rounds: usize, long: bool) {
    let recorded = Recorded::new(seed, rounds);
    let mut chance = Chance(!seed);
    let mut crash = recorded.trace.crash();
    loop {
        let bounds = recorded.bounds(crash.at());
        for loss in losses(seed, long) {
            let what = format!("seed {seed}, cut after operation {}, {loss:?}", crash.at());
            let disk = crash.disk(loss);
            let twice = crash.at() % if long { 3 } else { 9 } == 0;
            if twice {
                let every = 1 + chance.below(20);
                cut_recovery(&crash, loss, &recorded.history, bounds, &what, every, &mut chance);
            }
            let (node, applied) = reopen(&disk, &recorded.history, bounds, &what);
            if twice {
                go_on(node, &disk, &recorded.history, applied, &mut chance);
            }
        }
        if crash.step().is_none() {
            break;
        }
    }
}

/// The power fails while the node recovers from the first crash, or soon after. If the first crash lost nothing it was the process that died: what
/// it had not synced is then lost only now.
fn cut_recovery(
    first: &Crash<'_>,
    loss: Loss,
    history: &[Command],
    bounds: (u64, u64),
    what: &str,
    every: u64,
    chance: &mut Chance,
) {
    let disk = first.disk(loss);
    disk.record();
    let (mut node, applied) = reopen(&disk, history, bounds, what);
    let opened_at = disk.recorded();
    node.settler.step().unwrap();
    let mut history = history[..usize::try_from(applied).unwrap()].to_vec();
    history.push(Command::Clear(0));
    node.commit(&history[history.len() - 1..]).unwrap();
    drop(node);
    let trace = disk.trace();
    let mut crash = if loss == Loss::Nothing {
        first.then(&trace)
    } else {
        trace.crash()
    };
    loop {
        if (crash.at() as u64 + chance.0).is_multiple_of(every) {
            let what = format!("{what}, again after operation {} of the recovery", crash.at());
            // What the first recovery found was made durable before anybody was told, so the second finds no less.
            let acknowledged = if crash.at() < opened_at { bounds.0 } else { applied };
            let known = (acknowledged, applied + 1);
            let loss = if chance.one_in(3) {
                Loss::All
            } else {
                Loss::Some(chance.next())
            };
            reopen(&crash.disk(loss), &history, known, &what);
        }
        if crash.step().is_none() {
            break;
        }
    }
}

#[test]
fn every_cut_leaves_the_acknowledged_prefix() {
    match common::seeds() {
        None => sweep(SEED, ROUNDS, false),
        Some(seeds) => (1..=seeds).for_each(|seed| {
            sweep(seed, 2 * ROUNDS, true);
            println!("seed {seed} of {seeds}: every cut leaves the acknowledged prefix");
        }),
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_bytes() {
    let (one, other) = (Recorded::new(9, 120), Recorded::new(9, 120));
    assert_eq!(one.history, other.history);
    for (at, (one, other)) in one.trace.ops().iter().zip(other.trace.ops()).enumerate() {
        assert_eq!(kind(one), kind(other), "operation {at}");
        assert!(one == other, "operation {at}: {}", kind(one));
    }
    assert_eq!(one.trace.ops().len(), other.trace.ops().len());
}

#[test]
fn the_workload_has_every_boundary() {
    let recorded = Recorded::new(SEED, ROUNDS);
    let named = |part: &str| {
        let is = |op: &&Op| matches!(op, Op::Rename(from, to) if from.contains(part) || to.contains(part));
        recorded.trace.ops().iter().filter(is).count()
    };
    assert!(1 < named("segments/"), "several segments");
    assert!(1 < named("spare-"), "journal files are recycled");
    let removed = recorded
        .trace
        .ops()
        .iter()
        .any(|op| matches!(op, Op::Remove(path) if path.contains("segments/")));
    assert!(removed, "dead segments are unlinked");
}

fn kind(op: &Op) -> String {
    match op {
        Op::Write(file, at, data) => format!("write {} bytes at {at} of file {file}", data.len()),
        other => format!("{other:?}"),
    }
}
