//! A task's rows as they are, a chunk at a time: what a migration begins with.
use bytes::Bytes;
use tidemill_broker::module::{
    run::{Migrated, Processed, StateReader, StateRow, TaskKey, Verdict},
    state_key,
};

use crate::{call::Call, limits};

impl Call {
    /// The rows after `after`, as writes, and how far they go.
    pub(crate) fn copy(self, after: &Bytes) -> Processed {
        let (state, migrated) = chunk(self.reader.as_ref(), &self.run.task, after);
        Processed {
            state,
            migrated: Some(migrated),
            ..self.outcome(Verdict::Ack, 0)
        }
    }
}

fn chunk(reader: &dyn StateReader, task: &TaskKey, after: &Bytes) -> (Vec<StateRow>, Migrated) {
    let (mut rows, mut bytes, mut last) = (Vec::new(), 0, after.clone());
    loop {
        let page = reader.rows(task, &last, limits::ROWS_READ);
        let is_end = page.len() < limits::ROWS_READ;
        for (row, value) in page {
            if limits::COPY_BYTES <= bytes {
                return (rows, Migrated::More(last));
            }
            bytes += row.len() + value.len();
            rows.extend(written(&row, value));
            last = row;
        }
        if is_end {
            return (rows, Migrated::Done);
        }
    }
}

/// `None` for a key that no host wrote.
fn written(row: &Bytes, value: Bytes) -> Option<StateRow> {
    let (bucket, key) = state_key::split(row)?;
    Some((row.slice_ref(bucket.as_bytes()), row.slice_ref(key), Some(value)))
}
