//! Rows that were written and are not in `state.redb` yet.
//!
//! Two layers: the upper takes writes, the lower is being settled. A row is looked up in the upper, in the lower, then in the database; a
//! row that is `None` is deleted.
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use crate::{Row, Table, limits::ROW_OVERHEAD_BYTES};

pub(crate) const TABLES: [Table; 11] = [
    Table::Meta,
    Table::Topic,
    Table::Log,
    Table::Producer,
    Table::Group,
    Table::Offset,
    Table::Module,
    Table::Task,
    Table::ModuleState,
    Table::View,
    Table::ViewRow,
];

/// Rows of one layer, by table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    tables: [BTreeMap<Bytes, Option<Bytes>>; TABLES.len()],
    bytes: u64,
}

impl Layer {
    fn put(&mut self, row: Row) -> u64 {
        let bytes =
            row.key.len() as u64 + row.value.as_ref().map_or(0, |value| value.len() as u64) + ROW_OVERHEAD_BYTES;
        // Counted again when overwritten: what matters is a bound, and that what is added here is what settling takes away.
        self.tables[row.table as usize].insert(row.key, row.value);
        self.bytes += bytes;
        bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// All rows, by table and key.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Table, &Bytes, &Option<Bytes>)> {
        TABLES.iter().flat_map(|&table| {
            self.tables[table as usize]
                .iter()
                .map(move |(key, value)| (table, key, value))
        })
    }

    pub(crate) fn range(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> impl DoubleEndedIterator<Item = (&Bytes, &Option<Bytes>)> {
        // A range that ends before it starts is empty; BTreeMap would panic.
        let end = end.map(|end| end.max(start));
        let bounds = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        self.tables[table as usize].range::<[u8], _>(bounds)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) upper: Layer,
    pub(crate) lower: Arc<Layer>,
}

impl Overlay {
    /// Writes a row; gives the memory it uses.
    pub(crate) fn put(&mut self, row: Row) -> u64 {
        self.upper.put(row)
    }

    /// `None` if the database knows.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Bytes>> {
        let table = table as usize;
        self.upper.tables[table]
            .get(key)
            .or_else(|| self.lower.tables[table].get(key))
    }

    /// Begins to settle: what is in the upper layer becomes the lower one.
    pub(crate) fn freeze(&mut self) -> Arc<Layer> {
        debug_assert!(self.lower.is_empty(), "one settles at a time");
        self.lower = Arc::new(std::mem::take(&mut self.upper));
        self.lower.clone()
    }

    /// The lower layer is in the database. Gives its memory back.
    pub(crate) fn settled(&mut self) -> u64 {
        std::mem::take(&mut self.lower).bytes
    }

    /// The lower layer could not be settled: its rows go back under what was written since.
    pub(crate) fn thaw(&mut self) {
        let lower = std::mem::take(&mut self.lower);
        let upper = std::mem::replace(&mut self.upper, Layer::clone(&lower));
        for (mine, newer) in self.upper.tables.iter_mut().zip(upper.tables) {
            mine.extend(newer);
        }
        self.upper.bytes += upper.bytes;
    }
}
