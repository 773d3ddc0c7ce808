//! What a disk may hold after the power fails in the middle of a recorded history.
use std::collections::{BTreeMap, BTreeSet};

use super::{Inode, Op, SimDisk, parent};

/// Sectors are written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What becomes of writes and names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are lost.
    All,
    /// None is lost: the process died, the machine did not.
    Nothing,
    /// Each write is kept, lost, cut short or torn by sectors; a directory keeps a prefix of its changes. Chosen by the seed.
    Some(u64),
}

/// A recorded history of a disk.
#[derive(Clone, Debug)]
pub struct Trace {
    names: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
    inodes: BTreeMap<u64, Inode>,
    ops: Vec<Op>,
}

impl Trace {
    pub(super) fn new(names: BTreeMap<String, u64>, dirs: BTreeSet<String>, inodes: BTreeMap<u64, Inode>) -> Self {
        Self {
            names,
            dirs,
            inodes,
            ops: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// What was done.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// A cursor before the first operation. What was on the disk when the record began counts as durable.
    #[must_use]
    pub fn crash(&self) -> Crash<'_> {
        let image = Image {
            names: self.names.clone(),
            inodes: self.inodes.clone(),
        };
        Crash {
            ops: &self.ops,
            at: 0,
            dirs: self.dirs.clone(),
            durable: image,
            writes: BTreeMap::new(),
            renames: Vec::new(),
        }
    }
}

/// A point in a recorded history, and what is durable there.
#[derive(Clone, Debug)]
pub struct Crash<'a> {
    ops: &'a [Op],
    at: usize,
    dirs: BTreeSet<String>,
    durable: Image,
    writes: BTreeMap<u64, Vec<&'a Op>>,
    renames: Vec<&'a Op>,
}

#[derive(Clone, Debug)]
struct Image {
    names: BTreeMap<String, u64>,
    inodes: BTreeMap<u64, Inode>,
}

impl<'a> Crash<'a> {
    /// Number of operations done.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on with what was done to [`Crash::disk`] of [`Loss::Nothing`]: the process died here and was started again, on the same machine. What it had not
    /// synced may still be lost when the power fails later.
    #[must_use]
    pub fn then(&self, more: &'a Trace) -> Self {
        Self {
            ops: &more.ops,
            at: 0,
            ..self.clone()
        }
    }

    /// Does one more operation; `None` at the end.
    pub fn step(&mut self) -> Option<&'a Op> {
        let op = self.ops.get(self.at)?;
        self.at += 1;
        match op {
            Op::Create(_, inode) => {
                self.durable.inodes.insert(*inode, Inode::default());
                self.renames.push(op);
            }
            Op::Rename(..) | Op::Remove(_) => self.renames.push(op),
            Op::Write(inode, ..) | Op::SetLen(inode, _) => self.writes.entry(*inode).or_default().push(op),
            Op::Sync(inode) => {
                for write in self.writes.remove(inode).unwrap_or_default() {
                    self.durable.write(write, &mut |_| Kept::Whole);
                }
            }
            Op::CreateDir(dir) => {
                self.dirs.insert(dir.clone());
            }
            Op::SyncDir(dir) => {
                let (synced, waiting) = self.renames.iter().copied().partition(|op| dir_of(op) == dir);
                self.renames = waiting;
                let synced: Vec<&Op> = synced;
                synced.into_iter().for_each(|op| self.durable.rename(op));
            }
        }
        Some(op)
    }

    /// The disk as it may be found after a crash here.
    #[must_use]
    pub fn disk(&self, loss: Loss) -> SimDisk {
        let mut image = self.durable.clone();
        let mut chance = Chance(match loss {
            Loss::Some(seed) => seed ^ (self.at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            _ => 0,
        });
        if loss != Loss::All {
            let kept = if loss == Loss::Nothing {
                self.renames.len()
            } else {
                chance.below(self.renames.len() + 1)
            };
            self.renames[..kept].iter().for_each(|op| image.rename(op));
            for write in self.writes.values().flatten() {
                image.write(write, &mut |sector| {
                    if loss == Loss::Nothing {
                        Kept::Whole
                    } else {
                        chance.kept(sector)
                    }
                });
            }
        }
        // Files without a name stay: they are small, and their numbers must not be given again.
        SimDisk::with(image.names, self.dirs.clone(), image.inodes)
    }
}

/// What is left of a write of so many sectors.
enum Kept {
    Whole,
    Nothing,
    /// The sectors at these places.
    Sectors(Vec<bool>),
}

impl Image {
    fn rename(&mut self, op: &Op) {
        match op {
            Op::Create(path, inode) => {
                self.names.insert(path.clone(), *inode);
            }
            Op::Remove(path) => {
                self.names.remove(path);
            }
            Op::Rename(from, to) => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                }
            }
            _ => unreachable!("only names are kept in this list"),
        }
    }

    fn write(&mut self, op: &Op, kept: &mut impl FnMut(usize) -> Kept) {
        match op {
            Op::SetLen(inode, len) => {
                if !matches!(kept(1), Kept::Nothing) {
                    self.inode(*inode)
                        .set_len(usize::try_from(*len).expect("files fit memory"));
                }
            }
            Op::Write(inode, offset, data) => {
                let at = usize::try_from(*offset).expect("files fit memory");
                let first = at / SECTOR_BYTES;
                let sectors = (at + data.len()).div_ceil(SECTOR_BYTES) - first;
                match kept(sectors) {
                    Kept::Whole => self.inode(*inode).write(at, data),
                    Kept::Nothing => {}
                    Kept::Sectors(kept) => {
                        for (sector, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
                            let from = ((first + sector) * SECTOR_BYTES).max(at);
                            let to = ((first + sector + 1) * SECTOR_BYTES).min(at + data.len());
                            self.inode(*inode).write(from, &data[from - at..to - at]);
                        }
                    }
                }
            }
            _ => unreachable!("only writes are kept in this list"),
        }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.entry(inode).or_default()
    }
}

fn dir_of(op: &Op) -> &str {
    match op {
        Op::Create(path, _) | Op::Remove(path) | Op::Rename(path, _) => parent(path),
        _ => unreachable!("only names have directories"),
    }
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn kept(&mut self, sectors: usize) -> Kept {
        match self.below(5) {
            0 | 1 => Kept::Whole,
            2 => Kept::Nothing,
            3 => {
                let cut = self.below(sectors + 1);
                Kept::Sectors((0..sectors).map(|sector| sector < cut).collect())
            }
            _ => Kept::Sectors((0..sectors).map(|_| self.below(2) == 0).collect()),
        }
    }
}
