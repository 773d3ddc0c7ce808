//! Offsets asked of brokers: the ends of partitions, positions by time, and what groups have committed.
//!
//! Used by consumers and by administration. Each function asks once; repeating is its caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_protocol::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use tidemill_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};

use crate::client::{AutoCreate, Inner};
use crate::error::{Error, Result, check};
use crate::net::broker::Broker;
use crate::record::TopicPartition;

/// A place in a partition, named by what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset that is still there.
    Earliest,
    /// The offset the next record gets: the high watermark.
    Latest,
    /// The first record whose timestamp is this many milliseconds since the epoch, or more.
    Timestamp(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetSpec {
    fn wire(self) -> i64 {
        match self {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(timestamp) => timestamp.max(0),
        }
    }
}

/// An offset with the timestamp of the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    /// The offset.
    pub offset: i64,
    /// Milliseconds since the epoch; `None` for the ends of a partition.
    pub timestamp: Option<i64>,
}

/// A committed position: the next offset to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch it was read under; -1 if not known.
    pub leader_epoch: i32,
    /// Whatever the committer wrote beside it.
    pub metadata: String,
}

impl From<i64> for Committed {
    fn from(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }
    }
}

/// Who commits or asks: a member of a group, or nobody in particular.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committer {
    pub(crate) group: String,
    /// Member id and epoch.
    pub(crate) member: Option<(String, i32)>,
    pub(crate) instance_id: Option<String>,
}

/// Offsets of partitions; `None` where nothing is at the place asked for. Fails as a whole if one fails.
pub(crate) async fn list(
    client: &Inner,
    wanted: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
    let mut by_leader: BTreeMap<String, (Arc<Broker>, BTreeMap<String, Vec<ListOffsetsPartition>>)> = BTreeMap::new();
    for (place, spec) in wanted {
        let topic = client.topic(&place.topic, AutoCreate::Denied).await?;
        let leader = client.leader(&topic, place.partition)?;
        let (_, topics) = by_leader
            .entry(leader.address.clone())
            .or_insert_with(|| (leader, BTreeMap::new()));
        let partition = ListOffsetsPartition {
            partition_index: place.partition,
            timestamp: spec.wire(),
            ..Default::default()
        };
        topics.entry(place.topic).or_default().push(partition);
    }
    let mut offsets = BTreeMap::new();
    for (leader, topics) in by_leader.into_values() {
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic { name, partitions });
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: topics.collect(),
            ..Default::default()
        };
        for topic in leader.call(request).await?.topics {
            for partition in topic.partitions {
                let place = TopicPartition::new(topic.name.clone(), partition.partition_index);
                if !partition.error_code.is_ok() {
                    client.forget_topic(&topic.name);
                }
                check(partition.error_code, None, || place.to_string())?;
                let found = OffsetAndTimestamp {
                    offset: partition.offset,
                    timestamp: Some(partition.timestamp).filter(|timestamp| 0 <= *timestamp),
                };
                offsets.insert(place, Some(found).filter(|found| 0 <= found.offset));
            }
        }
    }
    Ok(offsets)
}

/// What a group has committed, for the partitions given or for all. Partitions without a commit are left out.
pub(crate) async fn fetch(
    client: &Inner,
    committer: &Committer,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, Committed>> {
    let topics = partitions.map(by_topic);
    let old_form = |(name, partition_indexes)| OffsetFetchRequestTopic {
        name,
        partition_indexes,
    };
    let new_form = |(name, partition_indexes)| OffsetFetchRequestTopics {
        name,
        partition_indexes,
    };
    let request = OffsetFetchRequest {
        group_id: committer.group.clone(),
        topics: topics.clone().map(|topics| topics.into_iter().map(old_form).collect()),
        groups: vec![OffsetFetchRequestGroup {
            group_id: committer.group.clone(),
            member_id: committer.member.as_ref().map(|(id, _)| id.clone()),
            member_epoch: committer.member.as_ref().map_or(-1, |(_, epoch)| *epoch),
            topics: topics.map(|topics| topics.into_iter().map(new_form).collect()),
        }],
        require_stable: true,
    };
    let response = client.coordinator(&committer.group).await?.call(request).await?;
    let subject = || format!("group {}", committer.group);
    check(response.error_code, None, subject)?;
    let mut found = BTreeMap::new();
    let mut take = |place: TopicPartition, code, offset, leader_epoch, metadata: Option<String>| {
        check(code, None, || format!("group {}, {place}", committer.group))?;
        if 0 <= offset {
            found.insert(
                place,
                Committed {
                    offset,
                    leader_epoch,
                    metadata: metadata.unwrap_or_default(),
                },
            );
        }
        Ok::<(), Error>(())
    };
    for topic in response.topics {
        for p in topic.partitions {
            let place = TopicPartition::new(topic.name.clone(), p.partition_index);
            take(
                place,
                p.error_code,
                p.committed_offset,
                p.committed_leader_epoch,
                p.metadata,
            )?;
        }
    }
    for group in response.groups {
        check(group.error_code, None, subject)?;
        for topic in group.topics {
            for p in topic.partitions {
                let place = TopicPartition::new(topic.name.clone(), p.partition_index);
                take(
                    place,
                    p.error_code,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.metadata,
                )?;
            }
        }
    }
    Ok(found)
}

/// Commits positions. Fails if one of them is refused; the others may be committed.
pub(crate) async fn commit(
    client: &Inner,
    committer: &Committer,
    positions: &BTreeMap<TopicPartition, Committed>,
) -> Result<()> {
    if positions.is_empty() {
        return Ok(());
    }
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (place, committed) in positions {
        let partition = OffsetCommitRequestPartition {
            partition_index: place.partition,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            committed_metadata: Some(committed.metadata.clone()),
        };
        topics.entry(&place.topic).or_default().push(partition);
    }
    let topic = |(name, partitions): (&str, _)| OffsetCommitRequestTopic {
        name: name.to_owned(),
        partitions,
    };
    let (member_id, epoch) = committer.member.clone().unwrap_or_else(|| (String::new(), -1));
    let request = OffsetCommitRequest {
        group_id: committer.group.clone(),
        generation_id_or_member_epoch: epoch,
        member_id,
        group_instance_id: committer.instance_id.clone(),
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    };
    let response = client.coordinator(&committer.group).await?.call(request).await?;
    for topic in response.topics {
        for partition in topic.partitions {
            let place = || {
                format!(
                    "group {}, {}-{}",
                    committer.group, topic.name, partition.partition_index
                )
            };
            check(partition.error_code, None, place)?;
        }
    }
    Ok(())
}

/// Partition numbers by topic.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for place in partitions {
        topics.entry(place.topic.clone()).or_default().push(place.partition);
    }
    topics
}
