//! What a deployment must fit: the topics as they are, and the state that it takes over. Decided where the deploy is applied.
use alloc::{format, string::String};
use tidemill_protocol::manifest::{Bucket, Manifest};

use super::change::{Deploy, Refused};
use crate::{state::State, topic::is_internal};

/// Whether a module may be deployed as it says.
pub(super) fn check(state: &State, deploy: &Deploy) -> Result<(), Refused> {
    let manifest = &deploy.manifest;
    if let Some(topic) = manifest.writable_topics().find(|topic| is_internal(topic)) {
        return Err(Refused::Unfit(format!(
            "{topic:?} is the broker's own: a module may read it, but its outputs and dead letters need another topic"
        )));
    }
    let inputs = manifest.input.iter().map(|input| input.topic.as_str());
    let tables = manifest.tables.values().map(String::as_str);
    for topic in inputs.chain(manifest.writable_topics()).chain(tables) {
        if partitions(state, deploy, topic).is_none() {
            return Err(Refused::MissingTopic(topic.into()));
        }
    }
    check_inputs(state, deploy)?;
    let before = state.modules.get(manifest.name());
    before.map_or(Ok(()), |before| check_buckets(before.manifest(), manifest))
}

/// Task n has partition n of every input, so there must be as many of each.
fn check_inputs(state: &State, deploy: &Deploy) -> Result<(), Refused> {
    let count = |topic: &str| partitions(state, deploy, topic).unwrap_or(0);
    let Some((first, others)) = deploy.manifest.input.split_first() else {
        return Ok(());
    };
    let wanted = count(&first.topic);
    match others.iter().find(|input| count(&input.topic) != wanted) {
        None => Ok(()),
        Some(other) => Err(Refused::Unfit(format!(
            "the input topics must have the same number of partitions, because a task has one of each: {:?} has {wanted} and {:?} has {}",
            first.topic,
            other.topic,
            count(&other.topic)
        ))),
    }
}

/// Entries that expire are kept in another form than those that stay.
fn check_buckets(before: &Manifest, after: &Manifest) -> Result<(), Refused> {
    let clock = |bucket: &Bucket| bucket.ttl.map(|_| bucket.ttl_clock.unwrap_or_default());
    let expires = |manifest: &Manifest, name: &str| manifest.state.get(name).map(clock);
    let changed = |name: &&String| expires(before, name).is_some_and(|was| expires(after, name) != Some(was));
    match after.state.keys().find(changed) {
        None => Ok(()),
        Some(name) => Err(Refused::Unfit(format!(
            "state.{name}.ttl: a bucket that exists cannot be given a ttl, lose it or count it by another clock (the ttl itself may change): use a new bucket"
        ))),
    }
}

fn partitions(state: &State, deploy: &Deploy, topic: &str) -> Option<u32> {
    let existing = state.topics.get(topic).map(|topic| topic.partitions());
    existing.or_else(|| {
        deploy
            .topics
            .iter()
            .find(|new| new.name == topic)
            .map(|new| new.partitions)
    })
}
