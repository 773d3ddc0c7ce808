//! The state machine against a naive reference: random commands, and after each of them the same records at the same offsets, the same
//! answers to producers, the same committed offsets.
//!
//! The reference keeps every accepted batch for ever and looks through all of it; the state machine keeps five a producer. Every few entries the
//! state loaded from all rows, and the state of a replay of all entries through their binary form, are compared with the live one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use tidemill_broker::{
    Command, Entry, State,
    effect::{LogId, Row, Table},
    entry::{CommitOffsets, CommittedOffset, DeleteOffsets, ExpireProducers, NewPartitions, NewTopic, Produce, Trim},
    state::Outcome,
};
use tidemill_protocol::{
    batch::{Batch, Builder, Producer, add_sequence},
    error_code::ErrorCode,
    ids::Uuid,
};

/// One random step. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Create {
        topic: u8,
        partitions: u32,
    },
    Delete {
        topic: u8,
    },
    Grow {
        topic: u8,
        count: u32,
    },
    Produce {
        log: u32,
        count: u8,
    },
    Sequenced {
        log: u32,
        count: u8,
        producer: i64,
        epoch: i16,
        sequence: Sequence,
    },
    Trim {
        log: u32,
        start: i64,
    },
    Commit {
        group: u8,
        topic: u8,
        partition: i32,
        offset: i64,
    },
    Forget {
        group: u8,
        topic: u8,
        partition: i32,
    },
    Expire {
        age: i64,
    },
}

/// Which sequence a producer sends.
#[derive(Clone, Debug)]
enum Sequence {
    /// The one that is expected.
    Next,
    /// Of a batch this many before, with its length.
    Again(usize),
    /// Any.
    At(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let sequence = prop_oneof![
        6 => Just(Sequence::Next),
        3 => (0usize..8).prop_map(Sequence::Again),
        1 => prop_oneof![Just(0), 0i32..10, Just(i32::MAX - 1)].prop_map(Sequence::At),
    ];
    prop_oneof![
        2 => (0u8..3, 1u32..4).prop_map(|(topic, partitions)| Step::Create { topic, partitions }),
        1 => (0u8..3).prop_map(|topic| Step::Delete { topic }),
        1 => (0u8..3, 1u32..6).prop_map(|(topic, count)| Step::Grow { topic, count }),
        4 => (0u32..8, 1u8..4).prop_map(|(log, count)| Step::Produce { log, count }),
        12 => (0u32..8, 1u8..4, 0i64..3, 0i16..2, sequence)
            .prop_map(|(log, count, producer, epoch, sequence)| Step::Sequenced { log, count, producer, epoch, sequence }),
        2 => (0u32..8, 0i64..30).prop_map(|(log, start)| Step::Trim { log, start }),
        3 => (0u8..2, 0u8..3, 0i32..4, 0i64..50)
            .prop_map(|(group, topic, partition, offset)| Step::Commit { group, topic, partition, offset }),
        1 => (0u8..2, 0u8..3, 0i32..4).prop_map(|(group, topic, partition)| Step::Forget { group, topic, partition }),
        1 => (0i64..40).prop_map(|age| Step::Expire { age }),
    ]
}

/// A batch that the reference has accepted from a producer.
#[derive(Clone, Debug)]
struct Accepted {
    producer: i64,
    epoch: i16,
    first: i32,
    count: u8,
    base_offset: i64,
    time: i64,
}

#[derive(Default)]
struct Log {
    start: i64,
    /// Every record ever appended, by offset: the number of the step that wrote it.
    records: Vec<u64>,
    accepted: Vec<Accepted>,
}

#[derive(Default)]
struct Reference {
    topics: BTreeMap<String, (Uuid, Vec<LogId>)>,
    logs: BTreeMap<LogId, Log>,
    offsets: BTreeMap<(String, Uuid, i32), i64>,
    next_log: u32,
    gone: Vec<LogId>,
    has_commits: bool,
}

impl Reference {
    fn create(&mut self, name: &str, id: Uuid, partitions: u32) {
        let mut logs = Vec::new();
        self.grow(&mut logs, partitions);
        self.topics.insert(name.into(), (id, logs));
    }

    fn grow(&mut self, logs: &mut Vec<LogId>, count: u32) {
        while logs.len() < count as usize {
            logs.push(LogId(self.next_log));
            self.logs.insert(LogId(self.next_log), Log::default());
            self.next_log += 1;
        }
    }

    /// What a batch of a producer comes to: its offset, or why not.
    fn produce(&mut self, id: LogId, step: u64, batch: &Accepted) -> Result<i64, ErrorCode> {
        let log = self.logs.get_mut(&id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let history: Vec<&Accepted> = log
            .accepted
            .iter()
            .filter(|known| known.producer == batch.producer)
            .collect();
        if let Some(last) = history.last() {
            if batch.epoch < last.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            let mut window = history.iter().rev().take(5).filter(|known| known.epoch == batch.epoch);
            if let Some(known) = window.find(|known| known.first == batch.first && known.count == batch.count) {
                return Ok(known.base_offset);
            }
            let next = if last.epoch < batch.epoch {
                0
            } else {
                add_sequence(last.first, i32::from(last.count))
            };
            if batch.first != next {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        let base_offset = i64::try_from(log.records.len()).unwrap();
        log.records.extend((0..batch.count).map(|_| step));
        if 0 <= batch.producer {
            log.accepted.push(Accepted {
                base_offset,
                ..batch.clone()
            });
        }
        Ok(base_offset)
    }
}

/// The state machine with what storage would hold.
#[derive(Default)]
struct Subject {
    state: State,
    entries: Vec<Bytes>,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    /// Every record's step, by log and offset.
    records: BTreeMap<(LogId, i64), u64>,
    time: i64,
}

impl Subject {
    fn apply(&mut self, command: Command) -> Outcome {
        self.time += 1;
        let index = self.entries.len() as u64 + 1;
        let entry = Entry {
            index,
            term: 1,
            node: 1,
            time: self.time,
            command,
        };
        self.entries.push(entry.encode().concat().into());
        let (outcome, changes) = self.state.apply(&entry);
        for append in &changes.appends {
            let batch = Batch::parse(append.batch.clone()).unwrap();
            let payload = batch.payload(usize::MAX).unwrap();
            let values: Vec<Bytes> = payload
                .records()
                .map(|record| Bytes::copy_from_slice(record.unwrap().value.unwrap_or(&[])))
                .collect();
            assert_eq!(
                append.last_offset - append.base_offset + 1,
                i64::try_from(values.len()).unwrap()
            );
            for (offset, value) in (append.base_offset..).zip(values) {
                let step = value.first_chunk().map_or(u64::MAX, |raw| u64::from_be_bytes(*raw));
                assert_eq!(
                    self.records.insert((append.log, offset), step),
                    None,
                    "an offset is given once"
                );
            }
        }
        for row in changes.rows {
            match row.value {
                Some(value) => drop(self.rows.insert((row.table, row.key), value)),
                None => drop(self.rows.remove(&(row.table, row.key))),
            }
        }
        outcome
    }

    fn check_copies(&self) {
        let mut loaded = State::default();
        for ((table, key), value) in &self.rows {
            loaded
                .load(&Row {
                    table: *table,
                    key: key.clone(),
                    value: Some(value.clone()),
                })
                .unwrap();
        }
        assert_eq!(loaded, self.state, "state from rows");
        let mut replayed = State::default();
        for entry in &self.entries {
            replayed.apply(&Entry::decode(entry.clone()).unwrap());
        }
        assert_eq!(replayed, self.state, "state from a replay");
    }
}

fn topic_name(topic: u8) -> String {
    format!("topic-{topic}")
}

fn batch(step: u64, producer: &Accepted) -> Bytes {
    let mut builder = Builder::new();
    if 0 <= producer.producer {
        builder.producer(Producer {
            id: producer.producer,
            epoch: producer.epoch,
            base_sequence: producer.first,
        });
    }
    for _ in 0..producer.count {
        builder.append(1, None, Some(&step.to_be_bytes()), []);
    }
    builder.finish()
}

fn compare_produced(subject: &mut Subject, reference: &mut Reference, step: u64, log: LogId, sent: &Accepted) {
    let outcome = subject.apply(Command::Produce(vec![Produce {
        log,
        batch: batch(step, sent),
    }]));
    let Outcome::Produced(results) = outcome else {
        panic!("a produce comes to {outcome:?}")
    };
    let result = results[0].map(|appended| appended.base_offset);
    let sent = Accepted {
        time: subject.time,
        ..sent.clone()
    };
    assert_eq!(result, reference.produce(log, step, &sent), "step {step}: {sent:?}");
}

fn run(subject: &mut Subject, reference: &mut Reference, number: u64, step: Step) {
    match step {
        Step::Create { topic, partitions } => {
            let name = topic_name(topic);
            let mut raw = [9; 16];
            raw[..8].copy_from_slice(&number.to_be_bytes());
            let id = Uuid(raw);
            let new = NewTopic {
                name: name.clone(),
                id,
                partitions,
                configs: BTreeMap::new(),
            };
            let outcome = subject.apply(Command::CreateTopics(vec![new]));
            let is_there = reference.topics.contains_key(&name);
            let expected = if is_there {
                Err(ErrorCode::TOPIC_ALREADY_EXISTS)
            } else {
                Ok(())
            };
            assert_eq!(outcome, Outcome::Topics(vec![expected]));
            if !is_there {
                reference.create(&name, id, partitions);
            }
        }
        Step::Delete { topic } => {
            let Some((id, logs)) = reference.topics.remove(&topic_name(topic)) else {
                return;
            };
            subject.apply(Command::DeleteTopics(vec![id]));
            for log in logs {
                reference.logs.remove(&log);
                reference.gone.push(log);
            }
            reference.offsets.retain(|(_, topic, _), _| *topic != id);
        }
        Step::Grow { topic, count } => {
            let Some((id, mut logs)) = reference.topics.get(&topic_name(topic)).cloned() else {
                return;
            };
            let outcome = subject.apply(Command::CreatePartitions(vec![NewPartitions { topic: id, count }]));
            let grows = logs.len() < count as usize;
            assert_eq!(
                outcome,
                Outcome::Topics(vec![if grows {
                    Ok(())
                } else {
                    Err(ErrorCode::INVALID_PARTITIONS)
                }])
            );
            reference.grow(&mut logs, count);
            reference.topics.insert(topic_name(topic), (id, logs));
        }
        Step::Produce { log, count } => {
            let sent = Accepted {
                producer: -1,
                epoch: -1,
                first: -1,
                count,
                base_offset: 0,
                time: 0,
            };
            compare_produced(subject, reference, number, pick(reference, log), &sent);
        }
        Step::Sequenced {
            log,
            count,
            producer,
            epoch,
            sequence,
        } => {
            let log = pick(reference, log);
            let known = reference.logs.get(&log).map_or(&[][..], |log| &log.accepted);
            let history: Vec<&Accepted> = known.iter().filter(|known| known.producer == producer).collect();
            let (first, count) = match sequence {
                Sequence::Next => {
                    let last = history.last().filter(|last| last.epoch == epoch);
                    (
                        last.map_or(0, |last| add_sequence(last.first, i32::from(last.count))),
                        count,
                    )
                }
                Sequence::Again(back) => history
                    .iter()
                    .rev()
                    .nth(back)
                    .map_or((0, count), |known| (known.first, known.count)),
                Sequence::At(first) => (first, count),
            };
            let sent = Accepted {
                producer,
                epoch,
                first,
                count,
                base_offset: 0,
                time: 0,
            };
            compare_produced(subject, reference, number, log, &sent);
        }
        Step::Trim { log, start } => {
            let id = pick(reference, log);
            let outcome = subject.apply(Command::TrimLogs(vec![Trim { log: id, start }]));
            let expected = match reference.logs.get_mut(&id) {
                None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                Some(log) if i64::try_from(log.records.len()).unwrap() < start => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
                Some(log) => {
                    log.start = log.start.max(start);
                    Ok(log.start)
                }
            };
            assert_eq!(outcome, Outcome::Trimmed(vec![expected]));
        }
        Step::Commit {
            group,
            topic,
            partition,
            offset,
        } => {
            let Some((id, logs)) = reference.topics.get(&topic_name(topic)).cloned() else {
                return;
            };
            let group = format!("group-{group}");
            let committed = CommittedOffset {
                topic: id,
                partition,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            };
            let commit = CommitOffsets {
                group: group.clone(),
                member: String::new(),
                instance: None,
                generation: -1,
                offsets: vec![committed],
            };
            assert_eq!(subject.apply(Command::CommitOffsets(commit)), Outcome::Offsets(Ok(())));
            if !reference.has_commits {
                // The first commit makes the internal topic, whose logs have numbers too.
                reference.has_commits = true;
                reference.next_log += 50;
            }
            if (partition as usize) < logs.len() {
                reference.offsets.insert((group, id, partition), offset);
            }
        }
        Step::Forget {
            group,
            topic,
            partition,
        } => {
            let Some((id, _)) = reference.topics.get(&topic_name(topic)).cloned() else {
                return;
            };
            let group = format!("group-{group}");
            let delete = DeleteOffsets {
                group: group.clone(),
                partitions: vec![(id, partition)],
            };
            subject.apply(Command::DeleteOffsets(delete));
            reference.offsets.remove(&(group, id, partition));
        }
        Step::Expire { age } => {
            let before = subject.time - age;
            subject.apply(Command::ExpireProducers(ExpireProducers { before }));
            for log in reference.logs.values_mut() {
                let accepted = std::mem::take(&mut log.accepted);
                let last = |producer| {
                    accepted
                        .iter()
                        .filter(|known| known.producer == producer)
                        .map(|known| known.time)
                        .max()
                };
                let stays = |known: &Accepted| last(known.producer).is_some_and(|time| before <= time);
                log.accepted = accepted.iter().filter(|known| stays(known)).cloned().collect();
            }
        }
    }
}

/// One of the logs there are or have been, or one that never was.
fn pick(reference: &Reference, log: u32) -> LogId {
    let known = reference
        .topics
        .values()
        .flat_map(|(_, logs)| logs)
        .chain(&reference.gone);
    known.copied().nth(log as usize).unwrap_or(LogId(u32::MAX))
}

fn compare(subject: &Subject, reference: &Reference) {
    for (id, log) in &reference.logs {
        let kept = &subject.state.logs[id];
        let end = i64::try_from(log.records.len()).unwrap();
        assert_eq!((kept.start, kept.end), (log.start, end), "{id:?}");
        for (offset, step) in (0..).zip(&log.records) {
            assert_eq!(subject.records.get(&(*id, offset)), Some(step), "{id:?} at {offset}");
        }
    }
    for group in ["group-0", "group-1"] {
        let kept: BTreeMap<(Uuid, i32), i64> = subject
            .state
            .offsets
            .of_group(group)
            .map(|(at, committed)| (*at, committed.offset))
            .collect();
        let own = reference.offsets.iter().filter(|((name, ..), _)| name == group);
        let expected: BTreeMap<(Uuid, i32), i64> = own
            .map(|((_, topic, partition), offset)| ((*topic, *partition), *offset))
            .collect();
        assert_eq!(kept, expected, "{group}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_state_machine_agrees_with_a_naive_reference(steps in vec(step(), 1..120)) {
        let mut subject = Subject::default();
        let mut reference = Reference::default();
        run(&mut subject, &mut reference, u64::MAX - 1, Step::Create { topic: 0, partitions: 2 });
        for (number, step) in (0u64..).zip(steps) {
            run(&mut subject, &mut reference, number, step);
            compare(&subject, &reference);
            if number % 16 == 0 {
                subject.check_copies();
            }
        }
        subject.check_copies();
    }
}
