//! `range`: consecutive partitions of each topic, members in order, as Kafka's RangeAssignor.
//!
//! Topics with the same subscribers and the same number of partitions are co-partitioned: equal numbers are at one member.
//! Not sticky, but static members come first in order of their instance ids, so that a restart shuffles nothing.
use alloc::{collections::BTreeMap, vec, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::{Subscriber, by_subscribers};
use crate::group::Partitions;

pub(super) fn assign(members: &[Subscriber<'_>], topics: &BTreeMap<Uuid, i32>) -> Vec<Partitions> {
    let mut shares = vec![Partitions::new(); members.len()];
    for (mut subscribers, class_topics) in by_subscribers(members, topics) {
        subscribers.sort_by_key(|&index| {
            (
                members[index].instance.is_none(),
                members[index].instance,
                members[index].id,
            )
        });
        for topic in class_topics {
            let mut partitions = 0..topics[&topic];
            let (quota, extra) = (
                partitions.len() / subscribers.len(),
                partitions.len() % subscribers.len(),
            );
            for (place, &member) in subscribers.iter().enumerate() {
                let share: Vec<i32> = partitions.by_ref().take(quota + usize::from(place < extra)).collect();
                if !share.is_empty() {
                    shares[member].insert(topic, share.into_iter().collect());
                }
            }
        }
    }
    shares
}
