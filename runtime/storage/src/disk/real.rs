//! The machine's file system below one directory.
use std::{
    cell::RefCell,
    fs::{self, OpenOptions, TryLockError},
    io::{self, IoSlice},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

#[cfg(target_os = "linux")]
use rustix::{
    fs::OFlags,
    io::{Errno, pwritev},
};

use super::{BLOCK_BYTES, Disk, File, Lock, Open};
use crate::{clock, limits};

/// Pieces handed to one system call (`IOV_MAX`).
#[cfg(target_os = "linux")]
const SLICES_MAX: usize = 1024;

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
        expect_no_order(&file);
        Ok(Arc::new(RealFile {
            file,
            direct: OnceLock::new(),
            written: self.written.clone(),
            writes: Sample::default(),
            reads: Sample::default(),
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

/// Every read is of a page that somebody needs, or of a whole file. What lies behind is as likely to be a hole, which the system would fill
/// with zeros for nobody.
#[cfg(target_os = "linux")]
fn expect_no_order(file: &fs::File) {
    // It is advice.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random);
}

#[cfg(not(target_os = "linux"))]
fn expect_no_order(_: &fs::File) {}

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
    /// The same file past the page cache; none where that cannot be had.
    direct: OnceLock<Option<fs::File>>,
    written: Arc<AtomicU64>,
    /// What was written once and into the page cache.
    writes: Sample,
    /// What was read in large pieces through the page cache.
    reads: Sample,
}

/// What the page cache costs. It is for readers that are behind, as long as it takes pages quickly. Where a virtual machine has to be given each
/// new one they are most of what a write or a read costs.
#[derive(Debug, Default)]
struct Sample {
    bytes: AtomicU64,
    /// Processor time.
    nanos: AtomicU64,
}

impl Sample {
    fn of<T>(&self, bytes: usize, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = clock::thread_nanos();
        let done = work()?;
        let nanos = clock::thread_nanos().saturating_sub(begun);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(done)
    }

    fn is_slow(&self, nanos_per_kib_max: u64) -> bool {
        let (bytes, nanos) = (self.bytes.load(Ordering::Relaxed), self.nanos.load(Ordering::Relaxed));
        limits::CACHE_SAMPLE_BYTES < bytes && bytes / 1024 * nanos_per_kib_max < nanos
    }
}

impl RealFile {
    /// What has been read of it may be in the page cache: the system drops that where it is written over.
    #[cfg(target_os = "linux")]
    fn direct(&self) -> Option<&fs::File> {
        use std::os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _};
        let open = || {
            // By its descriptor: its name may be another file's by now.
            let same = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let flags = OFlags::DIRECT.bits().cast_signed();
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags).open(same).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }

    #[cfg(not(target_os = "linux"))]
    fn direct(&self) -> Option<&fs::File> {
        self.direct.get_or_init(|| None).as_ref()
    }

    #[cfg(not(target_os = "linux"))]
    fn write_pieces(&self, _: &fs::File, mut offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        for piece in pieces {
            self.write_at(offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn write_pieces(&self, to: &fs::File, mut offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !pieces.is_empty() {
            let some = pieces.len().min(SLICES_MAX);
            let written = match pwritev(to, &pieces[..some], offset) {
                Err(Errno::INTR) => continue,
                // Past the page cache it is not done like this everywhere.
                Err(Errno::INVAL) if !std::ptr::eq(to, &self.file) => {
                    return self.write_pieces(&self.file, offset, pieces);
                }
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
            self.written.fetch_add(written as u64, Ordering::Relaxed);
            offset += written as u64;
            IoSlice::advance_slices(&mut pieces, written);
        }
        Ok(())
    }
}

/// By way of memory that suits the disk, and that the system need not find anew.
fn read_direct(from: &fs::File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(buffer.len().max(limits::LARGE_READ_BYTES + BLOCK_BYTES), 0);
        let first = buffer.as_ptr().align_offset(BLOCK_BYTES);
        let block = &mut buffer[first..first + limits::LARGE_READ_BYTES];
        for (at, part) in (offset..)
            .step_by(block.len())
            .zip(out.chunks_mut(limits::LARGE_READ_BYTES))
        {
            from.read_exact_at(&mut block[..part.len()], at)?;
            part.copy_from_slice(&block[..part.len()]);
        }
        Ok(())
    })
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let is_block = offset.is_multiple_of(BLOCK_BYTES as u64) && out.len().is_multiple_of(BLOCK_BYTES);
        if out.len() < limits::LARGE_READ_BYTES || !is_block {
            return self.file.read_exact_at(out, offset);
        }
        let is_slow = self.reads.is_slow(limits::CACHE_READ_NANOS_PER_KIB);
        match is_slow.then(|| self.direct()).flatten() {
            Some(direct) => read_direct(direct, offset, out).or_else(|_| self.file.read_exact_at(out, offset)),
            None => self.reads.of(out.len(), || self.file.read_exact_at(out, offset)),
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(data, offset)
    }

    fn write_once_at(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let is_slow = self.writes.is_slow(limits::CACHE_WRITE_NANOS_PER_KIB);
        match is_slow.then(|| self.direct()).flatten() {
            Some(direct) => self.write_pieces(direct, offset, pieces),
            None => self.writes.of(bytes, || self.write_pieces(&self.file, offset, pieces)),
        }
    }

    fn write_over_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.direct() {
            Some(direct) => self.write_pieces(direct, offset, &mut [IoSlice::new(data)]),
            None => self.write_at(offset, data),
        }
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

    fn slow() -> Sample {
        Sample {
            bytes: AtomicU64::new(limits::CACHE_SAMPLE_BYTES + 1),
            nanos: AtomicU64::new(u64::MAX),
        }
    }

    #[test]
    fn what_goes_past_a_slow_page_cache_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        disk.open("f", Open::New).unwrap();
        let file = RealFile {
            file: fs::File::options()
                .read(true)
                .write(true)
                .open(dir.path().join("f"))
                .unwrap(),
            direct: OnceLock::new(),
            written: disk.written.clone(),
            writes: slow(),
            reads: slow(),
        };
        // What has its name now is another file.
        disk.rename("f", "g").unwrap();
        disk.open("f", Open::New).unwrap();
        let memory = vec![1; 5 * BLOCK_BYTES];
        let first = memory.as_ptr().align_offset(BLOCK_BYTES);
        let block = IoSlice::new(&memory[first..first + BLOCK_BYTES]);
        file.write_at(BLOCK_BYTES as u64 * 2, &[2; BLOCK_BYTES]).unwrap();
        file.write_once_at(0, &mut [block; 2]).unwrap();
        let mut found = vec![0; 3 * BLOCK_BYTES];
        file.read_at(0, &mut found).unwrap();
        assert_eq!(found, [[1; BLOCK_BYTES], [1; BLOCK_BYTES], [2; BLOCK_BYTES]].concat());
        file.write_once_at(BLOCK_BYTES as u64, &mut vec![block; 1025]).unwrap();
        assert_eq!(file.len().unwrap(), 1026 * BLOCK_BYTES as u64);
        let mut found = vec![0; 1026 * BLOCK_BYTES];
        file.read_at(0, &mut found).unwrap();
        assert!(found.iter().all(|&byte| byte == 1));
        file.read_at(BLOCK_BYTES as u64, &mut vec![0; 1026 * BLOCK_BYTES])
            .unwrap_err();
        file.write_over_at(BLOCK_BYTES as u64, &[3; BLOCK_BYTES]).unwrap();
        let mut found = vec![0; 3 * BLOCK_BYTES];
        file.read_at(0, &mut found).unwrap();
        assert_eq!(found, [[1; BLOCK_BYTES], [3; BLOCK_BYTES], [1; BLOCK_BYTES]].concat());
        assert_eq!(disk.bytes_written(), 1029 * BLOCK_BYTES as u64);
    }
}
