//! Commands, and the pure function that turns them into changes.
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_storage::{Append, Changes, LogId, Row, Table};

use super::{Chance, batch};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// (log, records, payload bytes, timestamp, seed) each.
    Append(Vec<(u32, i32, usize, i64, u64)>, Vec<(u16, Option<u64>)>),
    Trim(u32, u64),
    Drop(u32),
    Clear(u8),
}

impl Command {
    pub fn random(chance: &mut Chance, payload_bytes_max: u64) -> Self {
        match chance.below(40) {
            0 => Self::Drop(chance.below(8) as u32),
            1 => Self::Clear(chance.below(4) as u8),
            2..=5 => Self::Trim(chance.below(8) as u32, chance.next()),
            _ => {
                let appends = (0..chance.below(4)).map(|_| {
                    let log = chance.below(chance.0 % 8 + 1) as u32;
                    let large = chance.one_in(8);
                    let payload = if large { payload_bytes_max } else { 200 };
                    (
                        log,
                        1 + chance.below(5) as i32,
                        chance.below(payload) as usize,
                        chance.below(10_000) as i64,
                        chance.next(),
                    )
                });
                let appends = appends.collect();
                let rows = (0..chance.below(6)).map(|_| {
                    let value = (!chance.one_in(4)).then(|| chance.next());
                    (chance.below(200) as u16, value)
                });
                Self::Append(appends, rows.collect())
            }
        }
    }

    /// The entry that the journal gets, and a replay must find.
    pub fn encode(&self, index: u64) -> Vec<Bytes> {
        let text = format!("{index} {self:?}");
        let (one, other) = text.split_at(text.len() / 2);
        let mut parts = vec![
            Bytes::copy_from_slice(one.as_bytes()),
            Bytes::copy_from_slice(other.as_bytes()),
        ];
        if let Self::Append(appends, _) = self {
            parts.extend(
                appends
                    .iter()
                    .map(|&(_, records, bytes, timestamp, seed)| batch(records, bytes, timestamp, seed)),
            );
        }
        parts
    }
}

/// What the toy knows: generation, start and end of each log slot. A slot that is dropped gets a new [`LogId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toy {
    pub slots: BTreeMap<u32, (u32, i64, i64)>,
    pub next_log: u32,
}

impl Toy {
    pub fn load(rows: &[Row]) -> Self {
        let mut toy = Self::default();
        for row in rows {
            let value = row.value.as_ref().unwrap();
            match row.table {
                Table::Meta => toy.next_log = u32::from_be_bytes(value[..].try_into().unwrap()),
                Table::Log => {
                    let slot = u32::from_be_bytes(row.key[..].try_into().unwrap());
                    let number = |at: usize| i64::from_be_bytes(value[at..at + 8].try_into().unwrap());
                    toy.slots
                        .insert(slot, (u32::try_from(number(0)).unwrap(), number(8), number(16)));
                }
                _ => {}
            }
        }
        toy
    }

    pub fn apply(&mut self, index: u64, command: &Command) -> Changes {
        let mut changes = Changes {
            index,
            ..Changes::default()
        };
        match command {
            Command::Append(appends, rows) => {
                for &(slot, records, bytes, timestamp, seed) in appends {
                    let (log, _, end) = self.slot(slot);
                    let last_offset = *end + i64::from(records) - 1;
                    changes.appends.push(Append {
                        log: LogId(*log),
                        base_offset: *end,
                        last_offset,
                        max_timestamp: timestamp,
                        leader_epoch: slot as i32,
                        batch: batch(records, bytes, timestamp, seed),
                    });
                    *end = last_offset + 1;
                    self.put_slot(slot, &mut changes);
                }
                for (key, value) in rows {
                    changes.rows.push(Row {
                        table: Table::ModuleState,
                        key: Bytes::copy_from_slice(&key.to_be_bytes()),
                        value: value.map(|value| Bytes::copy_from_slice(&value.to_be_bytes())),
                    });
                }
            }
            Command::Trim(slot, chance) => {
                let (log, start, end) = self.slot(*slot);
                *start += (chance % (*end - *start + 1) as u64) as i64;
                changes.log_starts.push((LogId(*log), *start));
                self.put_slot(*slot, &mut changes);
            }
            Command::Drop(slot) => {
                if let Some((log, ..)) = self.slots.remove(slot) {
                    changes.dropped.push(LogId(log));
                    changes.rows.push(Row {
                        table: Table::Log,
                        key: key(*slot),
                        value: None,
                    });
                }
            }
            Command::Clear(high) => changes.cleared.push((Table::Task, Bytes::copy_from_slice(&[*high]))),
        }
        changes.rows.push(Row {
            table: Table::Meta,
            key: Bytes::from_static(b"next"),
            value: Some(key(self.next_log)),
        });
        changes.rows.push(Row {
            table: Table::Task,
            key: task_key(index),
            value: Some(key(index as u32)),
        });
        changes
    }

    fn slot(&mut self, slot: u32) -> &mut (u32, i64, i64) {
        let next = &mut self.next_log;
        self.slots.entry(slot).or_insert_with(|| {
            *next += 1;
            (*next - 1, 0, 0)
        })
    }

    fn put_slot(&self, slot: u32, changes: &mut Changes) {
        let (log, start, end) = self.slots[&slot];
        let value = [i64::from(log), start, end].map(i64::to_be_bytes).concat();
        changes.rows.push(Row {
            table: Table::Log,
            key: key(slot),
            value: Some(value.into()),
        });
    }
}

/// Keys that are never written again, so that a beginning of them can be cleared: the high byte cycles, then the index.
fn task_key(index: u64) -> Bytes {
    let mut key = vec![4 + (index % 4) as u8];
    key.extend_from_slice(&index.to_be_bytes());
    key.into()
}

fn key(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
