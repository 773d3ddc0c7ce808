//! Catching up over every boundary, searching by time, retention.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod common;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use common::{Chance, batch, patched};
use tidemill_storage::{
    Append, Changes, LogId, LogRead, Opened, Options, ReadError, RetentionQuery, Storage,
    disk::{RealDisk, SimDisk},
};

const LOG: LogId = LogId(3);

/// A log on a simulated disk, and what it should hold.
struct Fixture {
    opened: Opened,
    batches: Vec<(i64, i64, i64, Vec<u8>)>,
}

impl Fixture {
    fn new(options: &Options) -> Self {
        let opened = Storage::open(Arc::new(SimDisk::new()), options).unwrap();
        Self {
            opened,
            batches: Vec::new(),
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.1 + 1)
    }

    fn append(&mut self, records: i32, payload_bytes: usize, timestamp: i64) {
        let (base_offset, index) = (self.end(), self.opened.storage.applied() + 1);
        let last_offset = base_offset + i64::from(records) - 1;
        let batch = batch(records, payload_bytes, timestamp, index);
        self.batches
            .push((base_offset, last_offset, timestamp, patched(&batch, base_offset, 5)));
        let append = Append {
            log: LOG,
            base_offset,
            last_offset,
            max_timestamp: timestamp,
            leader_epoch: 5,
            batch,
        };
        self.opened
            .storage
            .publish(Changes {
                index,
                appends: vec![append],
                ..Changes::default()
            })
            .unwrap();
    }

    fn trim(&mut self, start: i64) {
        let index = self.opened.storage.applied() + 1;
        self.opened
            .storage
            .publish(Changes {
                index,
                log_starts: vec![(LOG, start)],
                ..Changes::default()
            })
            .unwrap();
    }

    fn settle(&mut self) {
        self.opened.settler.step().unwrap();
    }

    fn read(&self, from: i64, bytes_max: usize) -> Bytes {
        let read = LogRead {
            log: LOG,
            from,
            until: self.end(),
            bytes_max,
        };
        self.opened.storage.read(read).unwrap().to_bytes()
    }
}

/// Last offset of the last whole batch in an answer.
fn last_offset(answer: &[u8]) -> Option<i64> {
    let (mut at, mut last) = (0, None);
    while at < answer.len() {
        let base = i64::from_be_bytes(answer[at..at + 8].try_into().unwrap());
        let rest = i32::from_be_bytes(answer[at + 8..at + 12].try_into().unwrap());
        let delta = i32::from_be_bytes(answer[at + 23..at + 27].try_into().unwrap());
        last = Some(base + i64::from(delta));
        at += 12 + rest as usize;
    }
    assert_eq!(at, answer.len(), "only whole batches");
    last
}

/// Segments with several chunks each, a chunk made of several pieces, a tail that is settled in part.
fn every_boundary() -> Fixture {
    let options = Options {
        segment_bytes: 700 << 10,
        cached_bytes_max: 30 << 10,
        reserve_bytes: 0,
        ..Options::default()
    };
    let mut fixture = Fixture::new(&options);
    let mut chance = Chance(41);
    for round in 0..12 {
        for _ in 0..30 {
            let payload = if chance.one_in(3) { 30_000 } else { 300 };
            fixture.append(1 + chance.below(4) as i32, chance.below(payload) as usize, 0);
        }
        if round < 11 {
            fixture.settle();
        }
    }
    assert!(3 <= fixture.opened.storage.usage().segments);
    fixture
}

#[test]
fn catching_up_gets_every_offset_at_every_fetch_size() {
    let fixture = every_boundary();
    let whole: Vec<u8> = fixture.batches.iter().flat_map(|batch| batch.3.clone()).collect();
    let mut sizes: BTreeSet<usize> = [0, 1, 61, 1 << 10, 100 << 10, 256 << 10, 1 << 20, 8 << 20].into();
    // Sizes at which an answer ends exactly at a batch, or one byte off.
    let mut sum = 0;
    for batch in fixture.batches.iter().take(12) {
        sum += batch.3.len();
        sizes.extend([sum - 1, sum, sum + 1]);
    }
    for bytes_max in sizes {
        let (mut caught_up, mut from) = (Vec::new(), 0);
        while from < fixture.end() {
            let answer = fixture.read(from, bytes_max);
            let last = last_offset(&answer).expect("an answer below the end is not empty");
            assert!(from <= last, "at {from} with {bytes_max}");
            caught_up.extend_from_slice(&answer);
            from = last + 1;
        }
        assert!(
            caught_up == whole,
            "with {bytes_max}: {} of {} bytes",
            caught_up.len(),
            whole.len()
        );
    }
}

#[test]
fn reading_on_gets_what_reading_gets_however_much_was_read_ahead() {
    let fixture = every_boundary();
    let mut chance = Chance(43);
    let (mut from, mut last_bytes_max, mut ahead_used, mut at_hand) = (0, 0, 0, 0);
    while from < fixture.end() {
        let bytes_max = if chance.one_in(8) {
            chance.below(200_000) as usize
        } else {
            50_000
        };
        let read = LogRead {
            log: LOG,
            from,
            until: fixture.end(),
            bytes_max,
        };
        let storage = &fixture.opened.storage;
        let answer = storage.read_at_hand(read).inspect(|_| at_hand += 1);
        let (records, ahead) = answer.unwrap_or_else(|| storage.read_on(read)).unwrap();
        let records = records.to_bytes();
        if last_bytes_max <= bytes_max {
            ahead_used += 1;
        } else {
            assert_eq!(records, fixture.read(from, bytes_max), "from {from}");
        }
        assert!(records.len() <= bytes_max.max(31_000), "from {from}");
        let all = fixture.read(from, usize::MAX);
        assert_eq!(records[..], all[..records.len()], "from {from}");
        from = last_offset(&records).unwrap() + 1;
        if let Some(ahead) = ahead {
            assert_eq!(ahead, LogRead { from, ..read });
            if !chance.one_in(4) {
                storage.read_ahead(ahead);
            }
        }
        last_bytes_max = bytes_max;
    }
    assert!(20 < ahead_used);
    assert!(20 < at_hand, "{at_hand}");
}

#[test]
fn what_was_read_ahead_is_not_given_once_it_is_deleted() {
    let mut fixture = every_boundary();
    let read = |from| LogRead {
        log: LOG,
        from,
        until: i64::MAX,
        bytes_max: 50_000,
    };
    let storage = fixture.opened.storage.clone();
    let (first, none) = storage.read_on(read(0)).unwrap();
    assert_eq!(none, None, "one read does not make a reader that goes on");
    let (second, ahead) = storage
        .read_on(read(last_offset(&first.to_bytes()).unwrap() + 1))
        .unwrap();
    let ahead = ahead.unwrap();
    assert_eq!(ahead.from, last_offset(&second.to_bytes()).unwrap() + 1);
    storage.read_ahead(ahead);
    fixture.trim(ahead.from + 1);
    assert_eq!(storage.read_on(ahead), Err(ReadError::Gone));
}

#[test]
fn every_offset_is_answered_with_the_batch_that_contains_it() {
    let fixture = every_boundary();
    for (base, last, _, data) in &fixture.batches {
        for from in *base..=*last {
            assert_eq!(fixture.read(from, 1), data);
            let until = LogRead {
                log: LOG,
                from,
                until: *last,
                bytes_max: usize::MAX,
            };
            assert!(
                fixture.opened.storage.read(until).unwrap().is_empty(),
                "a batch that reaches {last} is not below {last}"
            );
        }
    }
    let beyond = LogRead {
        log: LOG,
        from: fixture.end(),
        until: i64::MAX,
        bytes_max: 1,
    };
    assert!(fixture.opened.storage.read(beyond).unwrap().is_empty());
}

#[test]
fn a_reader_that_races_settling_and_writing_gets_every_offset() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 200 << 10,
        cached_bytes_max: 0,
        ..Options::default()
    };
    let Opened {
        storage, mut settler, ..
    } = Storage::open(Arc::new(RealDisk::open(dir.path()).unwrap()), &options).unwrap();
    const COUNT: i64 = 3_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 0..COUNT {
                let append = Append {
                    log: LOG,
                    base_offset: offset,
                    last_offset: offset,
                    max_timestamp: 0,
                    leader_epoch: 0,
                    batch: batch(1, 400, 0, offset as u64),
                };
                storage
                    .publish(Changes {
                        index: offset as u64 + 1,
                        appends: vec![append],
                        ..Changes::default()
                    })
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while settler.step().unwrap().applied < COUNT as u64 {
                std::thread::yield_now();
            }
        });
        let mut next = 0;
        while next < COUNT {
            let answer = storage
                .read(LogRead {
                    log: LOG,
                    from: next,
                    until: i64::MAX,
                    bytes_max: 2_000,
                })
                .unwrap()
                .to_bytes();
            let (mut at, first) = (0, next);
            while at < answer.len() {
                assert_eq!(
                    i64::from_be_bytes(answer[at..at + 8].try_into().unwrap()),
                    next,
                    "after {first}"
                );
                at += 61 + 400;
                next += 1;
            }
        }
    });
}

#[test]
fn the_first_batch_at_or_above_a_timestamp_is_found_though_timestamps_are_out_of_order() {
    for settle_every in [1, 3, 7, 1_000] {
        let options = Options {
            segment_bytes: 3_000,
            cached_bytes_max: 0,
            reserve_bytes: 0,
            ..Options::default()
        };
        let mut fixture = Fixture::new(&options);
        let mut chance = Chance(settle_every);
        for n in 0..60 {
            fixture.append(2, 100, chance.below(200) as i64);
            if n % settle_every == 0 {
                fixture.settle();
            }
        }
        for start in [0, 30, 75] {
            fixture.trim(start);
            for timestamp in -1..210 {
                let mut batches = fixture.batches.iter();
                let expected = batches.find(|batch| start <= batch.1 && timestamp <= batch.2);
                let found = fixture.opened.storage.find_time(LOG, timestamp).unwrap();
                assert_eq!(
                    found.map(|found| found.batch.to_bytes().to_vec()),
                    expected.map(|batch| batch.3.clone()),
                    "{timestamp}"
                );
            }
            let largest = fixture
                .batches
                .iter()
                .filter(|batch| start <= batch.1)
                .map(|batch| batch.2)
                .max();
            assert!(largest <= fixture.opened.storage.max_timestamp(LOG));
            fixture.settle();
        }
    }
}

#[test]
fn retention_by_size_keeps_at_least_the_limit_and_never_takes_what_is_not_settled() {
    let options = Options {
        segment_bytes: 4_000,
        reserve_bytes: 0,
        ..Options::default()
    };
    let mut fixture = Fixture::new(&options);
    for n in 0..40 {
        fixture.append(1, 500, 0);
        if n < 30 {
            fixture.settle();
        }
    }
    let bytes_from = |fixture: &Fixture, start: i64| -> u64 {
        fixture
            .batches
            .iter()
            .filter(|batch| start <= batch.0)
            .map(|batch| batch.3.len() as u64)
            .sum()
    };
    let query = |bytes_max| RetentionQuery {
        log: LOG,
        delete_before: None,
        bytes_max: Some(bytes_max),
    };
    for bytes_max in (0..25_000).rev().step_by(333) {
        let Some(start) = fixture.opened.storage.find_retention(query(bytes_max)).unwrap() else {
            continue;
        };
        assert!(start <= 30, "not settled");
        assert!(bytes_max <= bytes_from(&fixture, start), "{bytes_max}: {start}");
        assert!(
            start == 30 || bytes_from(&fixture, start + 1) < bytes_max,
            "as much as possible goes"
        );
        fixture.trim(start);
        let from = LogRead {
            log: LOG,
            from: start - 1,
            until: i64::MAX,
            bytes_max: 1,
        };
        assert_eq!(fixture.opened.storage.read(from), Err(ReadError::Gone));
        assert_eq!(fixture.opened.storage.find_retention(query(bytes_max)).unwrap(), None);
    }
    let before = fixture.opened.storage.usage().segments;
    fixture.settle();
    fixture.settle();
    assert!(
        fixture.opened.storage.usage().segments < before,
        "dead segments are unlinked"
    );
}

#[test]
fn retention_by_time_goes_by_the_largest_timestamp_of_a_chunk() {
    let options = Options {
        segment_bytes: 4_000,
        reserve_bytes: 0,
        ..Options::default()
    };
    let mut fixture = Fixture::new(&options);
    // A producer whose clock is a year ahead, in the fourth chunk.
    for timestamp in [10, 20, 30, 1_000_000, 40, 50] {
        fixture.append(1, 100, timestamp);
        fixture.append(1, 100, timestamp - 5);
        fixture.settle();
    }
    let query = |before| RetentionQuery {
        log: LOG,
        delete_before: Some(before),
        bytes_max: None,
    };
    let due = |before| fixture.opened.storage.find_retention(query(before)).unwrap();
    assert_eq!(due(10), None);
    assert_eq!(due(11), Some(2));
    assert_eq!(due(31), Some(6));
    assert_eq!(due(60), Some(6), "what lies behind the one from the future stays");
    assert_eq!(due(1_000_001), Some(12));
}

#[test]
fn reading_does_not_copy_what_is_in_memory() {
    let mut fixture = Fixture::new(&Options {
        reserve_bytes: 0,
        ..Options::default()
    });
    fixture.append(1, 10_000, 0);
    let all = LogRead {
        log: LOG,
        from: 0,
        until: 1,
        bytes_max: 1,
    };
    let (one, other) = (
        fixture.opened.storage.read(all).unwrap(),
        fixture.opened.storage.read(all).unwrap(),
    );
    let body = |records: &tidemill_storage::Records| records.chunks().last().unwrap().as_ptr();
    assert_eq!(body(&one), body(&other));
}
