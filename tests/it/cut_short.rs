//! `tidemill consume --group` that ends before there is nothing more: what it commits is what it printed, and it leaves at once.
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
};

use crate::{
    daemon::{Daemon, until},
    member::produce_everywhere,
};

const CONSUME: [&str; 6] = ["consume", "t", "--group", "g", "--from", "earliest"];

fn daemon_with_records(partitions: i32, count: u32) -> Daemon {
    let daemon = Daemon::start();
    daemon.run(&["topic", "create", "t", "--partitions", &partitions.to_string()]);
    produce_everywhere(&daemon, "t", partitions, count, "r");
    daemon
}

/// What it prints; it must end by itself.
fn consume(daemon: &Daemon, more: &[&str]) -> Vec<String> {
    let file = daemon.scratch().join("printed.txt");
    let mut command = daemon.tidemill();
    command.args(CONSUME).args(["--key-separator", "="]).args(more);
    ends(command.stdout(File::create(&file).unwrap()).spawn().unwrap());
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn ends(mut process: Child) {
    until("it ends by itself", || process.try_wait().unwrap().is_some());
    assert!(process.wait().unwrap().code().is_some(), "by itself");
}

#[test]
fn a_group_that_stops_within_a_batch_goes_on_behind_what_it_printed() {
    let daemon = daemon_with_records(1, 2_000);
    let lines: Vec<String> = [&["-n", "1500"][..], &["-n", "200"], &["--until-end"]]
        .iter()
        .flat_map(|bound| consume(&daemon, bound))
        .collect();
    let expected: Vec<String> = (0..2_000).map(|n| format!("r-0-{n}=x")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_member_whose_reader_is_gone_leaves() {
    let daemon = daemon_with_records(1, 20_000);
    let mut process = daemon.tidemill().args(CONSUME).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "x\n");
    ends(process);
    // Nobody waits for a session to end.
    assert!(!consume(&daemon, &["-n", "1"]).is_empty());
}

#[test]
fn what_comes_behind_the_end_while_others_are_read_is_left_for_the_next_run() {
    let daemon = daemon_with_records(2, 1);
    let write_to = |partition| {
        let mut command = daemon.tidemill();
        command.args(["produce", "t", "--key-separator", "=", "--partition", partition]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        (process, input)
    };
    let (filling, mut input) = write_to("1");
    (0..100_000).for_each(|n| writeln!(input, "large-{n}=x").unwrap());
    drop(input);
    ends(filling);
    let (mut feeding, mut input) = write_to("0");
    let feeder = std::thread::spawn(move || {
        for n in 0..3_000 {
            writeln!(input, "late-{n}=x").unwrap();
            if n % 10 == 0 {
                std::thread::park_timeout(std::time::Duration::from_millis(2));
            }
        }
    });
    let mut printed: BTreeMap<String, u32> = BTreeMap::new();
    let mut is_last = false;
    while !is_last {
        is_last = feeding.try_wait().unwrap().is_some();
        for line in consume(&daemon, &["--until-end"]) {
            *printed.entry(line).or_default() += 1;
        }
    }
    feeder.join().unwrap();
    assert_eq!(printed.len(), 103_002, "every record is printed");
    assert!(printed.values().all(|times| *times == 1), "and once");
}
