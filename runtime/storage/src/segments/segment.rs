//! One segment file: chunks of many logs, an index of their times, and what it holds of each log.
//!
//! ```text
//! chunks, pages   see chunk.rs
//! times  (log, largest timestamp so far, last offset) -> ()    a row for each chunk that raises it: the first row at or above t is the
//!                                                              first chunk with a batch at or above t
//! logs   log -> base offset, last offset, largest timestamp, bytes
//! ```
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use redb::{OwnedAccessGuard, ReadOnlyTable, ReadableTable as _, TableDefinition, WriteTransaction};

use super::chunk::{self, Chunk, Filler, Sequence};
use crate::{
    Error, LogId,
    database::{Database, Kind, META},
    disk::Disk,
    gather::Gather,
    limits,
    log::{Batch, Extent},
};

const CHUNKS: TableDefinition<(u32, i64), &[u8]> = TableDefinition::new("chunks");
const PAGES: TableDefinition<(u32, i64, u16), &[u8]> = TableDefinition::new("pages");
const TIMES: TableDefinition<(u32, i64, i64), ()> = TableDefinition::new("times");
const LOGS: TableDefinition<u32, (i64, i64, i64, u64)> = TableDefinition::new("logs");
const NUMBER: &str = "number";
const STORED: &str = "stored";

const WRITTEN: Kind = Kind {
    cache_bytes: limits::SEGMENT_CACHE_BYTES,
    is_log: true,
};

/// What one settle round puts into a segment.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Batches to add, by log, each in order.
    pub(crate) appends: Vec<(LogId, Vec<Batch>)>,
    /// Starts that moved: chunks that lie wholly below go.
    pub(crate) starts: Vec<(LogId, i64)>,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    database: Database,
    /// Bytes of batches ever put in.
    stored: AtomicU64,
    /// Most bytes of live batches that were seen in it since it was opened.
    most_live: AtomicU64,
    /// When it was last used, in uses of any segment.
    pub(super) used: AtomicU64,
}

/// What the first batch at or above a timestamp is.
#[derive(Clone, Debug)]
pub(crate) struct FoundBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) parts: Vec<Bytes>,
}

impl Segment {
    pub(super) fn create(disk: &Arc<dyn Disk>, dir: &str, number: u64) -> Result<Self, Error> {
        let database = Database::create(disk, dir, &name(number), WRITTEN, |transaction| {
            make(transaction, number)
        })?;
        Ok(Self {
            number,
            database,
            stored: AtomicU64::new(0),
            most_live: AtomicU64::new(0),
            used: AtomicU64::new(0),
        })
    }

    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &str, number: u64, sealed: bool) -> Result<Self, Error> {
        let path = format!("{dir}/{}", name(number));
        let database = if sealed {
            Database::open_sealed(disk, path, WRITTEN)?
        } else {
            Database::open(disk, path, WRITTEN)?
        };
        let (found, stored) = database.read(|transaction| {
            let meta = transaction.open_table(META)?;
            Ok((
                meta.get(NUMBER)?.map(|number| number.value()),
                meta.get(STORED)?.map_or(0, |stored| stored.value()),
            ))
        })?;
        if found != Some(number) {
            return Err(Error::corrupt(database.path(), 0, "it is another segment's file"));
        }
        Ok(Self {
            number,
            database,
            stored: AtomicU64::new(stored),
            most_live: AtomicU64::new(0),
            used: AtomicU64::new(0),
        })
    }

    /// Bytes of batches ever put in.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Bytes that were live once and are not now: the database keeps their pages, to fill them again.
    pub(super) fn reusable_bytes(&self, live: u64) -> u64 {
        self.most_live.fetch_max(live, Ordering::Relaxed).saturating_sub(live)
    }

    pub(super) fn seal(&self) -> Result<(), Error> {
        self.database.seal()
    }

    pub(super) fn rest(&self) {
        self.database.rest();
    }

    pub(super) fn path(&self) -> &str {
        self.database.path()
    }

    /// What it holds of each log.
    pub(super) fn extents(&self) -> Result<Vec<(LogId, Extent)>, Error> {
        self.database.read(|transaction| {
            let mut extents = Vec::new();
            for row in transaction.open_table(LOGS)?.iter()? {
                let (log, extent) = row?;
                extents.push((LogId(log.value()), self.extent(extent.value())));
            }
            Ok(extents)
        })
    }

    fn extent(&self, (base_offset, last_offset, max_timestamp, bytes): (i64, i64, i64, u64)) -> Extent {
        Extent {
            segment: self.number,
            base_offset,
            last_offset,
            max_timestamp,
            bytes,
        }
    }

    /// Does a round, durably or not at all. Gives what it now holds of every log that the round names.
    pub(super) fn write(&self, round: &Round) -> Result<Vec<(LogId, Option<Extent>)>, Error> {
        let (extents, stored) = self.database.write(|transaction| {
            for &(log, start) in &round.starts {
                trim(transaction, log, start)?;
            }
            let mut stored = self.stored_bytes();
            let mut buffer = Vec::new();
            for (log, batches) in &round.appends {
                stored += append(transaction, *log, batches, &mut buffer)?;
            }
            transaction.open_table(META)?.insert(STORED, stored)?;
            let logs = transaction.open_table(LOGS)?;
            let named = round
                .starts
                .iter()
                .map(|&(log, _)| log)
                .chain(round.appends.iter().map(|&(log, _)| log));
            let mut extents = Vec::new();
            for log in named {
                extents.push((log, logs.get(log.0)?.map(|extent| self.extent(extent.value()))));
            }
            Ok((extents, stored))
        })?;
        self.stored.store(stored, Ordering::Relaxed);
        Ok(extents)
    }

    /// Adds what the reader wants of this segment. An answer that is large enough ends at the end of a chunk, so that none is read twice by whoever
    /// goes on.
    pub(crate) fn read(&self, log: LogId, last_offset: i64, gather: &mut Gather) -> Result<(), Error> {
        let from = gather.next();
        self.walk(log, from, last_offset, |chunk, load| {
            if !gather.begins(chunk.bytes as usize) {
                return Ok(false);
            }
            let sequence = load()?;
            let (mut at, mut from) = (0, 0);
            while at < sequence.len() && !gather.is_full() {
                let header = sequence.header(at).ok_or_else(damaged)?;
                if gather.wants_header(&header) {
                    at += header.bytes;
                    continue;
                }
                gather.parts(sequence.slice(from..at));
                at += if gather.is_full() { 0 } else { header.bytes };
                from = at;
            }
            gather.parts(sequence.slice(from..at));
            Ok(!gather.is_full())
        })
    }

    /// The first batch that ends at or above `start` and has a timestamp at or above `timestamp`.
    pub(crate) fn find_time(
        &self,
        log: LogId,
        start: i64,
        extent: &Extent,
        timestamp: i64,
    ) -> Result<Option<FoundBatch>, Error> {
        let first = self.database.read(|transaction| {
            let times = transaction.open_table(TIMES)?;
            let mut rows = times.range((log.0, timestamp, i64::MIN)..=(log.0, i64::MAX, i64::MAX))?;
            Ok(rows.next().transpose()?.map(|(key, _)| key.value().2))
        });
        let Some(first) = first? else { return Ok(None) };
        let mut found = None;
        self.walk(log, first.max(start), extent.last_offset, |_, load| {
            let sequence = load()?;
            let mut at = 0;
            while at < sequence.len() {
                let header = sequence.header(at).ok_or_else(damaged)?;
                if start <= header.last_offset && timestamp <= header.max_timestamp {
                    found = Some(FoundBatch {
                        base_offset: header.base_offset,
                        last_offset: header.last_offset,
                        max_timestamp: header.max_timestamp,
                        parts: sequence.slice(at..at + header.bytes).collect(),
                    });
                    return Ok(false);
                }
                at += header.bytes;
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Calls `chunk` with the chunks that end at or above `from`, in order, until it says stop.
    pub(crate) fn chunks(&self, log: LogId, from: i64, mut chunk: impl FnMut(&Chunk) -> bool) -> Result<(), Error> {
        self.database.read(|transaction| {
            for row in transaction
                .open_table(CHUNKS)?
                .range((log.0, from)..=(log.0, i64::MAX))?
            {
                let (key, value) = row?;
                let (found, _) = Chunk::decode(key.value().1, value.value()).ok_or_else(damaged)?;
                if !chunk(&found) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Calls `visit` with the chunks that end in a range of offsets, in order, and with what loads their bytes, until it says stop.
    fn walk(
        &self,
        log: LogId,
        from: i64,
        last_offset: i64,
        mut visit: impl FnMut(&Chunk, &dyn Fn() -> Result<Sequence, redb::Error>) -> Result<bool, redb::Error>,
    ) -> Result<(), Error> {
        let keep = self.database.is_sealed();
        self.database.read(|transaction| {
            let (chunks, pages) = (transaction.open_table(CHUNKS)?, transaction.open_table(PAGES)?);
            for row in chunks.range((log.0, from)..=(log.0, last_offset))? {
                let (key, value) = row?;
                let (chunk, rest) = Chunk::decode(key.value().1, value.value()).ok_or_else(damaged)?;
                if !visit(&chunk, &|| sequence(&pages, log, &chunk, rest, keep))? {
                    break;
                }
            }
            Ok(())
        })
    }
}

pub(super) fn name(number: u64) -> String {
    format!("{number:08}.redb")
}

fn make(transaction: &WriteTransaction, number: u64) -> Result<(), redb::Error> {
    transaction.open_table(CHUNKS)?;
    transaction.open_table(PAGES)?;
    transaction.open_table(TIMES)?;
    transaction.open_table(LOGS)?;
    transaction.open_table(META)?.insert(NUMBER, number)?;
    Ok(())
}

/// Adds batches behind what the segment holds of a log. Gives their bytes. A piece is put together in `buffer`, which stays in the processor's
/// cache: redb's `insert_reserve` would take memory of its own for it, clear that and copy it.
fn append(
    transaction: &WriteTransaction,
    log: LogId,
    batches: &[Batch],
    buffer: &mut Vec<u8>,
) -> Result<u64, redb::Error> {
    let (mut chunks, mut pages) = (transaction.open_table(CHUNKS)?, transaction.open_table(PAGES)?);
    let (mut times, mut logs) = (transaction.open_table(TIMES)?, transaction.open_table(LOGS)?);
    let mut extent = logs.get(log.0)?.map(|extent| extent.value());
    let mut stored = 0;
    for batches in chunk::chunks(batches) {
        let bytes = batches.iter().map(|batch| batch.data.len()).sum();
        let pieces = chunk::pieces(bytes);
        let Some(chunk) = Chunk::of(batches, pieces.len()) else {
            continue;
        };
        let mut filler = Filler::new(batches);
        for (number, &piece) in (0..chunk.pieces).zip(&pieces) {
            buffer.resize(piece.max(buffer.len()), 0);
            filler.fill(&mut buffer[..piece]);
            pages.insert((log.0, chunk.last_offset, number), &buffer[..piece])?;
        }
        let (mut row, rest) = chunk.encode(bytes - pieces.iter().sum::<usize>());
        filler.fill(&mut row[rest]);
        chunks.insert((log.0, chunk.last_offset), &row[..])?;
        if extent.is_none_or(|(_, _, max_timestamp, _)| max_timestamp < chunk.max_timestamp) {
            times.insert((log.0, chunk.max_timestamp, chunk.last_offset), ())?;
        }
        stored += u64::from(chunk.bytes);
        let (base, _, max, held) = extent.unwrap_or((chunk.base_offset, 0, i64::MIN, 0));
        extent = Some((
            base,
            chunk.last_offset,
            max.max(chunk.max_timestamp),
            held + u64::from(chunk.bytes),
        ));
    }
    if let Some(extent) = extent {
        logs.insert(log.0, extent)?;
    }
    Ok(stored)
}

/// Removes the chunks of a log that lie wholly below `start`.
fn trim(transaction: &WriteTransaction, log: LogId, start: i64) -> Result<(), redb::Error> {
    let mut logs = transaction.open_table(LOGS)?;
    let Some((_, last, max_timestamp, bytes)) = logs.get(log.0)?.map(|extent| extent.value()) else {
        return Ok(());
    };
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut removed = 0;
    for row in chunks.extract_from_if((log.0, i64::MIN)..(log.0, start), |_, _| true)? {
        let (key, value) = row?;
        let (chunk, _) = Chunk::decode(key.value().1, value.value()).ok_or_else(damaged)?;
        removed += u64::from(chunk.bytes);
    }
    transaction
        .open_table(PAGES)?
        .retain_in((log.0, i64::MIN, 0)..(log.0, start, 0), |_, _| false)?;
    let first = chunks.range((log.0, start)..=(log.0, i64::MAX))?.next().transpose()?;
    let base = first.and_then(|(key, value)| Some(Chunk::decode(key.value().1, value.value())?.0.base_offset));
    match base {
        Some(base) => drop(logs.insert(log.0, (base, last, max_timestamp, bytes - removed))?),
        None => {
            logs.remove(log.0)?;
            let all = (log.0, i64::MIN, i64::MIN)..=(log.0, i64::MAX, i64::MAX);
            transaction.open_table(TIMES)?.retain_in(all, |_, ()| false)?;
        }
    }
    Ok(())
}

/// The bytes of one chunk. From a sealed segment they are redb's own pages, kept alive; else what is wanted is copied, because a kept page
/// holds up the reuse of every page that was freed since.
fn sequence(
    pages: &ReadOnlyTable<(u32, i64, u16), &'static [u8]>,
    log: LogId,
    chunk: &Chunk,
    rest: &[u8],
    keep: bool,
) -> Result<Sequence, redb::Error> {
    let mut pieces = Vec::with_capacity(usize::from(chunk.pieces) + 1);
    for number in 0..chunk.pieces {
        let page = pages
            .get_owned((log.0, chunk.last_offset, number))?
            .ok_or_else(damaged)?;
        pieces.push(Bytes::from_owner(Page(page)));
    }
    pieces.push(Bytes::copy_from_slice(rest));
    let sequence = Sequence::new(pieces, keep);
    if sequence.len() != chunk.bytes as usize {
        return Err(damaged());
    }
    Ok(sequence)
}

struct Page(OwnedAccessGuard<&'static [u8]>);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

fn damaged() -> redb::Error {
    redb::Error::Corrupted("a chunk makes no sense".into())
}
