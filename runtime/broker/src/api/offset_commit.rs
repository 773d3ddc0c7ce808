//! OffsetCommit. Whether the member may commit is decided in `apply`; only partitions that exist and metadata that fits are proposed.
use alloc::{collections::BTreeSet, vec::Vec};
use tidemill_protocol::{
    api::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
        OffsetCommitResponseTopic,
    },
    error_code::ErrorCode,
};

use super::Pending;
use crate::{
    context::{Context, Requester, Waiter},
    entry::{Command, CommitOffsets, CommittedOffset},
    limits::{GROUP_ID_BYTES_MAX, OFFSET_COMMIT_BYTES_MAX, OFFSET_METADATA_BYTES_MAX},
    topic::Topic,
};

/// Bytes of a record and a row beside names and metadata.
const RECORD_OVERHEAD: usize = 64;

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: OffsetCommitRequest) {
    let is_valid = !request.group_id.is_empty() && request.group_id.len() <= GROUP_ID_BYTES_MAX;
    let mut response = OffsetCommitResponse::default();
    let mut offsets = Vec::new();
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    for topic in request.topics {
        let known = ctx.state.topics.get(&topic.name);
        let mut results = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let partition_index = asked.partition_index;
            let checked = if is_valid {
                check(known, asked)
            } else {
                Err(ErrorCode::INVALID_GROUP_ID)
            };
            let error_code = match checked {
                Ok(offset) if !seen.insert((offset.topic, offset.partition)) => ErrorCode::INVALID_REQUEST,
                Ok(offset) => {
                    bytes += RECORD_OVERHEAD + request.group_id.len() + topic.name.len() + offset.metadata.len();
                    offsets.push(offset);
                    ErrorCode::NONE
                }
                Err(error) => error,
            };
            results.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
            });
        }
        response.topics.push(OffsetCommitResponseTopic {
            name: topic.name,
            partitions: results,
        });
    }
    // Every record of it names the group and the topic, and all of them are one batch.
    if OFFSET_COMMIT_BYTES_MAX < bytes {
        return ctx.respond(
            from,
            finish(response, Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)).into(),
        );
    }
    if offsets.is_empty() {
        return ctx.respond(from, response.into());
    }
    let commit = CommitOffsets {
        group: request.group_id,
        member: request.member_id,
        instance: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
        offsets,
    };
    ctx.propose(
        Command::CommitOffsets(commit),
        Waiter::Request(from, Pending::OffsetCommit(response)),
    );
}

pub(super) fn finish(mut response: OffsetCommitResponse, outcome: Result<(), ErrorCode>) -> OffsetCommitResponse {
    let Err(error) = outcome else { return response };
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code.is_ok() {
            partition.error_code = error;
        }
    }
    response
}

fn check(topic: Option<&Topic>, asked: OffsetCommitRequestPartition) -> Result<CommittedOffset, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    topic
        .log(asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let metadata = asked.committed_metadata.unwrap_or_default();
    if OFFSET_METADATA_BYTES_MAX < metadata.len() {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(CommittedOffset {
        topic: topic.id,
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata,
    })
}
