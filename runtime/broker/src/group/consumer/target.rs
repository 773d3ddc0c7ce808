//! From subscriptions to targets: which topics each member wants now, and how an assignor shares them.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use regex::bytes::{Regex, RegexBuilder};
use tidemill_protocol::ids::Uuid;

use super::{Group, Member};
use crate::{
    group::{
        Turn,
        assignor::{self, Subscriber},
        limits,
    },
    topic::{Topic, Topics},
};

/// Whether the targets must be computed whatever the topics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A member came, went or changed its subscription.
    Members,
    /// Topics may have changed.
    Topics,
}

/// A pattern of topic names, which must match the whole name. Matching takes time linear in the name, whatever the pattern; Unicode
/// classes are not known, because topic names are ASCII.
pub(super) fn pattern(regex: &str) -> Option<Regex> {
    if limits::REGEX_BYTES_MAX < regex.len() {
        return None;
    }
    let whole = alloc::format!("^(?:{regex})$");
    // The pattern alone must be valid too, or it could close the parenthesis.
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(limits::REGEX_SIZE_MAX)
            .build()
            .ok()
    };
    build(regex).and_then(|_| build(&whole))
}

impl Turn<'_, '_> {
    /// Brings epoch and targets up to date.
    pub(super) fn retarget(&mut self, cause: Cause) {
        let topics = &self.ctx.state.topics;
        let group = self.consumer();
        let wanted: Vec<BTreeSet<Uuid>> = subscriptions(group, topics);
        let all: BTreeSet<Uuid> = wanted.iter().flatten().copied().collect();
        let counts: BTreeMap<Uuid, i32> = all
            .into_iter()
            .filter_map(|id| Some((id, count(topics.get_by_id(&id)?))))
            .collect();
        if cause == Cause::Topics && counts == group.header.topics {
            return;
        }
        let assignor = assignor::elect(group.members.values().map(|member| member.assignor.as_ref()));
        let subscribers: Vec<Subscriber<'_>> = group
            .members
            .iter()
            .zip(wanted)
            .map(|((id, member), topics)| Subscriber {
                id,
                instance: member.instance.as_deref(),
                topics,
                current: &member.target,
            })
            .collect();
        let targets = assignor.assign(&subscribers, &counts);
        group.header.topics = counts;
        group.header.assignor = assignor.name().into();
        group.header.epoch = group.header.epoch.checked_add(1).unwrap_or(1);
        let mut changed = Vec::new();
        for ((id, member), target) in group.members.iter_mut().zip(targets) {
            if member.target != target {
                member.target = target;
                changed.push(id.clone());
            }
        }
        self.seat.touch();
        for id in changed {
            self.seat.touch_member(&id);
        }
    }
}

/// Topics that each member wants, in the order of the members. Names without a topic wait for one.
fn subscriptions(group: &Group, topics: &Topics) -> Vec<BTreeSet<Uuid>> {
    let mut matches: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for regex in group.members.values().filter_map(|member| member.regex.as_deref()) {
        matches.entry(regex).or_insert_with(|| {
            let Some(pattern) = pattern(regex) else {
                return Vec::new();
            };
            let matching = topics
                .iter()
                .filter(|topic| !topic.is_internal() && pattern.is_match(topic.name.as_bytes()));
            matching.map(|topic| topic.id).collect()
        });
    }
    let wanted = |member: &Member| {
        let by_name = member
            .topics
            .iter()
            .filter_map(|name| topics.get(name))
            .map(|topic| topic.id);
        let by_regex = member
            .regex
            .as_deref()
            .and_then(|regex| matches.get(regex))
            .into_iter()
            .flatten()
            .copied();
        by_name.chain(by_regex).collect()
    };
    group.members.values().map(wanted).collect()
}

fn count(topic: &Topic) -> i32 {
    i32::try_from(topic.partitions()).expect("partitions are bounded by TOPIC_PARTITIONS_MAX")
}
