//! `uniform`: every partition on its own, balanced within one, as sticky as balance allows.
//!
//! With equal subscriptions all loads differ by at most one. With different ones no single move would improve the balance.
use alloc::{collections::BTreeMap, vec, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::{Subscriber, balance, by_subscribers, current_owners};
use crate::group::Partitions;

pub(super) fn assign(members: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Partitions> {
    let owners = current_owners(members);
    let mut units = Vec::new();
    let mut classes = Vec::new();
    for (subscribers, class_topics) in by_subscribers(members, topics) {
        let class: Vec<(Uuid, i32)> = class_topics
            .iter()
            .flat_map(|topic| (0..topics[topic]).map(|partition| (*topic, partition)))
            .collect();
        classes.push(balance::Class {
            members: subscribers,
            owners: class.iter().map(|unit| owners.get(unit).copied()).collect(),
        });
        units.push(class);
    }
    balance::balance(&mut classes, members.len());
    let mut shares = vec![Partitions::new(); members.len()];
    for (class, units) in classes.iter().zip(units) {
        for (owner, (topic, partition)) in class.owners.iter().zip(units) {
            if let Some(owner) = *owner {
                shares[owner].entry(topic).or_default().insert(partition);
            }
        }
    }
    shares
}
