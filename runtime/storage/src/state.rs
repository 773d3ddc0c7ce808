//! `state.redb`: the derived rows, how far they go, and what storage itself must remember of logs.
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use crate::{
    Error, LogId, Row, Table,
    database::{Database, Kind, META},
    disk::Disk,
    limits,
    overlay::{Layer, TABLES},
};

const KIND: Kind = Kind {
    cache_bytes: limits::STATE_CACHE_BYTES,
    is_log: false,
};

/// One table for all rows: the number of the row's table, then its key.
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// Where a log starts, if it does not start at 0.
const STARTS: TableDefinition<u32, i64> = TableDefinition::new("starts");
/// redb's page.
const PAGE_BYTES: usize = 4 << 10;
const APPLIED: &str = "applied";
const SHARD: &str = "shard";

/// The start of a log that is gone. A log's number is never used again.
pub(crate) const DROPPED: i64 = i64::MAX;

/// What one settle round puts into the state.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) rows: Arc<Layer>,
    /// Beginnings of keys: the rows that have them go, those of this round too.
    pub(crate) cleared: Vec<(Table, Bytes)>,
    pub(crate) starts: Vec<(LogId, i64)>,
    /// The state then has everything up to this entry.
    pub(crate) applied: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    database: Database,
}

impl State {
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &str, shard: u32, exists: bool) -> Result<Self, Error> {
        const NAME: &str = "state.redb";
        let database = if exists {
            Database::open(disk, format!("{dir}/{NAME}"), KIND)?
        } else {
            Database::create(disk, dir, NAME, KIND, |transaction| make(transaction, shard))?
        };
        let owner =
            database.read(|transaction| Ok(transaction.open_table(META)?.get(SHARD)?.map(|shard| shard.value())))?;
        if owner != Some(u64::from(shard)) {
            return Err(Error::corrupt(database.path(), 0, "it belongs to another shard"));
        }
        Ok(Self { database })
    }

    /// Index of the last entry whose rows are all here.
    pub(crate) fn applied(&self) -> Result<u64, Error> {
        let applied = self
            .database
            .read(|transaction| Ok(transaction.open_table(META)?.get(APPLIED)?.map(|index| index.value())))?;
        applied.ok_or_else(|| Error::corrupt(self.database.path(), 0, "it does not say how far it goes"))
    }

    /// Where logs start.
    pub(crate) fn starts(&self) -> Result<Vec<(LogId, i64)>, Error> {
        self.database.read(|transaction| {
            let table = transaction.open_table(STARTS)?;
            let mut starts = Vec::new();
            for row in table.iter()? {
                let (log, start) = row?;
                starts.push((LogId(log.value()), start.value()));
            }
            Ok(starts)
        })
    }

    /// All rows but modules' own and those of tables, which may be more than memory holds.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, Error> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ROWS)?;
            let mut rows = Vec::new();
            let is_small = |table: &&Table| !matches!(table, Table::ModuleState | Table::ViewRow);
            for &kind in TABLES.iter().filter(is_small) {
                for row in table.range::<&[u8]>(&[kind as u8][..]..&[kind as u8 + 1][..])? {
                    let (key, value) = row?;
                    let key = Bytes::copy_from_slice(&key.value()[1..]);
                    rows.push(Row {
                        table: kind,
                        key,
                        value: Some(Bytes::copy_from_slice(value.value())),
                    });
                }
            }
            Ok(rows)
        })
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.database.read(|transaction| {
            let value = transaction.open_table(ROWS)?.get(&*full_key(table, key))?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    /// Calls `row` with the rows of `[start, end)` in order until it says stop.
    pub(crate) fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        reverse: bool,
        mut row: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Error> {
        let start = full_key(table, start);
        let end = end.map_or_else(|| vec![table as u8 + 1], |end| full_key(table, end));
        if end <= start {
            return Ok(());
        }
        self.database.read(|transaction| {
            let rows = transaction.open_table(ROWS)?.range::<&[u8]>(&start[..]..&end[..])?;
            let mut step = |found: (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>)| {
                row(&found.0.value()[1..], found.1.value())
            };
            if reverse {
                for found in rows.rev() {
                    if !step(found?) {
                        break;
                    }
                }
            } else {
                for found in rows {
                    if !step(found?) {
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    /// Does a round, durably or not at all.
    pub(crate) fn write(&self, round: &Round, transaction_bytes: usize) -> Result<(), Error> {
        let Round {
            rows,
            cleared,
            starts,
            applied,
        } = round;
        let mut rows = rows.rows().peekable();
        // At worst each row is on a page of its own.
        let part_rows = (transaction_bytes / PAGE_BYTES).max(1);
        let parts = std::iter::from_fn(|| {
            rows.peek()?;
            Some(rows.by_ref().take(part_rows).collect::<Vec<_>>())
        });
        let mut full = Vec::new();
        self.database.write_in_parts(
            parts,
            |transaction, part| {
                let mut table = transaction.open_table(ROWS)?;
                for (kind, key, value) in part {
                    full.clear();
                    full.push(kind as u8);
                    full.extend_from_slice(key);
                    match value {
                        Some(value) => drop(table.insert(&full[..], &value[..])?),
                        None => drop(table.remove(&full[..])?),
                    }
                }
                Ok(())
            },
            |transaction| {
                let mut table = transaction.open_table(ROWS)?;
                for (kind, prefix) in cleared {
                    let (start, end) = with_prefix(*kind, prefix);
                    table.retain_in::<&[u8], _>(&start[..]..&end[..], |_, _| false)?;
                }
                let mut table = transaction.open_table(STARTS)?;
                for (log, start) in starts {
                    table.insert(log.0, start)?;
                }
                transaction.open_table(META)?.insert(APPLIED, applied)?;
                Ok(())
            },
        )
    }

    pub(crate) fn close(&self) -> Result<(), Error> {
        self.database.seal()
    }
}

fn make(transaction: &WriteTransaction, shard: u32) -> Result<(), redb::Error> {
    transaction.open_table(ROWS)?;
    transaction.open_table(STARTS)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(SHARD, u64::from(shard))?;
    meta.insert(APPLIED, 0)?;
    Ok(())
}

fn full_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table as u8);
    full.extend_from_slice(key);
    full
}

/// The range of all keys that begin like this.
fn with_prefix(table: Table, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let start = full_key(table, prefix);
    let mut end = start.clone();
    // The first byte is the table's number, so there is one that can be raised.
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (start, end)
}
