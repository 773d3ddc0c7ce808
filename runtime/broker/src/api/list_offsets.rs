//! ListOffsets (by time, or the ends of a log) and OffsetForLeaderEpoch.
//!
//! On one node the last stable offset is the high watermark, so both isolation levels get the same answers.
use alloc::{collections::BTreeMap, vec::Vec};
use tidemill_protocol::{
    api::{
        list_offsets::{
            ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
            ListOffsetsTopicResponse,
        },
        offset_for_leader_epoch::{
            EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
            OffsetForLeaderTopicResult,
        },
    },
    error_code::ErrorCode,
};

use crate::{
    context::{Context, Reading, Requester},
    effect::{Found, LogId},
    state::State,
    topic::Log,
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Requests that wait for searches by time.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    waiting: BTreeMap<u64, List>,
    next: u64,
}

#[derive(Debug)]
struct List {
    from: Requester,
    response: ListOffsetsResponse,
    searches: usize,
}

/// Place of a search's answer: request, topic, partition, and whether it was for the largest timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    list: u64,
    topic: usize,
    partition: usize,
}

enum Answer {
    Known(ListOffsetsPartitionResponse),
    Search(LogId, i64),
}

impl Lists {
    pub(crate) fn handle(&mut self, ctx: &mut Context<'_>, from: Requester, request: &ListOffsetsRequest) {
        let list = self.next;
        let mut response = ListOffsetsResponse::default();
        let mut searches = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                match answer(ctx.state, &topic.name, asked) {
                    Ok(Answer::Known(known)) => partitions.push(known),
                    Ok(Answer::Search(log, timestamp)) => {
                        searches.push((
                            Slot {
                                list,
                                topic: response.topics.len(),
                                partition: partitions.len(),
                            },
                            log,
                            timestamp,
                        ));
                        partitions.push(blank(asked.partition_index));
                    }
                    Err(error_code) => {
                        partitions.push(ListOffsetsPartitionResponse {
                            error_code,
                            ..blank(asked.partition_index)
                        });
                    }
                }
            }
            response.topics.push(ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions,
            });
        }
        if searches.is_empty() {
            return ctx.respond(from, response.into());
        }
        self.next += 1;
        self.waiting.insert(
            list,
            List {
                from,
                response,
                searches: searches.len(),
            },
        );
        for (slot, log, timestamp) in searches {
            ctx.find_time(log, timestamp, Reading::Time(slot));
        }
    }

    pub(crate) fn handle_found(&mut self, ctx: &mut Context<'_>, slot: Slot, found: Option<Found>) {
        let Some(list) = self.waiting.get_mut(&slot.list) else {
            return;
        };
        let name = list.response.topics[slot.topic].name.clone();
        let place = &mut list.response.topics[slot.topic].partitions[slot.partition];
        let log = ctx.state.log(&name, place.partition_index);
        // What was found may have been trimmed meanwhile, and the topic may be gone.
        if let (Some(found), Some((_, log))) = (found, log) {
            place.offset = found.offset.max(log.start);
            place.timestamp = found.timestamp;
            place.leader_epoch = log.leader_epoch;
        }
        list.searches -= 1;
        if list.searches == 0 {
            let list = self.waiting.remove(&slot.list).expect("it was found above");
            ctx.respond(list.from, list.response.into());
        }
    }
}

fn blank(partition_index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        ..ListOffsetsPartitionResponse::default()
    }
}

fn answer(state: &State, topic: &str, asked: &ListOffsetsPartition) -> Result<Answer, ErrorCode> {
    let (id, log) = state
        .log(topic, asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    check_epoch(log, asked.current_leader_epoch)?;
    let at = |offset| {
        Answer::Known(ListOffsetsPartitionResponse {
            offset,
            leader_epoch: log.leader_epoch,
            ..blank(asked.partition_index)
        })
    };
    match asked.timestamp {
        LATEST => Ok(at(log.high_watermark())),
        EARLIEST | EARLIEST_LOCAL => Ok(at(log.start)),
        LATEST_TIERED => Ok(Answer::Known(blank(asked.partition_index))),
        MAX_TIMESTAMP if log.start == log.end => Ok(Answer::Known(blank(asked.partition_index))),
        MAX_TIMESTAMP => Ok(Answer::Search(id, log.max_timestamp)),
        timestamp if 0 <= timestamp => Ok(Answer::Search(id, timestamp)),
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

/// Whether the client knows the leader's epoch, where it says which one it knows.
pub(crate) fn check_epoch(log: &Log, current: i32) -> Result<(), ErrorCode> {
    if current == -1 || current == log.leader_epoch {
        Ok(())
    } else if current < log.leader_epoch {
        Err(ErrorCode::FENCED_LEADER_EPOCH)
    } else {
        Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
    }
}

/// Where an epoch ended: there is one epoch, and it ends where the log does.
pub(crate) fn for_leader_epoch(state: &State, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| epoch_end(state, &topic.topic, asked))
            .collect(),
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn epoch_end(state: &State, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let blank = EpochEndOffset {
        partition: asked.partition,
        ..EpochEndOffset::default()
    };
    let Some((_, log)) = state.log(topic, asked.partition) else {
        return EpochEndOffset {
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..blank
        };
    };
    match check_epoch(log, asked.current_leader_epoch) {
        Err(error_code) => EpochEndOffset { error_code, ..blank },
        Ok(()) if asked.leader_epoch == log.leader_epoch => EpochEndOffset {
            leader_epoch: log.leader_epoch,
            end_offset: log.high_watermark(),
            ..blank
        },
        Ok(()) => blank,
    }
}
