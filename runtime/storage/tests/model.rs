//! Random histories with restarts against a naive reference.
#![allow(clippy::unwrap_used)]
mod common;

use common::{
    Chance,
    model::Model,
    node::{Node, small},
    toy::{Command, Toy},
};
use tidemill_storage::disk::{Loss, SimDisk};

#[test]
fn storage_agrees_with_a_naive_reference() {
    for seed in 0..common::seeds().map_or(12, |seeds| seeds * 20) {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let mut disk = SimDisk::new();
    let (mut history, mut model, mut toy) = (Vec::new(), Model::default(), Toy::default());
    let mut node = Node::open(&disk, &small(), &history).unwrap();
    for _ in 0..600 {
        match chance.below(60) {
            0 => {
                drop(node);
                node = Node::open(&disk, &small(), &history).unwrap();
            }
            1 => {
                // kill -9: everything that was written is there, nothing was closed.
                disk.record();
                disk = disk.trace().crash().disk(Loss::Nothing);
                node = Node::open(&disk, &small(), &history).unwrap();
            }
            2 => {
                node.close().unwrap();
                node = Node::open(&disk, &small(), &history).unwrap();
            }
            3..=8 => {
                node.settler.step().unwrap();
            }
            9..=30 => model.ask(&node.storage, &mut chance),
            _ => {
                let commands: Vec<_> = (0..1 + chance.below(3))
                    .map(|_| Command::random(&mut chance, 40_000))
                    .collect();
                for (index, command) in (history.len() as u64 + 1..).zip(&commands) {
                    model.apply(&toy.apply(index, command));
                }
                history.extend(commands.iter().cloned());
                node.commit(&commands).unwrap();
            }
        }
        assert_eq!(node.applied(), history.len() as u64, "seed {seed}");
        assert_eq!(node.toy, toy, "seed {seed}");
    }
    model.check(&node.storage);
}
