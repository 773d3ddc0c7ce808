//! Commands about tables, and the lookups of the guest.
//!
//! `facts TOPIC/PARTITION k@v k@ @v` produces records with these keys and values, without value or without key, in one batch: each
//! `times=N`, values filled up to `bytes=N`. `stall` leaves reads for tables unanswered, `feed [COUNT]` answers so many, or all from now
//! on. `table TOPIC` prints the view of a topic and how many rows others have.
use std::error::Error;

use goldenscript::Command;
use tidemill_broker::{effect::Table, module::run::Run};
use tidemill_protocol::{
    api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    batch::Builder,
    records::Records,
};

use crate::{
    Output,
    records::place,
    world::{Store, World},
};

type Done = Result<(), Box<dyn Error>>;

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "facts" => facts,
        "table" => table,
        "stall" => stall,
        "feed" => feed,
        _ => return None,
    };
    Some(run(world, command).map(|()| String::new()))
}

fn facts(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let (name, index) = place(args.next_pos().ok_or("TOPIC/PARTITION?")?)?;
    let times = args.take_key("times").map_or(Ok(1), str::parse)?;
    let bytes: usize = args.take_key("bytes").map_or(Ok(0), str::parse)?;
    let mut batch = Builder::new();
    while let Some(fact) = args.next_pos() {
        let (key, value) = fact.split_once('@').ok_or("KEY@VALUE?")?;
        let value = value.to_owned() + &"x".repeat(bytes.saturating_sub(value.len()));
        let some = |text| Some(text).filter(|text: &&str| !text.is_empty()).map(str::as_bytes);
        for _ in 0..times {
            batch.append(world.now, some(key), some(&value), []);
        }
    }
    args.reject_next()?;
    let data = PartitionProduceData {
        index,
        records: Some(Records::from(batch.finish())),
    };
    let topic_data = vec![TopicProduceData {
        name,
        partition_data: vec![data],
    }];
    world.request(
        9,
        ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data,
            ..Default::default()
        },
    );
    Ok(())
}

fn stall(world: &mut World, command: &Command) -> Done {
    world.tables_stall = true;
    command.consume_args().reject_next()
}

fn feed(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let count = args.next_pos().map(|count| count.parse()).transpose()?;
    world.tables_stall = count.is_some();
    for _ in 0..count.unwrap_or(usize::MAX) {
        if !world.feed_table() {
            break;
        }
        world.settle();
    }
    args.reject_next()
}

fn table(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let topic = args.next_pos().ok_or("TOPIC?")?.to_owned();
    args.reject_next()?;
    let state = world.broker.state();
    let view = state.modules.view(&state.topics, &topic);
    let of_views = world
        .store
        .rows
        .iter()
        .filter(|((table, _), _)| *table == Table::ViewRow);
    let (mut own, mut others) = (String::new(), 0);
    for ((_, row), value) in of_views {
        match view.and_then(|view| row.strip_prefix(&view.id.row(b"")[..])) {
            Some(key) => own += &format!(" {}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)),
            None => others += 1,
        }
    }
    let line = match view {
        Some(view) => format!("{topic}:{own} up to {:?}, left out {}", view.next, view.left_out),
        None => format!("{topic} is no table"),
    };
    world.print(&format!("{line}; rows of others: {others}"));
    Ok(())
}

/// What the guest makes of a record that says `look/KEY`: the value that each of its tables has for the key.
pub fn look_up(store: &Store, run: &Run, value: &str) -> String {
    let Some(key) = value.strip_prefix("look/") else {
        return value.into();
    };
    let found = run.tables.iter().map(|(name, view)| {
        let row = view.map(|view| (Table::ViewRow, view.row(key.as_bytes())));
        let value = row.and_then(|row| store.rows.get(&row));
        let value = value.map_or("nothing".into(), |value| String::from_utf8_lossy(value));
        format!("{name}.{key}={value}")
    });
    found.collect::<Vec<_>>().join(",")
}
