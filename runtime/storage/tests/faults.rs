//! A disk that is full, fails, or rots.
#![allow(clippy::unwrap_used)]
mod common;

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, mpsc},
};

use bytes::Bytes;
use common::{
    Chance,
    node::{Node, fold, small},
    toy::Command,
};
use tidemill_storage::{
    CommitError, Error, Options, Storage, Writer,
    disk::{Disk, Fault, Loss, SimDisk},
};

fn commands(seed: u64, count: usize) -> Vec<Command> {
    let mut chance = Chance(seed);
    (0..count).map(|_| Command::random(&mut chance, 5_000)).collect()
}

fn check(node: &Node, history: &[Command]) {
    assert_eq!(node.applied(), history.len() as u64);
    let (toy, model) = fold(history, node.applied());
    assert_eq!(node.toy, toy);
    model.check(&node.storage);
}

#[test]
fn a_write_refused_for_space_loses_nothing_and_is_taken_later() {
    for half_written in 0..6 {
        let disk = SimDisk::new();
        let mut history = commands(half_written, 20);
        let mut node = Node::open(&disk, &small(), &history).unwrap();
        node.commit(&history).unwrap();
        disk.set_fault(Some(Fault::Once(0, ErrorKind::StorageFull)));
        let next = node.journal.next_index();
        let more = commands(100 + half_written, 3);
        assert!(node.commit(&more).unwrap_err().is_retriable());
        assert_eq!(node.journal.next_index(), next);
        check(&node, &history);
        // Others take the same indices; shorter, so that what the refused write left lies behind them.
        let other = [Command::Clear(1)];
        node.commit(&other).unwrap();
        history.extend(other);
        check(&node, &history);
        drop(node);
        check(&Node::open(&disk, &small(), &history).unwrap(), &history);
    }
}

#[test]
fn a_full_disk_keeps_reads_and_retention_working() {
    let disk = SimDisk::new();
    let mut history = commands(1, 60);
    let mut node = Node::open(&disk, &small(), &history).unwrap();
    for command in &history {
        node.commit(std::slice::from_ref(command)).unwrap();
        if node.applied().is_multiple_of(7) {
            node.settler.step().unwrap();
        }
    }
    // Nothing may grow any more; what was allocated may be written again.
    disk.set_capacity(Some(disk.used_bytes()));
    let mut refused = 0;
    for command in commands(2, 40) {
        match node.commit(std::slice::from_ref(&command)) {
            Ok(()) => history.push(command),
            Err(error) => {
                assert!(error.is_retriable(), "{error}");
                refused += 1;
            }
        }
        check(&node, &history);
    }
    assert!(0 < refused);
    if let Err(error) = node.settler.step() {
        assert!(error.is_retriable(), "{error}");
        assert!(node.storage.is_full());
    }
    check(&node, &history);
    disk.set_capacity(None);
    node.settler.step().unwrap();
    assert!(!node.storage.is_full());
    let more = commands(3, 10);
    node.commit(&more).unwrap();
    history.extend(more);
    node.settler.step().unwrap();
    check(&node, &history);
    drop(node);
    check(&Node::open(&disk, &small(), &history).unwrap(), &history);
}

#[test]
fn what_is_deleted_in_the_segment_that_is_written_is_room_again() {
    let (disk, mut history) = (SimDisk::new(), Vec::new());
    let options = Options {
        segment_bytes: 64 << 20,
        journal_file_bytes: 64 << 10,
        reserve_bytes: 256 << 10,
        ..small()
    };
    let append = |log, seed| Command::Append(vec![(log, 1, 16 << 10, 0, seed)], Vec::new());
    let mut node = Node::open(&disk, &options, &history).unwrap();
    let commit = |node: &mut Node, history: &mut Vec<Command>, command| {
        history.push(command);
        node.commit(&history[history.len() - 1..]).unwrap();
    };
    // A little of the first log stays; it keeps the segment alive.
    commit(&mut node, &mut history, append(1, 0));
    for seed in 1..100 {
        commit(&mut node, &mut history, append(2, seed));
    }
    node.settler.step().unwrap();
    assert_eq!(node.storage.usage().segments, 1);
    disk.set_capacity(Some(disk.used_bytes() + (192 << 10)));
    node.settler.step().unwrap();
    assert!(node.storage.is_full());
    commit(&mut node, &mut history, Command::Drop(2));
    node.settler.step().unwrap();
    assert!(!node.storage.is_full());
    // And it is: as much again, in the same place.
    for seed in 100..130 {
        commit(&mut node, &mut history, append(3, seed));
        node.settler.step().unwrap();
    }
    assert!(!node.storage.is_full());
    check(&node, &history);
    drop(node);
    check(&Node::open(&disk, &options, &history).unwrap(), &history);
}

#[test]
fn a_settle_round_that_finds_no_space_anywhere_is_done_again() {
    for refused_at in 0..60 {
        let disk = SimDisk::new();
        let history = commands(refused_at, 40);
        let mut node = Node::open(&disk, &small(), &history).unwrap();
        node.commit(&history[..20]).unwrap();
        node.settler.step().unwrap();
        node.commit(&history[20..]).unwrap();
        disk.set_fault(Some(Fault::Once(refused_at, ErrorKind::StorageFull)));
        let refused = node.settler.step();
        disk.set_fault(None);
        match refused {
            // A sync that finds no space has lost what it should have kept: that stops the process, and a restart finds everything.
            Err(error) if !error.is_retriable() => {}
            _ => {
                check(&node, &history);
                node.settler.step().unwrap();
                check(&node, &history);
            }
        }
        disk.record();
        let crashed = disk.trace().crash().disk(Loss::Nothing);
        check(&Node::open(&crashed, &small(), &history).unwrap(), &history);
    }
}

#[test]
fn a_failed_sync_stops_the_journal_for_ever() {
    let disk = SimDisk::new();
    let history = commands(5, 10);
    let mut node = Node::open(&disk, &small(), &history).unwrap();
    node.commit(&history[..5]).unwrap();
    disk.set_fault(Some(Fault::Once(1, ErrorKind::Other)));
    assert!(!node.commit(&history[5..6]).unwrap_err().is_retriable());
    assert!(!node.commit(&history[5..6]).unwrap_err().is_retriable());
}

#[test]
fn a_failure_anywhere_in_a_settle_round_is_fatal_and_loses_nothing() {
    for failed_at in 0..40 {
        let disk = SimDisk::new();
        let history = commands(failed_at, 40);
        let mut node = Node::open(&disk, &small(), &history).unwrap();
        node.commit(&history).unwrap();
        disk.set_fault(Some(Fault::From(failed_at, ErrorKind::Other)));
        if let Err(error) = node.settler.step() {
            assert!(!error.is_retriable(), "{error}");
        }
        drop(node);
        disk.set_fault(None);
        check(&Node::open(&disk, &small(), &history).unwrap(), &history);
    }
}

/// A disk whose journal has three files or more, and nothing settled.
fn journalled() -> (SimDisk, Vec<Command>, Vec<(String, Vec<u8>)>) {
    let disk = SimDisk::new();
    let history = commands(8, 60);
    let mut node = Node::open(&disk, &small(), &history).unwrap();
    for command in &history {
        node.commit(std::slice::from_ref(command)).unwrap();
    }
    drop(node);
    let logs: Vec<_> = disk
        .contents()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".log"))
        .collect();
    assert!(3 <= logs.len());
    (disk, history, logs)
}

/// The same disk, on its own.
fn copy(disk: &SimDisk) -> SimDisk {
    disk.record();
    disk.trace().crash().disk(Loss::Nothing)
}

#[test]
fn a_flipped_bit_in_the_middle_is_refused_with_its_place() {
    let (disk, history, logs) = journalled();
    let mut chance = Chance(1);
    for (path, data) in &logs[..logs.len() - 1] {
        for _ in 0..40 {
            let disk = copy(&disk);
            let used = data.iter().rposition(|&byte| byte != 0).unwrap() as u64;
            let position = chance.below(used);
            disk.flip(path, position);
            match Node::open(&disk, &small(), &history) {
                Err(Error::Corrupt { file, position: at, .. }) => {
                    assert_eq!(&file, path);
                    assert!(
                        at <= position,
                        "{at} is where the damaged group begins, {position} was flipped"
                    );
                }
                // A bit of the filling between two groups.
                Ok(node) => check(&node, &history),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_last_file_is_refused_unless_it_is_in_the_last_group() {
    let (disk, history, logs) = journalled();
    let (path, data) = logs.last().unwrap();
    let mut groups: Vec<_> = (64..data.len())
        .step_by(64)
        .filter(|&at| data[at..at + 4] == *b"TGRP")
        .collect();
    let last = groups.pop().unwrap();
    assert!(!groups.is_empty());
    for at in groups {
        let disk = copy(&disk);
        disk.flip(path, at as u64 + 45);
        match Node::open(&disk, &small(), &history) {
            Err(Error::Corrupt { file, position, .. }) => assert_eq!((&file, position), (path, at as u64)),
            other => panic!("{:?}", other.map(|node| node.applied())),
        }
    }
    // Nobody can tell this from a write that was cut off.
    disk.flip(path, last as u64 + 45);
    check(
        &Node::open(&disk, &small(), &history).unwrap(),
        &history[..history.len() - 1],
    );
}

#[test]
fn a_missing_journal_file_is_refused() {
    let (disk, history, logs) = journalled();
    for (path, _) in &logs[..logs.len() - 1] {
        let disk = copy(&disk);
        disk.remove(path).unwrap();
        assert!(matches!(
            Node::open(&disk, &small(), &history),
            Err(Error::Corrupt { .. })
        ));
    }
}

#[test]
fn a_foreign_file_and_a_second_daemon_are_refused_by_name() {
    for path in [
        "shard-0/notes.txt",
        "shard-0/journal/notes.txt",
        "shard-0/segments/7.redb",
    ] {
        let disk = SimDisk::new();
        drop(Node::open(&disk, &small(), &[]).unwrap());
        drop(disk.open(path, tidemill_storage::disk::Open::New).unwrap());
        match Node::open(&disk, &small(), &[]) {
            Err(Error::Foreign(found)) => assert_eq!(found, path),
            other => panic!("{:?}", other.map(|node| node.applied())),
        }
    }
    let disk = SimDisk::new();
    let _first = Node::open(&disk, &small(), &[]).unwrap();
    assert!(matches!(Node::open(&disk, &small(), &[]), Err(Error::InUse(_))));
}

fn writer(disk: &SimDisk) -> (Writer, mpsc::Receiver<Error>) {
    let opened = Storage::open(
        Arc::new(disk.clone()),
        &Options {
            reserve_bytes: 0,
            ..Options::default()
        },
    )
    .unwrap();
    let (failed, failure) = mpsc::channel();
    (
        Writer::spawn(opened.journal, Box::new(move |error| failed.send(error).unwrap())),
        failure,
    )
}

type Told = Arc<Mutex<Vec<(u64, Result<(), CommitError>)>>>;

fn submit(writer: &Writer, told: &Told, name: u64, index: u64) {
    let told = told.clone();
    let done = Box::new(move |result| told.lock().unwrap().push((name, result)));
    writer.submit(index, vec![Bytes::from_static(b"entry")], done);
}

#[test]
fn the_writer_tells_everybody_in_order_and_once() {
    let disk = SimDisk::new();
    let (writer, _failure) = writer(&disk);
    let told = Told::default();
    (1..=1_000).for_each(|index| submit(&writer, &told, index, index));
    drop(writer);
    let expected: Vec<_> = (1..=1_000).map(|index| (index, Ok(()))).collect();
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn after_a_refusal_the_writer_takes_the_same_index_again() {
    let disk = SimDisk::new();
    let (writer, _failure) = writer(&disk);
    let told = Told::default();
    let (sent, refused) = mpsc::channel();
    disk.set_fault(Some(Fault::Once(0, ErrorKind::StorageFull)));
    let done = Box::new(move |result| sent.send(result).unwrap());
    writer.submit(1, vec![Bytes::from_static(b"refused")], done);
    assert_eq!(refused.recv().unwrap(), Err(CommitError::NoSpace));
    submit(&writer, &told, 2, 2);
    submit(&writer, &told, 1, 1);
    submit(&writer, &told, 22, 2);
    drop(writer);
    let expected = [
        (2, Err(CommitError::OutOfSequence { expected: 1 })),
        (1, Ok(())),
        (22, Ok(())),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn after_a_failed_sync_the_writer_reports_it_before_it_tells_anybody() {
    let disk = SimDisk::new();
    let (writer, failure) = writer(&disk);
    disk.set_fault(Some(Fault::From(1, ErrorKind::Other)));
    let (sent, told) = mpsc::channel();
    for index in 1..=3 {
        let sent = sent.clone();
        writer.submit(
            index,
            vec![Bytes::from_static(b"entry")],
            Box::new(move |result| sent.send(result).unwrap()),
        );
    }
    for _ in 0..3 {
        assert_eq!(told.recv().unwrap(), Err(CommitError::Stopped));
    }
    assert!(!failure.try_recv().unwrap().is_retriable());
}
