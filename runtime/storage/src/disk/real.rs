//! The machine's file system below one directory.
use std::{
    fs::{self, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(target_os = "linux")]
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::{Disk, File, Lock, Open};
use crate::{clock, limits};

/// Pages leave the page cache when they are written back, and are the next write's.
#[cfg(target_os = "linux")]
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// A directory of the machine's file system. Counts the bytes written through it.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
    written: Arc<AtomicU64>,
}

impl RealDisk {
    /// Uses `root`, making it if it does not exist.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_dir_durably(&root)?;
        Ok(Self {
            root,
            written: Arc::default(),
        })
    }

    /// Bytes written since this was opened.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let new = how == Open::New;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(new)
            .truncate(new)
            .open(self.path(path))?;
        Ok(Arc::new(RealFile {
            file,
            written: self.written.clone(),
            bytes: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        create_dir_durably(&self.path(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.path(dir))?.sync_all()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A name is durable when the directory that holds it is synced, so each new directory syncs the one above.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_dir_durably(above)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    written: Arc<AtomicU64>,
    /// What of it was written once and into the page cache, and how long that took.
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl RealFile {
    /// The page cache is for readers that are behind, as long as it takes pages quickly. Where a virtual machine has to be given each new one
    /// they are most of what a write costs; pages that go as soon as they are on the disk are always the same few.
    fn is_cache_slow(&self) -> bool {
        let (bytes, nanos) = (self.bytes.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed));
        limits::CACHE_SAMPLE_BYTES < bytes && bytes / 2 * 3 < nanos
    }

    #[cfg(target_os = "linux")]
    fn write_past_cache_at(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = match pwritev2(&self.file, &[io::IoSlice::new(data)], offset, DONTCACHE) {
                // Before Linux 6.14, and on file systems that cannot.
                Err(Errno::OPNOTSUPP) => return self.write_at(offset, data),
                Err(Errno::INTR) => continue,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
            self.written.fetch_add(written as u64, Ordering::Relaxed);
            (offset, data) = (offset + written as u64, &data[written..]);
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn write_past_cache_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn write_once_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_cache_slow() {
            return self.write_past_cache_at(offset, data);
        }
        let begun = clock::instant();
        self.write_at(offset, data)?;
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl Lock for RealLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_past_a_slow_page_cache_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let file = RealFile {
            file: fs::File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(dir.path().join("f"))
                .unwrap(),
            written: disk.written.clone(),
            bytes: AtomicU64::new(limits::CACHE_SAMPLE_BYTES + 1),
            nanos: AtomicU64::new(u64::MAX),
        };
        assert!(file.is_cache_slow());
        file.write_once_at(0, &[1; 10_000]).unwrap();
        file.write_once_at(5_000, &[2; 10_000]).unwrap();
        let mut found = vec![0; 15_000];
        file.read_at(0, &mut found).unwrap();
        assert_eq!((found[4_999], found[5_000], found[14_999]), (1, 2, 2));
        assert_eq!(disk.bytes_written(), 20_000);
    }
}
