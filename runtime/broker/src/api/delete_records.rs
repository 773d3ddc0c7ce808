//! DeleteRecords: moves log starts up. Offset -1 means the high watermark.
use alloc::vec::Vec;
use tidemill_protocol::{
    api::delete_records::{
        DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
    },
    error_code::ErrorCode,
};

use super::Pending;
use crate::{
    context::{Context, Requester, Waiter},
    entry::{Command, Trim},
    state::State,
};

const HIGH_WATERMARK: i64 = -1;

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: DeleteRecordsRequest) {
    let mut response = DeleteRecordsResponse::default();
    let mut slots = Vec::new();
    let mut trims = Vec::new();
    for topic in request.topics {
        let mut results = Vec::new();
        for partition in topic.partitions {
            let mut result = DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: -1,
                ..DeleteRecordsPartitionResult::default()
            };
            match check(ctx.state, &topic.name, partition.partition_index, partition.offset) {
                Ok(trim) => {
                    slots.push((response.topics.len(), results.len()));
                    trims.push(trim);
                }
                Err(error) => result.error_code = error,
            }
            results.push(result);
        }
        response.topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions: results,
        });
    }
    if trims.is_empty() {
        return ctx.respond(from, response.into());
    }
    ctx.propose(
        Command::TrimLogs(trims),
        Waiter::Request(from, Pending::DeleteRecords(response, slots)),
    );
}

pub(super) fn finish(
    mut response: DeleteRecordsResponse,
    slots: &[(usize, usize)],
    results: &[Result<i64, ErrorCode>],
) -> DeleteRecordsResponse {
    for ((topic, partition), result) in slots.iter().zip(results) {
        let slot = &mut response.topics[*topic].partitions[*partition];
        match result {
            Ok(start) => slot.low_watermark = *start,
            Err(error) => slot.error_code = *error,
        }
    }
    response
}

fn check(state: &State, topic: &str, partition: i32, offset: i64) -> Result<Trim, ErrorCode> {
    let (id, log) = state
        .log(topic, partition)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if state.topics.get(topic).is_some_and(|topic| topic.is_internal()) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let start = if offset == HIGH_WATERMARK {
        log.high_watermark()
    } else {
        offset
    };
    if (0..=log.high_watermark()).contains(&start) {
        Ok(Trim { log: id, start })
    } else {
        Err(ErrorCode::OFFSET_OUT_OF_RANGE)
    }
}
