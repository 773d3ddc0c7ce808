//! The partitions' data: segment files, of which the last is written and the others are only read.
//!
//! Guarantees: a round is in one segment whole or not at all. A segment that nothing live is in is unlinked.
//! Does not do: know which offsets are live; rewrite a segment that is live in part.
mod chunk;
mod segment;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub(crate) use segment::{FoundBatch, Round, Segment};

use crate::{Error, LogId, database::NEW, disk::Disk, limits, log::Extent};

#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    dir: String,
    segment_bytes: u64,
    uses: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Segment>>>,
}

/// What a log has in a segment after a write; `None` when nothing of it is left there.
type Extents = Vec<(LogId, Option<Extent>)>;

impl Segments {
    /// Opens what is there. Gives what each segment holds of each log, oldest segment first.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: String,
        segment_bytes: u64,
    ) -> Result<(Self, Vec<(LogId, Extent)>), Error> {
        let numbers = list(disk, &dir)?;
        let (mut all, mut extents) = (BTreeMap::new(), Vec::new());
        for &number in &numbers {
            let segment = Segment::open(disk, &dir, number, Some(&number) != numbers.last())?;
            extents.extend(segment.extents()?);
            segment.rest();
            all.insert(number, Arc::new(segment));
        }
        Ok((
            Self {
                disk: disk.clone(),
                dir,
                segment_bytes,
                uses: AtomicU64::new(0),
                all: Mutex::new(all),
            },
            extents,
        ))
    }

    /// A segment to read from; `None` if it was unlinked.
    pub(crate) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let segment = self.all().get(&number).cloned()?;
        segment
            .used
            .store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(segment)
    }

    /// Does a round in the last segment, beginning a new one if it is full. Gives its number, and what it now holds of every log named.
    pub(crate) fn write(&self, round: &Round) -> Result<(u64, Extents), Error> {
        let last = self.all().last_key_value().map(|(_, last)| last.clone());
        let segment = match last {
            Some(last) if last.stored_bytes() < self.segment_bytes => last,
            last => self.begin(last.as_deref())?,
        };
        Ok((segment.number, segment.write(round)?))
    }

    fn begin(&self, last: Option<&Segment>) -> Result<Arc<Segment>, Error> {
        let number = last.map_or(0, |last| last.number + 1);
        let segment = Arc::new(Segment::create(&self.disk, &self.dir, number)?);
        if let Some(last) = last {
            last.seal()?;
        }
        self.all().insert(number, segment.clone());
        Ok(segment)
    }

    /// Unlinks every segment, but for the last, that is not among the live.
    pub(crate) fn unlink_dead(&self, live: &BTreeMap<u64, u64>) -> Result<usize, Error> {
        let dead: Vec<_> = {
            let mut all = self.all();
            let last = all.last_key_value().map(|(&number, _)| number);
            all.extract_if(.., |number, _| Some(*number) != last && !live.contains_key(number))
                .collect()
        };
        for (_, segment) in &dead {
            let path = segment.path();
            self.disk
                .remove(path)
                .map_err(|error| Error::io("remove", path, error))?;
        }
        if !dead.is_empty() {
            self.disk
                .sync_dir(&self.dir)
                .map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        Ok(dead.len())
    }

    /// What the segment that is written can take without growing. `live` has the bytes of live batches by segment.
    pub(crate) fn reusable_bytes(&self, live: &BTreeMap<u64, u64>) -> u64 {
        let last = self.all().last_key_value().map(|(_, last)| last.clone());
        last.map_or(0, |last| {
            last.reusable_bytes(live.get(&last.number).copied().unwrap_or(0))
        })
    }

    /// Gives back the memory of the sealed segments that were not used for longest.
    pub(crate) fn rest(&self) {
        let mut all: Vec<_> = self.all().values().cloned().collect();
        all.sort_by_key(|segment| std::cmp::Reverse(segment.used.load(Ordering::Relaxed)));
        all.iter()
            .skip(limits::SEALED_OPEN_MAX)
            .for_each(|segment| segment.rest());
    }

    /// Number of segment files.
    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    pub(crate) fn close(&self) -> Result<(), Error> {
        let last = self.all().last_key_value().map(|(_, last)| last.clone());
        last.map_or(Ok(()), |last| last.seal())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers of the segment files. What was being made when the power failed is removed.
fn list(disk: &Arc<dyn Disk>, dir: &str) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for name in disk.list(dir).map_err(|error| Error::io("list", dir, error))? {
        let path = format!("{dir}/{name}");
        if name == NEW {
            disk.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
            continue;
        }
        let number = name.strip_suffix(".redb").and_then(|digits| digits.parse().ok());
        numbers.push(
            number
                .filter(|&number| segment::name(number) == name)
                .ok_or(Error::Foreign(path))?,
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}
