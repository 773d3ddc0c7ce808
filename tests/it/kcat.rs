//! Debian's kcat (librdkafka): a client that we did not write, over plain TCP.
use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{
    daemon::{Daemon, text, until},
    member::{Kind, Member, together, until_stable},
};

/// Whether kcat is here; says so visibly where it is not.
pub fn kcat_is_missing(test: &str) -> bool {
    let missing = Command::new("kcat").arg("-V").output().is_err();
    if missing {
        eprintln!("SKIPPED {test}: kcat is not installed (apt-get install kcat)");
    }
    missing
}

fn kcat(daemon: &Daemon, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &daemon.address()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    text(&child.wait_with_output().unwrap(), &format!("kcat {}", args.join(" ")))
}

fn lines(range: std::ops::Range<u32>) -> String {
    range
        .map(|n| format!("key-{n}=value {n} of a text that repeats and repeats itself\n"))
        .collect()
}

#[test]
fn kcat_lists_brokers_and_topics() {
    if kcat_is_missing("kcat_lists_brokers_and_topics") {
        return;
    }
    let daemon = Daemon::start();
    daemon.run(&["topic", "create", "clicks", "--partitions", "3"]);
    let listing = kcat(&daemon, &["-L"], "");
    assert!(listing.contains(&daemon.address()), "{listing}");
    assert!(listing.contains("topic \"clicks\" with 3 partitions"), "{listing}");
}

#[test]
fn kcat_reads_what_kcat_wrote_with_every_compression() {
    if kcat_is_missing("kcat_reads_what_kcat_wrote_with_every_compression") {
        return;
    }
    let mut daemon = Daemon::start();
    let input = lines(0..500);
    let read = |daemon: &Daemon, topic: &str| kcat(daemon, &["-C", "-t", topic, "-e", "-q", "-K", "="], "");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("zipped-{codec}");
        daemon.run(&["topic", "create", &topic, "--partitions", "1"]);
        kcat(&daemon, &["-P", "-t", &topic, "-K", "=", "-z", codec], &input);
        assert_eq!(read(&daemon, &topic), input, "{codec}");
    }
    // The same after a crash: what was acknowledged is there, from disk.
    daemon.kill();
    daemon.restart();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        assert_eq!(
            read(&daemon, &format!("zipped-{codec}")),
            input,
            "{codec} after kill -9"
        );
    }
}

#[test]
fn kcat_reads_from_an_offset_and_from_a_timestamp() {
    if kcat_is_missing("kcat_reads_from_an_offset_and_from_a_timestamp") {
        return;
    }
    let daemon = Daemon::start();
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    kcat(&daemon, &["-P", "-t", "t", "-K", "="], &lines(0..20));
    let tail = kcat(&daemon, &["-C", "-t", "t", "-o", "15", "-e", "-q", "-K", "="], "");
    assert_eq!(tail, lines(15..20));
    let last = kcat(&daemon, &["-C", "-t", "t", "-o", "-2", "-e", "-q", "-K", "="], "");
    assert_eq!(last, lines(18..20));
    let all = kcat(&daemon, &["-C", "-t", "t", "-o", "s@1000", "-e", "-q", "-K", "="], "");
    assert_eq!(all, lines(0..20));
}

#[test]
fn kcat_makes_a_topic_by_writing_to_it() {
    if kcat_is_missing("kcat_makes_a_topic_by_writing_to_it") {
        return;
    }
    let daemon = Daemon::start();
    kcat(&daemon, &["-P", "-t", "fresh", "-K", "="], &lines(0..3));
    let listing = kcat(&daemon, &["-L", "-t", "fresh"], "");
    assert!(listing.contains("topic \"fresh\" with 4 partitions"), "{listing}");
}

#[test]
fn three_kcat_members_share_a_topic_and_take_over_from_one_that_dies() {
    if kcat_is_missing("three_kcat_members_share_a_topic_and_take_over_from_one_that_dies") {
        return;
    }
    let daemon = Daemon::start();
    daemon.run(&["topic", "create", "work", "--partitions", "6"]);
    let mut members: Vec<Member> = (0..3)
        .map(|n| Member::join(&daemon, Kind::Kcat, "workers", "work", &n.to_string()))
        .collect();
    until_stable(&daemon, "workers", 3);

    kcat(&daemon, &["-P", "-t", "work", "-K", "="], &lines(0..600));
    until("six hundred records are seen", || together(&members).len() == 600);
    // One dies without a word; its partitions go to the others at the committed offset.
    members[0].kill();
    let lost = members[0].partitions();
    kcat(&daemon, &["-P", "-t", "work", "-K", "="], &lines(600..1200));
    until("the rest is seen", || together(&members).len() == 1200);
    assert!(
        lost.iter()
            .all(|p| members[1..].iter().any(|m| m.partitions().contains(p))),
        "nobody took over {lost:?}"
    );
}
