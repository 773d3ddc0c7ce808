//! Reads a journal back: what is whole, where it ends, and whether the end is where it should be.
use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    Files, Shared, dir,
    files::{Closed, Name, missing},
    frame::{FILE_HEADER_BYTES, FileHeader, GROUP_ALIGN, Group, GroupHeader},
};
use crate::{Error, disk::Open};

/// A journal as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) files: Arc<Files>,
    /// Entries above the index that was asked for.
    pub(crate) entries: Vec<(u64, Bytes)>,
    /// Index of the entry after the last.
    pub(crate) next_index: u64,
}

/// Scans the journal for entries above `applied`. Changes nothing but the leftovers of a file that was never named.
pub(crate) fn recover(disk: &Shared, shard: u32, seed: u64, applied: u64) -> Result<Recovered, Error> {
    let dir = dir(shard);
    let files = Arc::new(Files::new(disk.clone(), dir.clone(), shard, seed));
    let found = Found::list(disk, &files, &dir)?;
    let mut scan = Scan {
        disk,
        files: &files,
        shard,
        applied,
        next_index: applied + 1,
        entries: Vec::new(),
        generation: found.generation,
    };
    let mut closed = VecDeque::new();
    for (at, &first) in found.logs.iter().enumerate() {
        let next = found.logs.get(at + 1).copied();
        let name = format!("{first:020}.log");
        if let Some(next) = next.filter(|&next| next <= applied + 1) {
            scan.header_only(&name);
            closed.push_back(Closed { name, last: next - 1 });
            continue;
        }
        let last = scan.file(&name, first, next)?;
        closed.push_back(Closed { name, last });
    }
    let (entries, next_index) = (scan.entries, scan.next_index);
    files.found(closed, found.spares, scan.generation);
    Ok(Recovered {
        files,
        entries,
        next_index,
    })
}

/// The directory, sorted out.
struct Found {
    logs: Vec<u64>,
    spares: Vec<String>,
    generation: u64,
}

impl Found {
    fn list(disk: &Shared, files: &Files, dir: &str) -> Result<Self, Error> {
        let mut found = Self {
            logs: Vec::new(),
            spares: Vec::new(),
            generation: 0,
        };
        for name in disk.list(dir).map_err(|error| Error::io("list", dir, error))? {
            let path = files.path(&name);
            match Name::of(&name) {
                Name::Log(first) => found.logs.push(first),
                Name::Spare => {
                    match read(disk, &path, FILE_HEADER_BYTES).and_then(|data| FileHeader::decode(&path, &data)) {
                        Ok(header) => {
                            found.generation = found.generation.max(header.generation);
                            found.spares.push(name);
                        }
                        // Half written over when the power failed. Its generation is unknown, so it is not used again.
                        Err(_) => remove(disk, &path)?,
                    }
                }
                Name::Next => remove(disk, &path)?,
                Name::Foreign => return Err(Error::Foreign(path)),
            }
        }
        found.logs.sort_unstable();
        Ok(found)
    }
}

struct Scan<'a> {
    disk: &'a Shared,
    files: &'a Files,
    shard: u32,
    applied: u64,
    next_index: u64,
    entries: Vec<(u64, Bytes)>,
    generation: u64,
}

impl Scan<'_> {
    /// A file that is not needed any more: only its generation matters, and damage to it harms nobody.
    fn header_only(&mut self, name: &str) {
        let path = self.files.path(name);
        if let Ok(header) = read(self.disk, &path, FILE_HEADER_BYTES).and_then(|data| FileHeader::decode(&path, &data))
        {
            self.generation = self.generation.max(header.generation);
        }
    }

    /// Takes a file's entries; gives the index of its last.
    fn file(&mut self, name: &str, first: u64, next: Option<u64>) -> Result<u64, Error> {
        let path = self.files.path(name);
        if self.next_index < first {
            let what = format!("entries {} to {} are missing before it", self.next_index, first - 1);
            return Err(Error::corrupt(&path, 0, what));
        }
        let data = read(self.disk, &path, usize::MAX)?;
        let header = FileHeader::decode(&path, &data)?;
        if header.shard != self.shard || header.first != first {
            return Err(Error::corrupt(&path, 0, "its header belongs to another file"));
        }
        self.generation = self.generation.max(header.generation);
        let (mut index, mut position) = (first, FILE_HEADER_BYTES);
        while let Some(group) = Group::at(&header, &data, position, index) {
            for entry in group.entries {
                if self.applied < index {
                    // A copy: a batch that stays in memory must not keep the whole file there.
                    self.entries.push((index, Bytes::copy_from_slice(&entry)));
                }
                index += 1;
            }
            position = group.end;
        }
        match next {
            // The next file begins where this one ends: what lies behind is the torn group of an earlier crash.
            Some(next) if next == index => {}
            // What is damaged is in the databases already.
            Some(next) if next <= self.applied + 1 => {}
            Some(next) => {
                return Err(Error::corrupt(
                    &path,
                    position as u64,
                    format!("entry {index} is missing, and entry {next} is in the next file"),
                ));
            }
            None => self.end(&path, &header, &data, position, index)?,
        }
        self.next_index = index.max(self.applied + 1);
        Ok(index.max(first + 1) - 1)
    }

    /// The end of the last file: torn, or damaged?
    fn end(&self, path: &str, header: &FileHeader, data: &Bytes, position: usize, index: u64) -> Result<(), Error> {
        if position == FILE_HEADER_BYTES && self.applied < index {
            // It was given its name after its first group was durable.
            return Err(Error::corrupt(
                path,
                position as u64,
                format!("entry {index} is damaged"),
            ));
        }
        // A group is written only after the one before it was synced. So one that follows proves that what is unreadable here was whole.
        let later = (position + GROUP_ALIGN..data.len()).step_by(GROUP_ALIGN);
        for at in later {
            if let Some(group) = GroupHeader::at(header, data, at).filter(|group| index < group.first) {
                let what = format!(
                    "entry {index} is damaged, but entry {} is whole behind it at byte {at}",
                    group.first
                );
                return Err(Error::corrupt(path, position as u64, what));
            }
        }
        // What was read may be in memory only, if the process died and the machine did not. It is about to be believed.
        let file = self
            .disk
            .open(path, Open::Existing)
            .map_err(|error| Error::io("open", path, error))?;
        file.sync().map_err(|error| Error::io("sync", path, error))
    }
}

fn read(disk: &Shared, path: &str, bytes_max: usize) -> Result<Bytes, Error> {
    let file = disk
        .open(path, Open::Existing)
        .map_err(|error| Error::io("open", path, error))?;
    let len = file.len().map_err(|error| Error::io("measure", path, error))?;
    let len = usize::try_from(len)
        .map_err(|_| Error::corrupt(path, 0, "it is larger than memory"))?
        .min(bytes_max);
    let mut data = vec![0; len];
    file.read_at(0, &mut data)
        .map_err(|error| Error::io("read", path, error))?;
    Ok(data.into())
}

fn remove(disk: &Shared, path: &str) -> Result<(), Error> {
    match disk.remove(path) {
        Err(error) if !missing(&error) => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}
