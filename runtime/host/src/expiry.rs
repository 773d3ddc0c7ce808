//! Removing what has expired, a little with each commit.
//!
//! The index gives the oldest first. An entry that was written again meanwhile has a later stamp: its place in the index moves. What a
//! commit removes is bounded, and more than it adds, so that nothing piles up.
use bytes::Bytes;
use tidemill_broker::module::{
    expiry_row::{self, Indexed, Stamp},
    run::{StateReader, StateRow, StateScan, TaskKey},
};
use tidemill_protocol::manifest::Clock;

use crate::{limits, overlay::size};

/// The index as a row names its bucket.
pub(crate) const INDEX: Bytes = Bytes::from_static(expiry_row::INDEX.as_bytes());

/// Committed rows, and those of this call before them.
pub(crate) struct Rows<'a> {
    /// Where committed ones are read.
    pub(crate) reader: &'a dyn StateReader,
    /// Whose they are.
    pub(crate) task: &'a TaskKey,
    /// What this call writes.
    pub(crate) written: Vec<StateRow>,
}

impl Rows<'_> {
    /// Adds the removal of entries that expired by `clock` at `now` or before; by how much the state shrinks.
    pub(crate) fn remove_expired(&mut self, clock: Clock, now: i64) -> i64 {
        let most = limits::EXPIRED_REMOVED.max(self.written.len());
        let (start, end) = expiry_row::due(clock, now.saturating_add(1));
        let due = self.reader.scan(StateScan {
            task: self.task,
            bucket: expiry_row::INDEX,
            start: &start,
            end: &end,
            reverse: false,
            entries_max: most,
        });
        // What this call wrote has moved its own rows of the index, and lives.
        let own: std::collections::HashSet<(Bytes, Bytes)> = self
            .written
            .iter()
            .filter(|(bucket, ..)| *bucket != INDEX)
            .map(|(bucket, key, _)| (bucket.clone(), key.clone()))
            .collect();
        let (mut shrinks, mut bytes) = (0, 0);
        for (row, _) in due {
            let Some(indexed) = expiry_row::decode_index(&row) else {
                continue;
            };
            if own.contains(&(indexed.rows.clone().into(), indexed.key.clone())) {
                continue;
            }
            let before = self.written.len();
            shrinks += self.remove(indexed, row, now);
            for (_, key, value) in &self.written[before..] {
                bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            }
            if limits::EXPIRED_BYTES_MAX < bytes {
                break;
            }
        }
        shrinks
    }

    fn remove(&mut self, indexed: Indexed, row: Bytes, now: i64) -> i64 {
        let Indexed { clock, at, rows, key } = indexed;
        self.written.push((INDEX, row, None));
        let entry = self.reader.get(self.task, &rows, &key);
        let Some((stamp, value)) = entry.as_ref().and_then(expiry_row::decode) else {
            return 0;
        };
        if stamp.indexed_at != at {
            return 0;
        }
        if stamp.expires_at <= now {
            let shrinks = size(&key, Some(value.len()));
            self.written.push((rows.into(), key, None));
            return shrinks.cast_signed();
        }
        let stamp = Stamp {
            indexed_at: stamp.expires_at,
            ..stamp
        };
        let moved = expiry_row::index_key(clock, stamp.indexed_at, &rows, &key);
        self.written.push((INDEX, moved, Some(Bytes::new())));
        self.written
            .push((rows.into(), key, Some(expiry_row::encode(stamp, &value))));
        0
    }
}
