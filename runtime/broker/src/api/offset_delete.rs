//! OffsetDelete: forgets committed offsets. As long as the group has members, everything that it
//! has committed counts as subscribed.
use alloc::vec::Vec;
use tidemill_protocol::{
    api::offset_delete::{
        OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
    },
    error_code::ErrorCode,
};

use super::Pending;
use crate::{
    context::{Context, Requester, Waiter},
    entry::{Command, DeleteOffsets},
};

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: OffsetDeleteRequest) {
    let group = ctx.state.groups.get(&request.group_id);
    if group.is_none() && ctx.state.offsets.of_group(&request.group_id).next().is_none() {
        let response = OffsetDeleteResponse {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            ..Default::default()
        };
        return ctx.respond(from, response.into());
    }
    let has_members = group.is_some_and(|group| group.body.members() != 0);
    let mut response = OffsetDeleteResponse::default();
    let mut partitions = Vec::new();
    for topic in request.topics {
        let known = ctx.state.topics.get(&topic.name);
        let results = topic.partitions.iter().map(|asked| {
            let log = known.and_then(|known| known.log(asked.partition_index).map(|_| known.id));
            let error_code = match log {
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                Some(_) if has_members => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                Some(id) => {
                    partitions.push((id, asked.partition_index));
                    ErrorCode::NONE
                }
            };
            OffsetDeleteResponsePartition {
                partition_index: asked.partition_index,
                error_code,
            }
        });
        response.topics.push(OffsetDeleteResponseTopic {
            partitions: results.collect(),
            name: topic.name,
        });
    }
    if partitions.is_empty() {
        return ctx.respond(from, response.into());
    }
    let delete = DeleteOffsets {
        group: request.group_id,
        partitions,
    };
    ctx.propose(
        Command::DeleteOffsets(delete),
        Waiter::Request(from, Pending::OffsetDelete(response)),
    );
}

pub(super) fn finish(mut response: OffsetDeleteResponse, outcome: Result<(), ErrorCode>) -> OffsetDeleteResponse {
    let Err(error) = outcome else { return response };
    response.error_code = error;
    response.topics.clear();
    response
}
