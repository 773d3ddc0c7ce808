//! CreatePartitions: raises the number of a topic's partitions. Where the records of a key go may change with it.
use alloc::{format, vec::Vec};
use tidemill_protocol::{
    api::create_partitions::{
        CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
    },
    error_code::ErrorCode,
};

use super::{
    Pending,
    create_topics::{Refused, repeated, wrong_partitions},
};
use crate::{
    context::{Context, Requester, Waiter},
    entry::{Command, NewPartitions},
};

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: CreatePartitionsRequest) {
    let mut response = CreatePartitionsResponse::default();
    let mut slots = Vec::new();
    let mut new = Vec::new();
    let repeated = repeated(request.topics.iter().map(|topic| topic.name.as_str()));
    for topic in &request.topics {
        let mut result = CreatePartitionsTopicResult {
            name: topic.name.clone(),
            ..CreatePartitionsTopicResult::default()
        };
        let checked = if repeated.contains(topic.name.as_str()) {
            Err((ErrorCode::INVALID_REQUEST, "the topic is named twice".into()))
        } else {
            check(ctx, topic)
        };
        match checked {
            Ok(_) if request.validate_only => {}
            Ok(creation) => {
                slots.push(response.results.len());
                new.push(creation);
            }
            Err((code, message)) => (result.error_code, result.error_message) = (code, Some(message)),
        }
        response.results.push(result);
    }
    if new.is_empty() {
        return ctx.respond(from, response.into());
    }
    ctx.propose(
        Command::CreatePartitions(new),
        Waiter::Request(from, Pending::CreatePartitions(response, slots)),
    );
}

fn check(ctx: &Context<'_>, asked: &CreatePartitionsTopic) -> Result<NewPartitions, Refused> {
    let topic = ctx.state.topics.get(&asked.name).ok_or_else(|| {
        (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            format!("there is no topic '{}'", asked.name),
        )
    })?;
    if topic.is_internal() {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "the partitions of an internal topic are fixed".into(),
        ));
    }
    let present = topic.partitions();
    let count = u32::try_from(asked.count).unwrap_or(0);
    if count <= present {
        return Err((
            ErrorCode::INVALID_PARTITIONS,
            format!(
                "the topic has {present} partitions, which cannot become {}",
                asked.count
            ),
        ));
    }
    ctx.state
        .check_partitions(present, count)
        .map_err(|code| (code, wrong_partitions(count)))?;
    let Some(assignments) = &asked.assignments else {
        return Ok(NewPartitions { topic: topic.id, count });
    };
    let is_local = assignments
        .iter()
        .all(|assignment| assignment.broker_ids == [ctx.config.node_id]);
    let is_complete = assignments.is_empty() || assignments.len() == (count - present) as usize;
    if !is_local || !is_complete {
        return Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "each new partition goes to the only node".into(),
        ));
    }
    Ok(NewPartitions { topic: topic.id, count })
}
