//! Timers of the guest in `guest.rs`, kept in the rows in which the host keeps them.
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_broker::{
    effect::Table,
    module::{
        run::{Due, Failure, Processed, Run, TaskKey, Verdict},
        state_key, timer_row,
    },
};
use tidemill_protocol::{
    batch::{Builder, RecordHeader},
    manifest::Clock,
};

use crate::{guest, migrating, world::Store};

/// All timers of a task: clock, time and key.
pub struct Timers {
    timers: BTreeMap<(Clock, i64, String), ()>,
    before: BTreeMap<(Clock, i64, String), ()>,
}

impl Timers {
    pub fn load(store: &Store, run: &Run) -> Self {
        let timers = of_task(store, &run.task);
        Self {
            before: timers.clone(),
            timers,
        }
    }

    /// Sets a timer if that is what a record asks for.
    pub fn set(&mut self, now: i64, value: &str) -> bool {
        let Some((word, at)) = value.split_once('@') else {
            return false;
        };
        let clock = if word.starts_with("timer") {
            Clock::EventTime
        } else {
            Clock::WallClock
        };
        let at: i64 = at.parse().unwrap();
        let at = if clock == Clock::WallClock { now + at } else { at };
        self.timers
            .retain(|(other, _, key), ()| (*other, key.as_str()) != (clock, value));
        self.timers.insert((clock, at, value.into()), ());
        true
    }

    /// What was changed, as rows.
    pub fn save(&self, processed: &mut Processed) {
        if self.timers == self.before {
            return;
        }
        let name = "t";
        let id = |timer: &(Clock, i64, String)| {
            let id = timer_row::Id {
                clock: timer.0,
                name,
                key: timer.2.as_bytes(),
            };
            (id.row(), id.due_row(timer.1))
        };
        let mut write = |key, value| processed.state.push((timer_row::ROWS.into(), key, value));
        for timer in self.before.keys().filter(|timer| !self.timers.contains_key(timer)) {
            let (row, due_row) = id(timer);
            write(row, None);
            write(due_row, None);
        }
        for timer in self.timers.keys().filter(|timer| !self.before.contains_key(timer)) {
            let (row, due_row) = id(timer);
            write(row, Some(Bytes::copy_from_slice(&timer.1.to_be_bytes())));
            write(due_row, Some(Bytes::new()));
        }
        let first = |clock| self.timers.keys().find(|timer| timer.0 == clock).map(|timer| timer.1);
        processed.due = Some(Due {
            event_time: first(Clock::EventTime),
            wall_clock: first(Clock::WallClock),
        });
    }
}

fn of_task(store: &Store, task: &TaskKey) -> BTreeMap<(Clock, i64, String), ()> {
    let rows = store.rows.keys().filter(|(table, _)| *table == Table::ModuleState);
    let timer = |(_, row): &(Table, Bytes)| {
        let (id, at) = timer_row::decode_due(state_key::decode(task, timer_row::ROWS, row)?)?;
        Some(((id.clock, at, String::from_utf8(id.key.to_vec()).unwrap()), ()))
    };
    rows.filter_map(timer).collect()
}

/// The timers of a task, as a script prints them.
pub fn show(store: &Store, task: &TaskKey) -> String {
    let timers = of_task(store, task).into_keys();
    timers.map(|(_, _, key)| key).collect::<Vec<_>>().join(" ")
}

/// The timers that a run delivers.
pub fn due(store: &Store, run: &Run, most: u32) -> Vec<(Clock, i64, String)> {
    let watermark = run.event_time.and_then(|event_time| event_time.watermark);
    let is_due = |(clock, at, _): &(Clock, i64, String)| match clock {
        Clock::EventTime => watermark.is_some_and(|watermark| *at <= watermark),
        Clock::WallClock => *at <= run.now,
    };
    let timers = of_task(store, &run.task).into_keys().filter(is_due);
    timers.take(most as usize).collect()
}

/// Fires what is due: each goes to the first output and is counted.
pub fn fire(store: &Store, run: &Run, most: u32) -> Processed {
    let due = due(store, run, most);
    if due.iter().any(|(_, _, key)| key.contains("trap")) {
        let verdict = Verdict::Failed {
            kind: Failure::Trap,
            message: "Trap".into(),
            suspect: None,
            delivered: Vec::new(),
        };
        return Processed::nothing(run, verdict);
    }
    let mut processed = Processed::nothing(run, Verdict::Ack);
    let mut timers = Timers::load(store, run);
    let mut output = Builder::new();
    for timer in due {
        timers.timers.remove(&timer);
        let key = timer.2;
        output.append(timer.1, None, Some(key.as_bytes()), Vec::<RecordHeader<'_>>::new());
        let count = guest::count(store, run, &key) + 1;
        let count = Some(migrating::value(migrating::layout(run), count));
        processed.state.push(("seen".into(), Bytes::from(key), count));
        processed.output_records += 1;
    }
    timers.save(&mut processed);
    let topic = run
        .outputs
        .keys()
        .find(|topic| run.dead_letter.as_ref() != Some(*topic));
    if let Some(topic) = topic.filter(|_| processed.output_records != 0) {
        let partition = run.task.number % run.outputs[topic].partitions;
        processed.outputs.push((topic.clone(), partition, output.finish()));
    }
    processed
}
