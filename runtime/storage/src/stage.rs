//! Pages on their way into a file, put together so that the disk is given few large writes: redb writes a page at a time, most of them small,
//! in no order, and what a write costs is mostly by the call.
//!
//! Guarantees: a read sees what was written before it; [`Stage::write_out`] hands everything to the file, in pieces that begin and end at a
//! block of the file and of memory, as writing past the page cache wants it. An error leaves what was staged where it is.
//! Does not do: durability. What is staged is as lost in a crash as what was not synced.
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use crate::{
    disk::{BLOCK_BYTES as BLOCK, File},
    limits::STAGED_BYTES_MAX,
};

/// Pages staged for one file.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    blocks: RwLock<Blocks>,
    /// Held by whoever writes, so that nothing is staged between writing out and forgetting.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Blocks {
    /// Each has room for [`PART`] blocks, from the first address that suits them. Kept from one transaction to the next.
    memory: Vec<Vec<u8>>,
    /// Which block of memory a block of the file is in.
    places: BTreeMap<u64, usize>,
}

/// Blocks for which memory is taken at a time.
const PART: usize = 256;

impl Stage {
    /// Takes whole blocks; anything else goes to the file at once.
    pub(crate) fn write(&self, file: &dyn File, offset: u64, data: &[u8]) -> io::Result<()> {
        let _writing = self.writing();
        let is_whole = offset.is_multiple_of(BLOCK as u64) && data.len().is_multiple_of(BLOCK);
        if !is_whole || STAGED_BYTES_MAX < data.len() {
            // It may belong to a block that is here.
            self.empty(file)?;
            return file.write_at(offset, data);
        }
        if STAGED_BYTES_MAX < self.read().places.len() * BLOCK + data.len() {
            self.empty(file)?;
        }
        self.blocks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .put(offset, data);
        Ok(())
    }

    /// Fills `out` from the file and from what is on its way there.
    pub(crate) fn read_at(&self, file: &dyn File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        let wanted = offset / BLOCK as u64..end.div_ceil(BLOCK as u64);
        let blocks = self.read();
        if blocks.places.range(wanted.clone()).next().is_none() {
            // Whoever writes does not wait for the disk of whoever reads.
            drop(blocks);
            return file.read_at(offset, out);
        }
        file.read_at(offset, out)?;
        for (&number, &place) in blocks.places.range(wanted) {
            let start = number * BLOCK as u64;
            let (from, to) = (start.max(offset), (start + BLOCK as u64).min(end));
            let staged = blocks.at(place..place + 1);
            out[within(offset, from..to)].copy_from_slice(&staged[within(start, from..to)]);
        }
        Ok(())
    }

    /// Hands everything to the file.
    pub(crate) fn write_out(&self, file: &dyn File) -> io::Result<()> {
        let _writing = self.writing();
        self.empty(file)
    }

    fn empty(&self, file: &dyn File) -> io::Result<()> {
        // Readers go on meanwhile.
        self.read().hand_to(file)?;
        self.blocks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .places
            .clear();
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Blocks> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    fn put(&mut self, offset: u64, data: &[u8]) {
        for (number, block) in (offset / BLOCK as u64..).zip(data.chunks_exact(BLOCK)) {
            let next = self.places.len();
            let place = *self.places.entry(number).or_insert(next);
            if self.memory.len() * PART <= place {
                self.memory.push(vec![0; (PART + 1) * BLOCK]);
            }
            let bytes = self.bytes(place..place + 1);
            self.memory[place / PART][bytes].copy_from_slice(block);
        }
    }

    /// Blocks of one part of memory.
    fn at(&self, places: Range<usize>) -> &[u8] {
        &self.memory[places.start / PART][self.bytes(places)]
    }

    fn bytes(&self, places: Range<usize>) -> Range<usize> {
        let first = self.memory[places.start / PART].as_ptr().align_offset(BLOCK);
        let start = first + places.start % PART * BLOCK;
        start..start + places.len() * BLOCK
    }

    /// One write for each run of blocks.
    fn hand_to(&self, file: &dyn File) -> io::Result<()> {
        let mut runs: Vec<(Range<u64>, Vec<Range<usize>>)> = Vec::new();
        for (&number, &place) in &self.places {
            let piece = place..place + 1;
            match runs.last_mut() {
                Some((run, pieces)) if run.end == number => {
                    run.end += 1;
                    match pieces.last_mut() {
                        Some(last) if last.end == place && !place.is_multiple_of(PART) => last.end += 1,
                        _ => pieces.push(piece),
                    }
                }
                _ => runs.push((number..number + 1, vec![piece])),
            }
        }
        for (run, pieces) in runs {
            let mut pieces: Vec<_> = pieces.into_iter().map(|piece| IoSlice::new(self.at(piece))).collect();
            file.write_once_at(run.start * BLOCK as u64, &mut pieces)?;
        }
        Ok(())
    }
}

/// Where a part of a file is in what begins at `start`.
#[expect(clippy::cast_possible_truncation, reason = "both are within one buffer")]
fn within(start: u64, part: Range<u64>) -> Range<usize> {
    (part.start - start) as usize..(part.end - start) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::{Disk, Open, RealDisk};

    fn file(len: u64) -> (tempfile::TempDir, Arc<dyn File>) {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk::open(dir.path()).unwrap().open("f", Open::New).unwrap();
        file.set_len(len).unwrap();
        (dir, file)
    }

    #[test]
    fn reads_see_what_is_staged_over_what_is_written() {
        let (_dir, file) = file(8 * BLOCK as u64);
        let stage = Stage::default();
        stage.write(&*file, BLOCK as u64, &[1; 2 * BLOCK]).unwrap();
        stage.write(&*file, 2 * BLOCK as u64, &[2; 3 * BLOCK]).unwrap();
        let expected = [0, 1, 2, 2, 2, 0, 0, 0].map(|byte| [byte; BLOCK]).concat();
        for _ in 0..2 {
            let mut all = vec![9; 8 * BLOCK];
            stage.read_at(&*file, 0, &mut all).unwrap();
            assert_eq!(all, expected);
            let mut part = vec![9; BLOCK];
            stage.read_at(&*file, 3 * BLOCK as u64 / 2, &mut part).unwrap();
            assert_eq!(part, expected[3 * BLOCK / 2..5 * BLOCK / 2]);
            stage.write_out(&*file).unwrap();
        }
        let mut all = vec![9; 8 * BLOCK];
        file.read_at(0, &mut all).unwrap();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_part_of_a_block_comes_after_what_is_staged() {
        let (_dir, file) = file(BLOCK as u64);
        let stage = Stage::default();
        stage.write(&*file, 0, &[1; BLOCK]).unwrap();
        stage.write(&*file, 10, &[2; 10]).unwrap();
        stage.write_out(&*file).unwrap();
        let mut found = vec![0; BLOCK];
        file.read_at(0, &mut found).unwrap();
        assert_eq!((found[9], found[10], found[19], found[20]), (1, 2, 2, 1));
    }

    #[test]
    fn what_does_not_fit_is_written_before() {
        let (_dir, file) = file(2 * STAGED_BYTES_MAX as u64);
        let stage = Stage::default();
        let half = vec![7; STAGED_BYTES_MAX / 2 + BLOCK];
        stage.write(&*file, 0, &half).unwrap();
        stage.write(&*file, STAGED_BYTES_MAX as u64, &half).unwrap();
        let mut found = vec![0; half.len()];
        file.read_at(0, &mut found).unwrap();
        assert!(found == half);
        stage.read_at(&*file, STAGED_BYTES_MAX as u64, &mut found).unwrap();
        assert!(found == half);
    }
}
