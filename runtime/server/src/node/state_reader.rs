//! A module's committed state and its tables, as its guest reads them while it runs.
use bytes::Bytes;
use tidemill_broker::{
    effect::Table,
    module::{
        run::{StateReader, StateScan, TaskKey},
        state_key,
        view::ViewId,
    },
};
use tidemill_storage::{Scan, Storage};

use super::event::{Event, Events};

/// Reads module state and views: what is applied and not settled yet, then redb.
///
/// A disk that fails stops the node before the batch that read from it can be committed: a missing value would look like a new key.
pub(super) struct ModuleState {
    storage: Storage,
    events: Events,
}

impl ModuleState {
    pub(super) fn new(storage: Storage, events: Events) -> Self {
        Self { storage, events }
    }

    fn failed<T: Default>(&self, error: &tidemill_storage::Error) -> T {
        let _ = self
            .events
            .send(Event::Failed(format!("cannot read a module's state: {error}")));
        T::default()
    }
}

impl StateReader for ModuleState {
    fn get(&self, task: &TaskKey, bucket: &str, key: &[u8]) -> Option<Bytes> {
        let row = self
            .storage
            .get_row(Table::ModuleState, &state_key::encode(task, bucket, key));
        row.unwrap_or_else(|error| self.failed(&error))
    }

    fn scan(&self, scan: StateScan<'_>) -> Vec<(Bytes, Bytes)> {
        let StateScan { task, bucket, .. } = scan;
        let (start, end) = state_key::range(task, bucket, scan.start, scan.end);
        let scan = Scan {
            table: Table::ModuleState,
            start: &start,
            end: Some(&end),
            reverse: scan.reverse,
            rows_max: scan.entries_max,
        };
        let rows = self.storage.scan_rows(scan).unwrap_or_else(|error| self.failed(&error));
        let of_bucket = |(row, value): (Bytes, Bytes)| {
            let key = state_key::decode(task, bucket, &row)?;
            Some((row.slice_ref(key), value))
        };
        rows.into_iter().filter_map(of_bucket).collect()
    }

    fn look_up(&self, view: ViewId, key: &[u8]) -> Option<Bytes> {
        let row = self.storage.get_row(Table::ViewRow, &view.row(key));
        row.unwrap_or_else(|error| self.failed(&error))
    }

    fn rows(&self, task: &TaskKey, after: &[u8], rows_max: usize) -> Vec<(Bytes, Bytes)> {
        let (start, end) = state_key::rest(task, after);
        let scan = Scan {
            table: Table::ModuleState,
            start: &start,
            end: Some(&end),
            reverse: false,
            rows_max,
        };
        let rows = self.storage.scan_rows(scan).unwrap_or_else(|error| self.failed(&error));
        let of_task = |(row, value): (Bytes, Bytes)| Some((row.slice_ref(state_key::in_task(task, &row)?), value));
        rows.into_iter().filter_map(of_task).collect()
    }
}
