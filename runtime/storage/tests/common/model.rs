//! The naive reference: everything in memory, nothing clever.
use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_storage::{Changes, LogId, LogRead, ReadError, Scan, Storage, Table};

use super::{Chance, patched};

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub logs: BTreeMap<LogId, Log>,
    pub rows: BTreeMap<(Table, Bytes), Bytes>,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub start: i64,
    pub batches: Vec<Batch>,
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub base: i64,
    pub last: i64,
    pub timestamp: i64,
    pub data: Vec<u8>,
}

impl Model {
    pub fn apply(&mut self, changes: &Changes) {
        for append in &changes.appends {
            self.logs.entry(append.log).or_default().batches.push(Batch {
                base: append.base_offset,
                last: append.last_offset,
                timestamp: append.max_timestamp,
                data: patched(&append.batch, append.base_offset, append.leader_epoch),
            });
        }
        for row in &changes.rows {
            let key = (row.table, row.key.clone());
            match &row.value {
                Some(value) => drop(self.rows.insert(key, value.clone())),
                None => drop(self.rows.remove(&key)),
            }
        }
        for &(log, start) in &changes.log_starts {
            let log = self.logs.entry(log).or_default();
            log.start = log.start.max(start);
        }
        for log in &changes.dropped {
            self.logs.remove(log);
        }
    }

    /// Everything that storage can be asked must agree.
    pub fn check(&self, storage: &Storage) {
        for (&id, log) in &self.logs {
            log.check_whole(id, storage);
        }
        for table in [Table::Meta, Table::Log, Table::ModuleState] {
            let mine: Vec<_> = self
                .rows
                .iter()
                .filter(|((of, _), _)| *of == table)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            let all = Scan {
                table,
                start: b"",
                end: None,
                reverse: false,
                rows_max: usize::MAX,
            };
            assert_eq!(storage.scan_rows(all).unwrap(), mine, "rows of {table:?}");
        }
    }

    /// A random question.
    pub fn ask(&self, storage: &Storage, chance: &mut Chance) {
        let Some((&id, log)) = self
            .logs
            .iter()
            .nth(chance.below(self.logs.len().max(1) as u64) as usize)
        else {
            return;
        };
        match chance.below(3) {
            0 => log.ask_read(id, storage, chance),
            1 => log.ask_time(id, storage, chance),
            _ => self.ask_rows(storage, chance),
        }
    }

    fn ask_rows(&self, storage: &Storage, chance: &mut Chance) {
        let table = Table::ModuleState;
        let (start, end) = (
            (chance.below(220) as u16).to_be_bytes(),
            (chance.below(220) as u16).to_be_bytes(),
        );
        let end = (!chance.one_in(5)).then_some(&end[..]);
        let (reverse, rows_max) = (chance.one_in(2), chance.below(30) as usize);
        let mut mine: Vec<_> = self
            .rows
            .iter()
            .map(|((of, key), value)| (*of, key.clone(), value.clone()))
            .collect();
        mine.retain(|(of, key, _)| *of == table && start[..] <= key[..] && end.is_none_or(|end| &key[..] < end));
        if reverse {
            mine.reverse();
        }
        mine.truncate(rows_max);
        let mine: Vec<_> = mine.into_iter().map(|(_, key, value)| (key, value)).collect();
        assert_eq!(
            storage
                .scan_rows(Scan {
                    table,
                    start: &start,
                    end,
                    reverse,
                    rows_max
                })
                .unwrap(),
            mine
        );
        let mine = self.rows.get(&(table, Bytes::copy_from_slice(&start))).cloned();
        assert_eq!(storage.get_row(table, &start).unwrap(), mine);
    }
}

impl Log {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.last + 1)
    }

    fn check_whole(&self, id: LogId, storage: &Storage) {
        let all = LogRead {
            log: id,
            from: self.start,
            until: i64::MAX,
            bytes_max: usize::MAX,
        };
        assert_eq!(storage.read(all).unwrap().to_bytes(), self.answer(&all), "log {id:?}");
        if 0 < self.start {
            assert_eq!(
                storage.read(LogRead {
                    from: self.start - 1,
                    ..all
                }),
                Err(ReadError::Gone)
            );
        }
    }

    fn ask_read(&self, id: LogId, storage: &Storage, chance: &mut Chance) {
        let width = (self.end() - self.start + 2) as u64;
        let read = LogRead {
            log: id,
            from: self.start + chance.below(width) as i64,
            until: self.start + chance.below(2 * width) as i64,
            bytes_max: chance.below(5_000) as usize,
        };
        let (answer, all) = (storage.read(read).unwrap().to_bytes(), self.answer(&read));
        // It may end where a chunk does, when it has half of what may be.
        assert!(all.starts_with(&answer), "{read:?}");
        assert!(
            answer.len() == all.len() || read.bytes_max / 2 <= answer.len(),
            "{read:?}"
        );
        assert!(all.is_empty() || !answer.is_empty(), "{read:?}");
    }

    fn ask_time(&self, id: LogId, storage: &Storage, chance: &mut Chance) {
        let timestamp = chance.below(11_000) as i64;
        let mine = self
            .batches
            .iter()
            .find(|batch| self.start <= batch.last && timestamp <= batch.timestamp);
        let found = storage.find_time(id, timestamp).unwrap();
        assert_eq!(
            found.map(|found| found.batch.to_bytes().to_vec()),
            mine.map(|batch| batch.data.clone()),
            "at or above {timestamp} in {id:?}"
        );
    }

    pub fn answer(&self, read: &LogRead) -> Vec<u8> {
        let mut answer = Vec::new();
        if read.until <= read.from {
            return answer;
        }
        for batch in self.batches.iter().filter(|batch| read.from <= batch.last) {
            let fits = answer.is_empty() || answer.len().saturating_add(batch.data.len()) <= read.bytes_max;
            if !fits || read.until <= batch.last {
                break;
            }
            answer.extend_from_slice(&batch.data);
        }
        answer
    }
}
