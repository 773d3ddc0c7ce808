//! A disk in memory that keeps a record of everything done to it, and can be cut off at any point.
//!
//! The model is what POSIX promises and no more: a write is durable after `sync` of its file, a name after `sync_dir` of its directory.
//! At a crash everything else may be kept, lost, torn at any 512-byte sector, in any combination; names of one directory change in order,
//! as on every journalling file system. Chance comes from a seed.
mod crash;
mod inode;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
pub use crash::{Crash, Loss, Trace};
use inode::Inode;

use super::{Disk, File, Lock, Open, parent};

/// Something done to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new file, or a new content for an old name.
    Create(String, u64),
    /// Bytes written to a file.
    Write(u64, u64, Bytes),
    /// A file cut or grown.
    SetLen(u64, u64),
    /// A file made durable.
    Sync(u64),
    /// A name changed.
    Rename(String, String),
    /// A name removed.
    Remove(String),
    /// A directory made, durably.
    CreateDir(String),
    /// Names made durable.
    SyncDir(String),
}

/// How the disk is to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The n-th write or sync from now on (0 is the next) fails with this; the ones after it succeed.
    Once(u64, io::ErrorKind),
    /// The n-th write or sync from now on fails with this, and so does everything after it.
    From(u64, io::ErrorKind),
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    names: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: BTreeSet<String>,
    trace: Option<Trace>,
    fault: Option<Fault>,
    capacity_bytes: Option<u64>,
    writes: u64,
    bytes_written: u64,
}

impl SimDisk {
    /// An empty disk without bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a record of everything done from now on.
    pub fn record(&self) {
        let mut inner = self.inner();
        inner.trace = Some(Trace::new(
            inner.names.clone(),
            inner.dirs.clone(),
            inner.inodes.clone(),
        ));
    }

    /// Ends the record and gives it.
    ///
    /// # Panics
    /// If [`SimDisk::record`] was not called.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.inner().trace.take().expect("record() was called before")
    }

    /// Operations recorded so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.inner().trace.as_ref().map_or(0, |trace| trace.ops().len())
    }

    /// Misbehave like this from now on; `None` behaves again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.inner().fault = fault;
    }

    /// Bounds the disk; `None` lifts the bound.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.inner().capacity_bytes = capacity_bytes;
    }

    /// Bytes that files occupy, in whole blocks; holes are free.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner().used_bytes()
    }

    /// Bytes written since the disk was made.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.inner().bytes_written
    }

    /// Everything on the disk, by path.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.inner();
        inner
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), inner.inodes[inode].data().to_vec()))
            .collect()
    }

    /// Turns a bit of a file over, as a dying disk does.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, path: &str, position: u64) {
        let mut inner = self.inner();
        let inode = inner.names[path];
        let inode = inner.inodes.get_mut(&inode).expect("names point at inodes");
        let at = usize::try_from(position).expect("files fit memory");
        let byte = inode.data()[at] ^ 0x10;
        inode.write(at, &[byte]);
    }

    fn with(names: BTreeMap<String, u64>, dirs: BTreeSet<String>, inodes: BTreeMap<u64, Inode>) -> Self {
        let next_inode = inodes.keys().next_back().map_or(0, |last| last + 1);
        Self {
            inner: Arc::new(Mutex::new(Inner {
                names,
                dirs,
                inodes,
                next_inode,
                ..Inner::default()
            })),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, op: impl FnOnce() -> Op) {
        if let Some(trace) = &mut self.trace {
            trace.push(op());
        }
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].used_bytes()).sum()
    }

    /// Counts a write or sync, and fails it if it is time.
    fn misbehave(&mut self) -> io::Result<()> {
        self.writes += 1;
        match self.fault {
            Some(Fault::Once(0, kind)) => {
                self.fault = None;
                Err(kind.into())
            }
            Some(Fault::From(0, kind)) => Err(kind.into()),
            Some(Fault::Once(n, kind)) => {
                self.fault = Some(Fault::Once(n - 1, kind));
                Ok(())
            }
            Some(Fault::From(n, kind)) => {
                self.fault = Some(Fault::From(n - 1, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn known(&self, path: &str) -> io::Result<u64> {
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let mut inner = self.inner();
        let inode = match how {
            Open::Existing => inner.known(path)?,
            Open::New => {
                if !parent(path).is_empty() && !inner.dirs.contains(parent(path)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let inode = inner.next_inode;
                inner.next_inode += 1;
                inner.inodes.insert(inode, Inode::default());
                inner.names.insert(path.to_owned(), inode);
                inner.note(|| Op::Create(path.to_owned(), inode));
                inode
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let inode = inner.known(from)?;
        inner.names.remove(from);
        inner.names.insert(to.to_owned(), inode);
        inner.note(|| Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.known(path)?;
        inner.names.remove(path);
        inner.note(|| Op::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let inner = self.inner();
        if !dir.is_empty() && !inner.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let below = inner.names.keys().chain(inner.dirs.iter());
        Ok(below
            .filter(|path| parent(path) == dir && !path.is_empty())
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let mut path = dir;
        while !path.is_empty() && inner.dirs.insert(path.to_owned()) {
            let made = path.to_owned();
            inner.note(|| Op::CreateDir(made));
            path = parent(path);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.misbehave()?;
        inner.note(|| Op::SyncDir(dir.to_owned()));
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        if !self.inner().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.inner();
        Ok(inner
            .capacity_bytes
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(inner.used_bytes())))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inner, u64) -> T) -> T {
        work(&mut self.disk.inner(), self.inode)
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner, inode| Ok(inner.inodes[&inode].data().len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner, inode| {
            let data = inner.inodes[&inode].data();
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let found = at.checked_add(out.len()).and_then(|end| data.get(at..end));
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|inner, inode| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            if let Err(error) = inner.misbehave() {
                // A failed write may have got half way.
                let half = &data[..data.len() / 2];
                inner
                    .inodes
                    .get_mut(&inode)
                    .expect("open files have inodes")
                    .write(at, half);
                inner.note(|| Op::Write(inode, offset, Bytes::copy_from_slice(half)));
                return Err(error);
            }
            let new_bytes = inner.inodes[&inode].growth_bytes(at, data.len());
            if inner
                .capacity_bytes
                .is_some_and(|capacity| capacity < inner.used_bytes() + new_bytes)
            {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner
                .inodes
                .get_mut(&inode)
                .expect("open files have inodes")
                .write(at, data);
            inner.bytes_written += data.len() as u64;
            inner.note(|| Op::Write(inode, offset, Bytes::copy_from_slice(data)));
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner, inode| {
            let at = usize::try_from(len).map_err(io::Error::other)?;
            inner
                .inodes
                .get_mut(&inode)
                .expect("open files have inodes")
                .set_len(at);
            inner.note(|| Op::SetLen(inode, len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|inner, inode| {
            inner.misbehave()?;
            inner.note(|| Op::Sync(inode));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: String,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locks.remove(&self.path);
    }
}
