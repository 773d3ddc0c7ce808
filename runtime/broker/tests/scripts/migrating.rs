//! Layouts of the state of the guest in `guest.rs`: in layout 0 a count is a number, in layout N it is `N:` and a number. Whoever reads a
//! count of another layout than its own panics, so a version never works on state that was not migrated.
//!
//! A release's layout is the last byte of its digest. Copies are made two rows a chunk, counts are rewritten one a chunk; a version whose
//! label begins with `noway` refuses to.
use bytes::Bytes;
use tidemill_broker::{
    effect::Table,
    module::{
        run::{Kind, Migrated, Processed, Run, TaskKey, Verdict},
        state_key,
    },
};

use crate::world::Store;

const ROWS: usize = 2;

/// Layout that a version reads and writes.
pub fn layout(run: &Run) -> u32 {
    run.version.digest[31].into()
}

/// A count as a layout has it.
pub fn value(layout: u32, count: i64) -> Bytes {
    Bytes::from(match layout {
        0 => count.to_string(),
        _ => format!("{layout}:{count}"),
    })
}

/// The count in a row of this layout.
pub fn count(layout: u32, row: &[u8]) -> i64 {
    let text = std::str::from_utf8(row).unwrap();
    let (own, count) = text.split_once(':').unwrap_or(("0", text));
    assert_eq!(own.parse(), Ok(layout), "a version of layout {layout} reads {text:?}");
    count.parse().unwrap()
}

/// Does what a run of a migration asks for; `None` for other runs.
pub fn chunk(store: &Store, run: &Run) -> Option<Processed> {
    match &run.kind {
        Kind::Copy { after } => Some(copy(store, run, after)),
        Kind::Migrate { from_version, cursor } => Some(migrate(store, run, *from_version, cursor.as_ref())),
        _ => None,
    }
}

/// What such a run is about, for the script.
pub fn show(store: &Store, run: &Run) -> Option<String> {
    Some(match &run.kind {
        Kind::Copy { .. } => "copy".into(),
        Kind::Migrate { from_version, cursor } => {
            let key = next(store, &run.task, cursor.as_ref()).map(|(key, _)| key);
            let key = key.map_or_else(String::new, |key| String::from_utf8(key.to_vec()).unwrap());
            format!("migrate from {from_version}: {key}")
        }
        _ => return None,
    })
}

fn copy(store: &Store, run: &Run, after: &[u8]) -> Processed {
    let (start, end) = state_key::rest(&run.task, after);
    let rows = store.rows.range((Table::ModuleState, start)..(Table::ModuleState, end));
    let rows: Vec<_> = rows.take(ROWS + 1).collect();
    let mut processed = Processed::nothing(run, Verdict::Ack);
    let mut last = Bytes::new();
    for ((_, row), value) in rows.iter().take(ROWS) {
        last = row.slice_ref(state_key::in_task(&run.task, row).unwrap());
        let (bucket, key) = state_key::split(&last).unwrap();
        let row = (
            last.slice_ref(bucket.as_bytes()),
            last.slice_ref(key),
            Some((*value).clone()),
        );
        processed.state.push(row);
    }
    let is_all = rows.len() <= ROWS;
    processed.migrated = Some(if is_all { Migrated::Done } else { Migrated::More(last) });
    processed
}

fn migrate(store: &Store, run: &Run, from: u32, cursor: Option<&Bytes>) -> Processed {
    if run.version.label.starts_with("noway") {
        let why = format!("`migrate` failed: there is no way from layout {from}");
        return Processed::nothing(run, Verdict::Fatal(why));
    }
    let mut processed = Processed::nothing(run, Verdict::Ack);
    processed.migrated = Some(match next(store, &run.task, cursor) {
        None => Migrated::Done,
        Some((key, row)) => {
            let row = value(layout(run), count(from, &row));
            processed.state.push(("seen".into(), key.clone(), Some(row)));
            Migrated::More(key)
        }
    });
    processed
}

/// The first count after a key.
fn next(store: &Store, task: &TaskKey, cursor: Option<&Bytes>) -> Option<(Bytes, Bytes)> {
    let (start, end) = state_key::range(task, "seen", cursor.map_or(&[], |key| key), b"");
    let mut rows = store.rows.range((Table::ModuleState, start)..(Table::ModuleState, end));
    let key = |row: &Bytes| row.slice_ref(state_key::decode(task, "seen", row).unwrap());
    let is_after = |key: &Bytes| cursor.is_none_or(|cursor| cursor < key);
    rows.find_map(|((_, row), value)| Some((key(row), value.clone())).filter(|(key, _)| is_after(key)))
}
