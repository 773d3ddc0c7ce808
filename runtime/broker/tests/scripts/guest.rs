//! A host with one guest, as far as the core can tell: it does to each record what the record's value says.
//!
//! | value begins with | the guest |
//! |---|---|
//! | `trap`, `marked` | traps, without or with naming the record |
//! | `slow` | runs into the timeout |
//! | `poison`, `retry`, `fatal` | returns that error |
//! | `dead` | gives up on the record by itself |
//! | `look/KEY` | writes to the first output what its tables have for the key |
//! | `timer@5`, `alarm@5` | sets a timer with the value as key, by event time, or so many milliseconds from now |
//! | anything else | writes it to the first output, and counts it in bucket `seen` |
//!
//! A timer that fires is written to the first output, and counted; one whose key has `trap` in it traps.
//! A version whose label begins with `fix` does the last with every record.
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_broker::{
    effect::Table,
    module::{
        run::{Coordinates, Failure, GiveUp, Input, Kind, Processed, Run, Usage, Verdict, dead_letter},
        state_key,
    },
};
use tidemill_protocol::batch::{Builder, RecordHeader, batches};

use crate::{migrating, tables, timers, world::Store};

/// One record as the guest gets it.
#[derive(Clone, Debug)]
pub struct Given {
    pub at: Coordinates,
    pub value: String,
}

/// What a run delivers, and how far each input is covered then: up to the end of its records or of what the limit lets through.
pub fn deliver(run: &Run) -> (Vec<Given>, Vec<(String, u32, i64)>) {
    let (mut given, mut next) = (Vec::new(), Vec::new());
    for input in &run.inputs {
        let mut covered = input.from;
        'input: for batch in batches(&input.records) {
            let batch = batch.unwrap();
            let payload = batch.payload(usize::MAX).unwrap();
            for record in payload.records() {
                let record = record.unwrap();
                if record.offset < input.from {
                    continue;
                }
                if input.until <= record.offset {
                    covered = input.until;
                    break 'input;
                }
                if input.give_up.iter().all(|other| other.offset != record.offset) {
                    if given.len() == run.limits.records_max as usize {
                        break 'input;
                    }
                    given.push(Given {
                        at: at(input, record.offset),
                        value: text(record.value),
                    });
                }
                covered = record.offset + 1;
            }
            covered = covered.max(batch.header().next_offset().min(input.until));
        }
        next.push((input.topic.clone(), input.partition, covered));
    }
    (given, next)
}

/// Runs the guest; with `first` it acknowledges only that many records.
pub fn process(store: &Store, run: &Run, first: Option<usize>) -> Processed {
    if let Kind::Timers(most) = run.kind {
        return timers::fire(store, run, most);
    }
    if let Some(processed) = migrating::chunk(store, run) {
        return processed;
    }
    let (mut given, mut next) = deliver(run);
    let delivered = delivered(run, &given);
    if let Some(first) = first.filter(|first| *first < given.len()) {
        for (topic, partition, next) in &mut next {
            let left = given[first..]
                .iter()
                .find(|record| record.at.topic == *topic && record.at.partition == *partition);
            *next = left.map_or(*next, |record| record.at.offset);
        }
        given.truncate(first);
    }
    let verdict = if is_fixed(run) {
        Verdict::Ack
    } else {
        verdict(&given, delivered)
    };
    let mut processed = answer(run, verdict, given.len());
    if processed.verdict == Verdict::Ack {
        acknowledge(store, run, &given, next, &mut processed);
    }
    processed
}

/// Fails whatever the records are.
pub fn fail(run: &Run, how: &str) -> Processed {
    let (given, _) = deliver(run);
    let delivered = delivered(run, &given);
    let failed = |kind| Verdict::Failed {
        kind,
        message: how.into(),
        suspect: None,
        delivered: delivered.clone(),
    };
    let verdict = match how {
        "trap" => failed(Failure::Trap),
        "timeout" => failed(Failure::Timeout),
        _ => Verdict::Retry {
            reason: how.into(),
            after_ms: Some(1),
            delivered,
        },
    };
    answer(run, verdict, given.len())
}

fn is_fixed(run: &Run) -> bool {
    run.version.label.starts_with("fix")
}

fn answer(run: &Run, verdict: Verdict, records: usize) -> Processed {
    Processed {
        usage: Usage {
            records: u32::try_from(records).unwrap(),
            ..Usage::default()
        },
        ..Processed::nothing(run, verdict)
    }
}

fn verdict(given: &[Given], delivered: Vec<(String, u32, i64, i64, u32)>) -> Verdict {
    let begins = |word: &str| given.iter().find(|record| record.value.starts_with(word));
    let failed = |kind, suspect: Option<&Given>| Verdict::Failed {
        kind,
        message: format!("{kind:?}"),
        suspect: suspect.map(|record| record.at.clone()),
        delivered: delivered.clone(),
    };
    if begins("trap").is_some() {
        return failed(Failure::Trap, None);
    }
    if let Some(record) = begins("marked") {
        return failed(Failure::Trap, Some(record));
    }
    if begins("slow").is_some() {
        return failed(Failure::Timeout, None);
    }
    if let Some(record) = begins("poison") {
        return Verdict::Poison {
            at: record.at.clone(),
            code: "bad".into(),
            reason: "the guest says so".into(),
        };
    }
    if begins("retry").is_some() {
        return Verdict::Retry {
            reason: "not now".into(),
            after_ms: None,
            delivered,
        };
    }
    match begins("fatal") {
        Some(_) => Verdict::Fatal("enough".into()),
        None => Verdict::Ack,
    }
}

fn acknowledge(store: &Store, run: &Run, given: &[Given], next: Vec<(String, u32, i64)>, processed: &mut Processed) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut outputs: BTreeMap<(String, u32), Builder> = BTreeMap::new();
    let mut timers = timers::Timers::load(store, run);
    for record in given {
        if timers.set(run.now, &record.value) {
            continue;
        }
        if record.value.starts_with("dead") && !is_fixed(run) {
            let give_up = GiveUp {
                offset: record.at.offset,
                dead_letter: true,
                code: "dead".into(),
                reason: "by the guest".into(),
                attempt: run.attempt,
            };
            bury(run, &record.at, &record.value, &give_up, &mut outputs);
            processed.given_up += 1;
            continue;
        }
        let count = counts
            .entry(record.value.clone())
            .or_insert_with(|| count(store, run, &record.value));
        *count += 1;
        let topic = run
            .outputs
            .keys()
            .find(|topic| run.dead_letter.as_ref() != Some(*topic));
        if let Some(topic) = topic {
            let partition = record.at.partition % run.outputs[topic].partitions;
            let none = Vec::<RecordHeader<'_>>::new();
            let builder = outputs.entry((topic.clone(), partition)).or_default();
            let value = tables::look_up(store, run, &record.value);
            builder.append(run.now, Some(b"k"), Some(value.as_bytes()), none);
        }
    }
    for input in &run.inputs {
        let covered = next
            .iter()
            .find(|next| next.0 == input.topic && next.1 == input.partition)
            .unwrap()
            .2;
        for give_up in input
            .give_up
            .iter()
            .filter(|record| record.dead_letter && record.offset < covered)
        {
            let value = value_at(input, give_up.offset);
            bury(run, &at(input, give_up.offset), &value, give_up, &mut outputs);
        }
    }
    processed.output_records = outputs
        .values()
        .map(|builder| u64::try_from(builder.record_count()).unwrap())
        .sum();
    let batch = |((topic, partition), builder): (_, Builder)| (topic, partition, builder.finish());
    processed.outputs = outputs.into_iter().map(batch).collect();
    let layout = migrating::layout(run);
    let grown = |(key, count): (&String, &i64)| {
        let old = row(store, run, key).map_or(0, |old| key.len() + old.len());
        (key.len() + migrating::value(layout, *count).len()).cast_signed() - old.cast_signed()
    };
    processed.state_growth = counts.iter().map(grown).sum::<isize>() as i64;
    let row = |(key, count): (String, i64)| ("seen".into(), Bytes::from(key), Some(migrating::value(layout, count)));
    processed.state = counts.into_iter().map(row).collect();
    timers.save(processed);
    if run.event_time.is_some() {
        processed.event_times = event_times(run, &next);
    }
    processed.next = next;
}

/// The largest timestamp of each input below what is covered.
fn event_times(run: &Run, next: &[(String, u32, i64)]) -> Vec<(String, u32, i64)> {
    let mut times = Vec::new();
    for (input, (_, _, covered)) in run.inputs.iter().zip(next) {
        let mut latest = None;
        for batch in batches(&input.records) {
            for record in batch.unwrap().payload(usize::MAX).unwrap().records() {
                let record = record.unwrap();
                if input.from <= record.offset && record.offset < *covered {
                    latest = latest.max(Some(record.timestamp));
                }
            }
        }
        times.extend(latest.map(|at| (input.topic.clone(), input.partition, at)));
    }
    times
}

/// Adds a record to the dead-letter topic as the contract says.
fn bury(run: &Run, at: &Coordinates, value: &str, give_up: &GiveUp, outputs: &mut BTreeMap<(String, u32), Builder>) {
    let Some(topic) = &run.dead_letter else { return };
    let (partition, offset, attempt) = (
        at.partition.to_string(),
        at.offset.to_string(),
        give_up.attempt.to_string(),
    );
    let headers = [
        (dead_letter::TOPIC, at.topic.as_str()),
        (dead_letter::PARTITION, &partition),
        (dead_letter::OFFSET, &offset),
        (dead_letter::CODE, &give_up.code),
        (dead_letter::REASON, &give_up.reason),
        (dead_letter::ATTEMPT, &attempt),
        (dead_letter::MODULE, &run.task.module),
        (dead_letter::VERSION, &run.version.label),
    ];
    let headers = headers.map(|(key, value)| RecordHeader {
        key: key.as_bytes(),
        value: Some(value.as_bytes()),
    });
    let to = at.partition % run.outputs[topic].partitions;
    let builder = outputs.entry((topic.clone(), to)).or_default();
    builder.append(run.now, Some(b"k"), Some(value.as_bytes()), headers);
}

pub fn count(store: &Store, run: &Run, key: &str) -> i64 {
    row(store, run, key).map_or(0, |row| migrating::count(migrating::layout(run), row))
}

fn row<'a>(store: &'a Store, run: &Run, key: &str) -> Option<&'a Bytes> {
    let key = state_key::encode(&run.task, "seen", key.as_bytes());
    store.rows.get(&(Table::ModuleState, key))
}

fn delivered(run: &Run, given: &[Given]) -> Vec<(String, u32, i64, i64, u32)> {
    let mut parts = Vec::new();
    for input in &run.inputs {
        let own = given
            .iter()
            .filter(|record| record.at.topic == input.topic && record.at.partition == input.partition);
        let offsets: Vec<i64> = own.map(|record| record.at.offset).collect();
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            parts.push((
                input.topic.clone(),
                input.partition,
                *first,
                *last,
                u32::try_from(offsets.len()).unwrap(),
            ));
        }
    }
    parts
}

fn value_at(input: &Input, offset: i64) -> String {
    for batch in batches(&input.records) {
        let payload = batch.unwrap().payload(usize::MAX).unwrap();
        let found = payload
            .records()
            .map(Result::unwrap)
            .find(|record| record.offset == offset);
        if let Some(record) = found {
            return text(record.value);
        }
    }
    panic!("only what was read is given up");
}

fn at(input: &Input, offset: i64) -> Coordinates {
    Coordinates {
        topic: input.topic.clone(),
        partition: input.partition,
        offset,
    }
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
}
