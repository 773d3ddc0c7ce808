//! Applying commits of offsets: a record each in `__consumer_offsets`, in Kafka's published format, and a row each, which is its view.
use alloc::{collections::BTreeMap, vec::Vec};
use tidemill_protocol::ids::Uuid;

use super::State;
use crate::{
    batch,
    effect::Changes,
    entry::{CommittedOffset, NewTopic, Stamp},
    limits::OFFSETS_PARTITIONS,
    offset::{Committed, partition_of_group},
    topic::{CONSUMER_OFFSETS, CONSUMER_OFFSETS_ID},
};

impl State {
    /// Commits offsets for a group, whose member has been checked, for `apply` only. Offsets of partitions that are gone are left out.
    pub(crate) fn commit_offsets(
        &mut self,
        changes: &mut Changes,
        at: Stamp,
        group: &str,
        offsets: &[CommittedOffset],
    ) {
        self.ensure_consumer_offsets(changes);
        let mut records = Vec::with_capacity(offsets.len());
        for commit in offsets {
            let Some(topic) = self.topics.get_by_id(&commit.topic) else {
                continue;
            };
            if topic.log(commit.partition).is_none() {
                continue;
            }
            records.push((
                record_key(group, &topic.name, commit.partition),
                Some(record_value(commit, at.time)),
            ));
            let committed = Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.clone(),
                time: at.time,
            };
            self.offsets
                .insert(changes, group, (commit.topic, commit.partition), committed);
        }
        self.append_commits(changes, at, group, &records);
    }

    /// Deletes committed offsets, for `apply` only: a tombstone each, and no row. What was not committed is left out.
    pub(crate) fn delete_offsets(&mut self, changes: &mut Changes, at: Stamp, group: &str, partitions: &[(Uuid, i32)]) {
        let mut records = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            if self.offsets.remove(changes, group, (*topic, *partition)).is_none() {
                continue;
            }
            if let Some(topic) = self.topics.get_by_id(topic) {
                records.push((record_key(group, &topic.name, *partition), None));
            }
        }
        self.append_commits(changes, at, group, &records);
    }

    fn append_commits(
        &mut self,
        changes: &mut Changes,
        at: Stamp,
        group: &str,
        records: &[(Vec<u8>, Option<Vec<u8>>)],
    ) {
        if records.is_empty() {
            return;
        }
        let (log, _) = self
            .log(CONSUMER_OFFSETS, partition_of_group(group))
            .expect("offsets were committed, so the topic is there");
        self.append(changes, at, log, batch::build(records, at.time));
    }

    /// The internal topic is there from the first commit on.
    fn ensure_consumer_offsets(&mut self, changes: &mut Changes) {
        if self.topics.get(CONSUMER_OFFSETS).is_some() {
            return;
        }
        let configs = BTreeMap::from([("cleanup.policy".into(), "compact".into())]);
        let new = NewTopic {
            name: CONSUMER_OFFSETS.into(),
            id: CONSUMER_OFFSETS_ID,
            partitions: OFFSETS_PARTITIONS,
            configs,
        };
        self.add_topic(changes, &new);
    }
}

/// `OffsetCommitKey` version 1.
fn record_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = Vec::with_capacity(group.len() + topic.len() + 10);
    key.extend_from_slice(&1i16.to_be_bytes());
    put_text(&mut key, group);
    put_text(&mut key, topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// `OffsetCommitValue` version 3.
fn record_value(commit: &CommittedOffset, time: i64) -> Vec<u8> {
    let mut value = Vec::with_capacity(commit.metadata.len() + 24);
    value.extend_from_slice(&3i16.to_be_bytes());
    value.extend_from_slice(&commit.offset.to_be_bytes());
    value.extend_from_slice(&commit.leader_epoch.to_be_bytes());
    put_text(&mut value, &commit.metadata);
    value.extend_from_slice(&time.to_be_bytes());
    value
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("names and metadata are bounded before they are proposed");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}
