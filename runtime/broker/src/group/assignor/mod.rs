//! Server-side assignors: who should read what, decided here and not by a client.
//!
//! Guaranteed by all of them, for any members and topics: every partition of a subscribed topic has exactly one owner, the owner
//! subscribes to the topic, and the same input gives the same output. They do not know epochs or what members own at the moment:
//! a target is a wish, and reconciliation brings members to it without two owners at any time.
mod balance;
mod range;
mod task;
mod uniform;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use tidemill_protocol::ids::Uuid;

use super::Partitions;

/// A way to share partitions among members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Balanced within one partition, and sticky: as little moves as balance allows.
    Uniform,
    /// Consecutive partitions of each topic, members in order of their names: equal numbers meet at one member where counts are equal.
    Range,
    /// Partition number p of every topic goes to one member, balanced and sticky by numbers. For modules, whose tasks are numbers.
    Task,
}

impl Assignor {
    /// Assignors that a client may name.
    pub const PUBLIC: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
            Assignor::Task => "task",
        }
    }

    /// The assignor of that name.
    pub fn parse(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range, Assignor::Task]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Shares `topics` (partition counts by id) among `members`; one share for each member, in their order.
    pub fn assign(self, members: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(members, topics),
            Assignor::Range => range::assign(members, topics),
            Assignor::Task => task::assign(members, topics),
        }
    }
}

/// A member as an assignor sees it.
#[derive(Clone, Debug)]
pub struct Subscriber<'a> {
    /// Member id.
    pub id: &'a str,
    /// Instance id of a static member.
    pub instance: Option<&'a str>,
    /// Topics wanted.
    pub topics: BTreeSet<Uuid>,
    /// Its last target: what it should keep where that costs no balance.
    pub current: &'a Partitions,
}

/// Topics with the same subscribers, by those subscribers (indices into the members).
fn by_subscribers(members: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> BTreeMap<Vec<usize>, Vec<Uuid>> {
    let mut classes: BTreeMap<Vec<usize>, Vec<Uuid>> = BTreeMap::new();
    for &topic in topics.keys() {
        let subscribers: Vec<usize> = (0..members.len())
            .filter(|&member| members[member].topics.contains(&topic))
            .collect();
        if !subscribers.is_empty() {
            classes.entry(subscribers).or_default().push(topic);
        }
    }
    classes
}

/// Member that has a partition in its last target.
fn current_owners(members: &[Subscriber<'_>]) -> BTreeMap<(Uuid, i32), usize> {
    let mut owners = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for (&topic, partitions) in member.current {
            for &partition in partitions {
                owners.entry((topic, partition)).or_insert(index);
            }
        }
    }
    owners
}

/// Assignor with the most votes; members that name none do not vote, and a module's need for whole tasks goes before everything.
pub fn elect<'a>(votes: impl Iterator<Item = Option<&'a String>>) -> Assignor {
    let mut counts: BTreeMap<Assignor, usize> = BTreeMap::new();
    for assignor in votes.flatten().filter_map(|name| Assignor::parse(name)) {
        *counts.entry(assignor).or_default() += 1;
    }
    if counts.contains_key(&Assignor::Task) {
        return Assignor::Task;
    }
    let uniform = counts.get(&Assignor::Uniform).copied().unwrap_or(0);
    if uniform < counts.get(&Assignor::Range).copied().unwrap_or(0) {
        Assignor::Range
    } else {
        Assignor::Uniform
    }
}

#[cfg(test)]
mod tests;
