//! The files of a journal: which are closed, which may be written over, and what they are called.
//!
//! Shared by the writer, who needs a blank file now and then, and by settling, which knows what is no longer needed.
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Shared, fatal, frame::FileHeader};
use crate::{
    Error,
    disk::{File, Open},
    limits,
};

const NEXT: &str = "next";

#[derive(Debug)]
pub(crate) struct Files {
    disk: Shared,
    dir: String,
    shard: u32,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    closed: VecDeque<Closed>,
    spares: Vec<String>,
    next_spare: u64,
    generation: u64,
}

/// A file that is not written any more.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) name: String,
    /// Index of its last entry.
    pub(super) last: u64,
}

/// A file to write over. It has no name that recovery would read.
pub(super) struct Blank {
    pub(super) name: String,
    pub(super) file: Arc<dyn File>,
    pub(super) len: u64,
    spare: bool,
}

impl Files {
    pub(super) fn new(disk: Shared, dir: String, shard: u32, seed: u64) -> Self {
        Self {
            disk,
            dir,
            shard,
            seed,
            inner: Mutex::default(),
        }
    }

    /// Puts to use what a scan found.
    pub(super) fn found(&self, closed: VecDeque<Closed>, spares: Vec<String>, generation: u64) {
        let mut inner = self.inner();
        inner.next_spare = spares
            .iter()
            .filter_map(|name| spare_number(name))
            .max()
            .map_or(0, |last| last + 1);
        inner.closed = closed;
        inner.spares = spares;
        inner.generation = generation;
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// The header of the next file. No two files ever have the same generation and salt.
    pub(super) fn header(&self, first: u64) -> FileHeader {
        let mut inner = self.inner();
        inner.generation += 1;
        let generation = inner.generation;
        FileHeader {
            shard: self.shard,
            generation,
            salt: mix(self.seed ^ generation.rotate_left(32) ^ first),
            first,
        }
    }

    /// A recycled file if there is one, else a new one.
    pub(super) fn blank(&self) -> Result<Blank, Error> {
        if let Some(name) = self.inner().spares.pop() {
            let path = self.path(&name);
            let file = self
                .disk
                .open(&path, Open::Existing)
                .map_err(|error| Error::io("open", &path, error))?;
            let len = file.len().map_err(|error| Error::io("measure", &path, error))?;
            return Ok(Blank {
                name,
                file,
                len,
                spare: true,
            });
        }
        let path = self.path(NEXT);
        let file = self
            .disk
            .open(&path, Open::New)
            .map_err(|error| Error::io("create", &path, error))?;
        Ok(Blank {
            name: NEXT.to_owned(),
            file,
            len: 0,
            spare: false,
        })
    }

    /// Takes back a blank file that could not be written.
    pub(super) fn put_back(&self, blank: Blank) {
        if blank.spare {
            self.inner().spares.push(blank.name);
        } else {
            // Room matters now, and the next attempt makes it anew in any case.
            let _ = self.disk.remove(&self.path(NEXT));
        }
    }

    /// Gives a blank file, whose content is durable, its durable name.
    pub(super) fn name(&self, blank: &Blank, first: u64) -> Result<String, Error> {
        let (from, name) = (self.path(&blank.name), file_name(first));
        let to = self.path(&name);
        self.disk
            .rename(&from, &to)
            .map_err(|error| fatal("rename", &from, error))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(|error| fatal("sync", &self.dir, error))?;
        Ok(name)
    }

    pub(super) fn close(&self, name: String, last: u64) {
        self.inner().closed.push_back(Closed { name, last });
    }

    /// Recycles every file whose entries are all at or below `applied`, which the databases hold durably.
    pub(crate) fn release(&self, applied: u64) -> Result<(), Error> {
        let mut recycled = Vec::new();
        loop {
            let (closed, spare) = {
                let mut inner = self.inner();
                if inner.closed.front().is_none_or(|closed| applied < closed.last) {
                    break;
                }
                let keep = inner.spares.len() + recycled.len() < limits::JOURNAL_SPARES_MAX;
                let spare = keep.then(|| {
                    inner.next_spare += 1;
                    spare_name(inner.next_spare - 1)
                });
                (inner.closed.pop_front(), spare)
            };
            let Some(closed) = closed else { break };
            let path = self.path(&closed.name);
            match spare {
                Some(spare) => {
                    self.disk
                        .rename(&path, &self.path(&spare))
                        .map_err(|error| Error::io("rename", &path, error))?;
                    recycled.push(spare);
                }
                None => self
                    .disk
                    .remove(&path)
                    .map_err(|error| Error::io("remove", &path, error))?,
            }
        }
        if !recycled.is_empty() {
            // Before it is written over, its old name must be gone for good: a crash would show new content under it.
            self.disk
                .sync_dir(&self.dir)
                .map_err(|error| fatal("sync", &self.dir, error))?;
            self.inner().spares.extend(recycled);
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a name in the journal's directory stands for.
pub(super) enum Name {
    Log(u64),
    Spare,
    Next,
    Foreign,
}

impl Name {
    pub(super) fn of(name: &str) -> Self {
        if name == NEXT {
            return Self::Next;
        }
        if spare_number(name).is_some() {
            return Self::Spare;
        }
        let first = name.strip_suffix(".log").and_then(|digits| digits.parse().ok());
        first
            .filter(|&first| file_name(first) == name)
            .map_or(Self::Foreign, Self::Log)
    }
}

fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

fn spare_name(number: u64) -> String {
    format!("spare-{number}")
}

fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix("spare-")?.parse().ok()
}

/// The output function of splitmix64: neighbours come out unrelated.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A file that is not there was lost with its name, which a crash may do to names that were not synced.
pub(super) fn missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
