//! Opening the data directory: rows first, then every entry above them through the same `apply` as ever.
use std::{path::Path, sync::Arc, time::Duration};

use tidemill_broker::{Entry, State};
use tidemill_storage::{Journal, Options, Settler, Storage, disk::RealDisk};

use crate::{clock, config, data_dir, error::StartError};

/// What a restart found, ready to go on.
pub(super) struct Recovered {
    pub(super) storage: Storage,
    pub(super) journal: Journal,
    pub(super) settler: Settler,
    pub(super) state: State,
    /// Index of the last entry.
    pub(super) last: u64,
}

/// Opens storage below `dir` and replays what is not in the databases.
pub(super) fn recover(dir: &Path, settings: &config::Storage) -> Result<Recovered, StartError> {
    let begun = clock::instant();
    let failed = |error: tidemill_storage::Error| StartError::Storage(format!("{}: {error}", dir.display()));
    let disk = RealDisk::open(dir).map_err(|error| StartError::File {
        path: dir.to_owned(),
        error,
    })?;
    let options = Options {
        seed: u64::from_le_bytes(data_dir::random()?),
        segment_bytes: settings.segment_bytes.0,
        unsettled_bytes_max: settings.tail_bytes_max.0,
        cached_bytes_max: settings.cache_bytes.0,
        reserve_bytes: settings.reserve_bytes.0,
        ..Options::default()
    };
    let opened = Storage::open(Arc::new(disk), &options).map_err(failed)?;
    let mut state = State::default();
    for row in &opened.rows {
        state
            .load(row)
            .map_err(|error| damaged(dir, &format!("a row of table {:?}", row.table), &error.to_string()))?;
    }
    let replayed = opened.entries.len();
    let mut last = opened.applied;
    for (index, bytes) in opened.entries {
        let entry =
            Entry::decode(bytes).map_err(|error| damaged(dir, &format!("entry {index}"), &error.to_string()))?;
        if entry.index != index {
            return Err(damaged(
                dir,
                &format!("entry {index}"),
                &format!("it says that it is entry {}", entry.index),
            ));
        }
        let (_, changes) = state.apply(&entry);
        opened.storage.publish(changes).map_err(failed)?;
        last = index;
    }
    let took: Duration = begun.elapsed();
    tracing::info!(
        entries = replayed,
        last,
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "recovered"
    );
    Ok(Recovered {
        storage: opened.storage,
        journal: opened.journal,
        settler: opened.settler,
        state,
        last,
    })
}

fn damaged(dir: &Path, what: &str, error: &str) -> StartError {
    StartError::Storage(format!(
        "{}: {what} cannot be read ({error}); it was written by a newer Tidemill or is damaged: use that version, or restore a backup",
        dir.display()
    ))
}
