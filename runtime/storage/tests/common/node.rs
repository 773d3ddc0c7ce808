//! A node without threads: journal, storage and settling, driven by hand.
use std::sync::Arc;

use tidemill_storage::{
    Error, Journal, Options, Settler, Storage,
    disk::{Disk, SimDisk},
};

use super::{
    model::Model,
    toy::{Command, Toy},
};

pub struct Node {
    pub storage: Storage,
    pub journal: Journal,
    pub settler: Settler,
    pub toy: Toy,
}

/// Small files, so that a short history has every boundary.
pub fn small() -> Options {
    Options {
        seed: 7,
        journal_file_bytes: 16 << 10,
        segment_bytes: 12 << 10,
        transaction_bytes: 16 << 10,
        cached_bytes_max: 4 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

impl Node {
    /// Opens the disk and replays. `history` is every command that was ever handed in: the replay must find a prefix of it.
    pub fn open(disk: &SimDisk, options: &Options, history: &[Command]) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let opened = Storage::open(disk, options)?;
        let mut toy = Toy::load(&opened.rows);
        for (at, (index, entry)) in (opened.applied + 1..).zip(opened.entries) {
            assert_eq!(at, index, "entries are dense");
            let command = history.get(index as usize - 1).expect("no phantom entry");
            assert_eq!(
                entry,
                command.encode(index).concat(),
                "entry {index} is what was written"
            );
            opened.storage.publish(toy.apply(index, command))?;
        }
        Ok(Self {
            storage: opened.storage,
            journal: opened.journal,
            settler: opened.settler,
            toy,
        })
    }

    pub fn commit(&mut self, commands: &[Command]) -> Result<(), Error> {
        let first = self.journal.next_index();
        let entries: Vec<_> = (first..)
            .zip(commands)
            .map(|(index, command)| command.encode(index))
            .collect();
        self.journal.append(&entries)?;
        for (index, command) in (first..).zip(commands) {
            self.storage.publish(self.toy.apply(index, command))?;
        }
        Ok(())
    }

    pub fn close(self) -> Result<(), Error> {
        let Self {
            storage,
            journal,
            settler,
            ..
        } = self;
        drop((storage, journal));
        settler.close()
    }

    pub fn applied(&self) -> u64 {
        self.storage.applied()
    }
}

/// The reference after a prefix of a history.
pub fn fold(history: &[Command], applied: u64) -> (Toy, Model) {
    let (mut toy, mut model) = (Toy::default(), Model::default());
    for (index, command) in (1..=applied).zip(history) {
        model.apply(&toy.apply(index, command));
    }
    (toy, model)
}
