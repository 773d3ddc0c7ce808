//! Produce. Batches are checked here as far as their bytes tell, stay opaque, and are judged in order in `apply`.
//!
//! `acks` 1 and -1 are the same promise on one node: the answer comes when the batch is durable and applied. With `acks` 0 there is no answer
//! at all, neither good nor bad: the server must not wait for one.
//!
//! The batches of a request are one entry. What does not fit into it is answered with an error after which clients send just that again.
use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::{
    api::produce::{
        PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
    },
    error_code::ErrorCode,
};

use super::Pending;
use crate::{
    batch::{self, Accepted, Refused},
    config_keys::{MESSAGE_TIMESTAMP_AFTER_MAX_MS, MESSAGE_TIMESTAMP_BEFORE_MAX_MS},
    context::{Context, Requester, Waiter},
    effect::LogId,
    entry::{Command, Produce},
    limits::PRODUCE_BYTES_MAX,
    state::Appended,
    topic::Topic,
};

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: ProduceRequest) {
    let refused = refuse_whole(&request);
    let partitions = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
    let mut response = ProduceResponse {
        responses: Vec::with_capacity(request.topic_data.len()),
        ..ProduceResponse::default()
    };
    let (mut slots, mut parts) = (Vec::with_capacity(partitions), Vec::with_capacity(partitions));
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    for topic in request.topic_data {
        let known = ctx.state.topics.get(&topic.name);
        let mut results = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let mut result = PartitionProduceResponse {
                index: data.index,
                base_offset: -1,
                ..Default::default()
            };
            let checked = match refused {
                Some(refused) => Err(refused),
                None => check(ctx, known, data, &mut seen),
            };
            match checked {
                Ok(part) if PRODUCE_BYTES_MAX < part.batch.len() => {
                    let why = "the batch is larger than an entry of the log";
                    (result.error_code, result.error_message) = (ErrorCode::MESSAGE_TOO_LARGE, Some(why.into()));
                }
                Ok(part) if PRODUCE_BYTES_MAX < bytes + part.batch.len() && request.acks != 0 => {
                    let why = "the batches before it fill an entry of the log: send it again";
                    (result.error_code, result.error_message) = (ErrorCode::NOT_ENOUGH_REPLICAS, Some(why.into()));
                }
                Ok(part) => {
                    if PRODUCE_BYTES_MAX < bytes + part.batch.len() {
                        ctx.propose(Command::Produce(core::mem::take(&mut parts)), Waiter::Nobody);
                        bytes = 0;
                    }
                    bytes += part.batch.len();
                    slots.push((response.responses.len(), results.len()));
                    parts.push(part);
                }
                Err((code, message)) => {
                    (result.error_code, result.error_message) = (code, Some(message.to_string()));
                }
            }
            results.push(result);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name,
            partition_responses: results,
        });
    }
    let is_answered = request.acks != 0;
    if parts.is_empty() {
        if is_answered {
            ctx.respond(from, response.into());
        }
        return;
    }
    let waiter = if is_answered {
        Waiter::Request(from, Pending::Produce(response, slots))
    } else {
        Waiter::Nobody
    };
    ctx.propose(Command::Produce(parts), waiter);
}

pub(super) fn finish(
    mut response: ProduceResponse,
    slots: &[(usize, usize)],
    results: &[Result<Appended, ErrorCode>],
) -> ProduceResponse {
    for ((topic, partition), result) in slots.iter().zip(results) {
        let slot = &mut response.responses[*topic].partition_responses[*partition];
        match result {
            Ok(appended) => {
                slot.base_offset = appended.base_offset;
                slot.log_append_time_ms = appended.append_time;
                slot.log_start_offset = appended.log_start;
            }
            Err(error) => {
                slot.error_code = *error;
                slot.error_message = Some(String::from(error.sentence()));
            }
        }
    }
    response
}

/// What is wrong with the request as a whole.
fn refuse_whole(request: &ProduceRequest) -> Option<Refused> {
    if request.transactional_id.is_some() {
        return Some((ErrorCode::INVALID_TXN_STATE, "transactions are not supported"));
    }
    if !(-1..=1).contains(&request.acks) {
        return Some((ErrorCode::INVALID_REQUIRED_ACKS, "acks is 0, 1 or -1"));
    }
    None
}

fn check(
    ctx: &Context<'_>,
    topic: Option<&Topic>,
    data: PartitionProduceData,
    seen: &mut BTreeSet<LogId>,
) -> Result<Produce, Refused> {
    let topic = topic.ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"))?;
    let log = topic
        .log(data.index)
        .ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"))?;
    if !seen.insert(log) {
        return Err((ErrorCode::INVALID_REQUEST, "the partition is named twice"));
    }
    if topic.is_internal() {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "clients do not write to internal topics",
        ));
    }
    let settings = ctx.state.settings(topic);
    let records = data.records.ok_or((ErrorCode::INVALID_RECORD, "no records"))?;
    let accepted = batch::accept(records.to_bytes(), settings.batch_bytes_max())?;
    if settings.is_compacted() && !accepted.has_keys {
        return Err((
            ErrorCode::INVALID_RECORD,
            "every record of a compacted topic needs a key",
        ));
    }
    if !settings.is_append_time() {
        let before = settings.number(&MESSAGE_TIMESTAMP_BEFORE_MAX_MS);
        let after = settings.number(&MESSAGE_TIMESTAMP_AFTER_MAX_MS);
        check_time(&accepted, ctx.now.saturating_sub(before), ctx.now.saturating_add(after))?;
    }
    Ok(Produce {
        log,
        batch: accepted.batch.into_bytes(),
    })
}

/// Records may lie only so far from the broker's time. -1 is "no timestamp".
fn check_time(accepted: &Accepted, earliest: i64, latest: i64) -> Result<(), Refused> {
    let max_timestamp = accepted.batch.header().max_timestamp;
    if max_timestamp != -1 && (accepted.min_timestamp < earliest || latest < max_timestamp) {
        return Err((
            ErrorCode::INVALID_TIMESTAMP,
            "the timestamp is too far from the broker's time",
        ));
    }
    Ok(())
}
