//! `task`: partition number p of every topic with the same subscribers goes to one member, balanced and sticky by numbers.
//!
//! A module's task is a number, and its state belongs to it: the partitions of a task must never be at two members, also when
//! the input topics have different partition counts, where `range` would part them.
use alloc::{collections::BTreeMap, vec, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::{Subscriber, balance, by_subscribers, current_owners};
use crate::group::Partitions;

pub(super) fn assign(members: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Partitions> {
    let owners = current_owners(members);
    let by_subscribers = by_subscribers(members, topics);
    let mut classes: Vec<balance::Class> = by_subscribers
        .iter()
        .map(|(subscribers, class_topics)| {
            let numbers = class_topics.iter().map(|topic| topics[topic]).max().unwrap_or(0);
            let owner = |number| {
                class_topics
                    .iter()
                    .find_map(|topic| owners.get(&(*topic, number)).copied())
            };
            balance::Class {
                members: subscribers.clone(),
                owners: (0..numbers).map(owner).collect(),
            }
        })
        .collect();
    balance::balance(&mut classes, members.len());
    let mut shares = vec![Partitions::new(); members.len()];
    for (class, class_topics) in classes.iter().zip(by_subscribers.values()) {
        for topic in class_topics {
            for (owner, number) in class.owners.iter().zip(0..topics[topic]) {
                if let Some(owner) = *owner {
                    shares[owner].entry(*topic).or_default().insert(number);
                }
            }
        }
    }
    shares
}
