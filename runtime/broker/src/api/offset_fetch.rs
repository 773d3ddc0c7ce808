//! OffsetFetch: a group's committed offsets, with metadata and leader epoch as they were sent.
//!
//! Answered from the applied state, so there is never anything unstable: `require_stable` changes nothing without transactions.
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use tidemill_protocol::{
    api::offset_fetch::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
    error_code::ErrorCode,
};

use crate::{offset::Committed, state::State};

/// Version from which several groups are asked for at once.
const GROUPS: i16 = 8;

pub(crate) fn handle(state: &State, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if GROUPS <= version {
        let groups = request.groups.into_iter().map(|group| answer(state, group)).collect();
        return OffsetFetchResponse {
            groups,
            ..OffsetFetchResponse::default()
        };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
            })
            .collect()
    });
    let group = answer(
        state,
        OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics,
            ..Default::default()
        },
    );
    OffsetFetchResponse {
        topics: group.topics.into_iter().map(older_topic).collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}

fn answer(state: &State, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let blank = OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        ..OffsetFetchResponseGroup::default()
    };
    if let Err(error_code) = check_member(state, &group) {
        return OffsetFetchResponseGroup { error_code, ..blank };
    }
    let topics = match group.topics {
        Some(topics) => topics
            .into_iter()
            .map(|topic| asked_topic(state, &group.group_id, topic))
            .collect(),
        None => all_topics(state, &group.group_id),
    };
    OffsetFetchResponseGroup { topics, ..blank }
}

/// A KIP-848 member says who it is; a stale one must not start from offsets that another already moved.
fn check_member(state: &State, group: &OffsetFetchRequestGroup) -> Result<(), ErrorCode> {
    let Some(member) = group.member_id.as_deref().filter(|member| !member.is_empty()) else {
        return Ok(());
    };
    if group.member_epoch < 0 {
        return Ok(());
    }
    match state
        .groups
        .check_commit(&group.group_id, member, None, group.member_epoch)
    {
        Err(ErrorCode::REBALANCE_IN_PROGRESS) => Ok(()),
        checked => checked,
    }
}

fn asked_topic(state: &State, group: &str, asked: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let topic = state.topics.get(&asked.name);
    let partitions = asked.partition_indexes.iter().map(|partition| {
        let committed = topic.and_then(|topic| state.offsets.get(group, &topic.id, *partition));
        committed_partition(*partition, committed)
    });
    OffsetFetchResponseTopics {
        partitions: partitions.collect(),
        name: asked.name,
    }
}

fn all_topics(state: &State, group: &str) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<String, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for ((topic, partition), committed) in state.offsets.of_group(group) {
        if let Some(topic) = state.topics.get_by_id(topic) {
            topics
                .entry(topic.name.clone())
                .or_default()
                .push(committed_partition(*partition, Some(committed)));
        }
    }
    topics
        .into_iter()
        .map(|(name, partitions)| OffsetFetchResponseTopics { name, partitions })
        .collect()
}

fn committed_partition(partition_index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    match committed {
        Some(committed) => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(committed.metadata.clone()),
            ..OffsetFetchResponsePartitions::default()
        },
        None => OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            ..OffsetFetchResponsePartitions::default()
        },
    }
}

fn older_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
        });
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: partitions.collect(),
    }
}
