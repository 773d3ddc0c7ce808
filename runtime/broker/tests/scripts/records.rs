//! Commands of records and offsets, and how their responses print.
//!
//! `produce TOPIC/PARTITION VALUE... [key=K|null=1] [pid=N epoch=N seq=N] [acks=N] [time=MS] [damage=crc|count|magic|control|txn] [times=N]`: one batch.
//!   Several partitions are separated by `and`: `produce a/0 x and a/1 y`.
//! `fetch TOPIC/PARTITION@OFFSET... [wait=MS] [min=N] [max=N] [pmax=N] [version=N] [isolation=N] [epoch=N] [session=N] [id=old]`
//! `list-offsets TOPIC/PARTITION@TIMESTAMP...`, `leader-epoch TOPIC/PARTITION@EPOCH...`, `delete-records TOPIC/PARTITION@OFFSET...`
//! `commit GROUP TOPIC/PARTITION@OFFSET... [member=M] [generation=N] [metadata=TEXT] [leader=N]`
//! `offsets GROUP [TOPIC/PARTITION...] [version=N]`, `delete-offsets GROUP TOPIC/PARTITION...`
//! `init-producer [txn=ID]`
use std::error::Error;

use bytes::Bytes;
use goldenscript::Command;
use tidemill_protocol::{
    api::{
        Response,
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        fetch::{FetchPartition, FetchRequest, FetchTopic},
        init_producer_id::InitProducerIdRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
        },
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
    batch::{Builder, Producer, batches},
    error_code::ErrorCode,
    records::Records,
};

use crate::{Output, world::World};

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "produce" => produce,
        "fetch" => fetch,
        "list-offsets" => list_offsets,
        "leader-epoch" => leader_epoch,
        "delete-records" => delete_records,
        "commit" => commit,
        "offsets" => offsets,
        "delete-offsets" => delete_offsets,
        "init-producer" => init_producer,
        _ => return None,
    };
    Some(run(world, command).map(|()| String::new()))
}

type Done = Result<(), Box<dyn Error>>;

/// `a/0` as topic and partition.
pub fn place(text: &str) -> Result<(String, i32), Box<dyn Error>> {
    let (topic, partition) = text.rsplit_once('/').ok_or("TOPIC/PARTITION?")?;
    Ok((topic.into(), partition.parse()?))
}

/// `a/0@5` as topic, partition and number.
fn place_at(text: &str) -> Result<(String, i32, i64), Box<dyn Error>> {
    let (at, number) = text.split_once('@').ok_or("TOPIC/PARTITION@NUMBER?")?;
    let (topic, partition) = place(at)?;
    Ok((topic, partition, number.parse()?))
}

fn produce(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let key = args.take_key("key").unwrap_or("k").to_owned();
    let is_keyless = args.take_key("null").is_some();
    let damage = args.take_key("damage").unwrap_or_default().to_owned();
    let time = args.take_key("time").map_or(Ok(world.now), str::parse)?;
    let pid: i64 = args.take_key("pid").map_or(Ok(-1), str::parse)?;
    let epoch: i16 = args
        .take_key("epoch")
        .map_or(Ok(if pid < 0 { -1 } else { 0 }), str::parse)?;
    let sequence: i32 = args.take_key("seq").map_or(Ok(-1), str::parse)?;
    let acks = args.take_key("acks").map_or(Ok(-1), str::parse)?;
    let transactional_id = args.take_key("txn").map(str::to_owned);
    let times = args.take_key("times").map_or(Ok(1), str::parse)?;
    let mut words = Vec::new();
    while let Some(word) = args.next_pos() {
        words.push(word);
    }
    args.reject_next()?;
    let mut topic_data = Vec::new();
    for part in words.split(|word| *word == "and") {
        let (at, values) = part.split_first().ok_or("TOPIC/PARTITION?")?;
        let (name, index) = place(at)?;
        let mut builder = Builder::new();
        builder.producer(Producer {
            id: pid,
            epoch,
            base_sequence: sequence,
        });
        for value in values {
            let key = (!is_keyless).then_some(key.as_bytes());
            builder.append(time, key, Some(value.repeat(times).as_bytes()), []);
        }
        let mut batch = builder.finish().to_vec();
        match damage.as_str() {
            "count" => batch[60] += 1,
            "magic" => batch[16] = 1,
            "control" => batch[22] |= 0x20,
            "txn" => batch[22] |= 0x10,
            _ => {}
        }
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        match damage.as_str() {
            "crc" => batch[17] ^= 1,
            "cut" => drop(batch.pop()),
            "two" => batch.extend_from_within(..),
            _ => {}
        }
        let data = PartitionProduceData {
            index,
            records: Some(Records::from(Bytes::from(batch))),
        };
        topic_data.push(TopicProduceData {
            name,
            partition_data: vec![data],
        });
    }
    world.request(
        9,
        ProduceRequest {
            transactional_id,
            acks,
            timeout_ms: 1000,
            topic_data,
        },
    );
    if acks == 0 {
        world.forget_answer();
    }
    Ok(())
}

fn fetch(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let version = args.take_key("version").map_or(Ok(12), str::parse)?;
    let partition_max_bytes = args.take_key("pmax").map_or(Ok(1 << 20), str::parse)?;
    let current_leader_epoch = args.take_key("epoch").map_or(Ok(-1), str::parse)?;
    let mut request = FetchRequest {
        max_wait_ms: args.take_key("wait").map_or(Ok(0), str::parse)?,
        min_bytes: args.take_key("min").map_or(Ok(1), str::parse)?,
        max_bytes: args.take_key("max").map_or(Ok(1 << 20), str::parse)?,
        isolation_level: args.take_key("isolation").map_or(Ok(0), str::parse)?,
        session_id: args.take_key("session").map_or(Ok(0), str::parse)?,
        ..FetchRequest::default()
    };
    while let Some(at) = args.next_pos() {
        let (topic, partition, fetch_offset) = place_at(at)?;
        let topic_id = if 13 <= version {
            world.topic_id(&topic)
        } else {
            Default::default()
        };
        let topic = if 13 <= version { String::new() } else { topic };
        let partition = FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes,
            current_leader_epoch,
            ..Default::default()
        };
        request.topics.push(FetchTopic {
            topic,
            topic_id,
            partitions: vec![partition],
        });
    }
    args.reject_next()?;
    world.request(version, request);
    Ok(())
}

fn list_offsets(world: &mut World, command: &Command) -> Done {
    let mut request = ListOffsetsRequest {
        replica_id: -1,
        ..Default::default()
    };
    let mut args = command.consume_args();
    let current_leader_epoch = args.take_key("epoch").map_or(Ok(-1), str::parse)?;
    while let Some(at) = args.next_pos() {
        let (name, partition_index, timestamp) = place_at(at)?;
        let partition = ListOffsetsPartition {
            partition_index,
            timestamp,
            current_leader_epoch,
        };
        request.topics.push(ListOffsetsTopic {
            name,
            partitions: vec![partition],
        });
    }
    args.reject_next()?;
    world.request(7, request);
    Ok(())
}

fn leader_epoch(world: &mut World, command: &Command) -> Done {
    let mut request = OffsetForLeaderEpochRequest::default();
    let mut args = command.consume_args();
    while let Some(at) = args.next_pos() {
        let (topic, partition, epoch) = place_at(at)?;
        let leader_epoch = i32::try_from(epoch)?;
        let partition = OffsetForLeaderPartition {
            partition,
            leader_epoch,
            ..Default::default()
        };
        request.topics.push(OffsetForLeaderTopic {
            topic,
            partitions: vec![partition],
        });
    }
    args.reject_next()?;
    world.request(4, request);
    Ok(())
}

fn delete_records(world: &mut World, command: &Command) -> Done {
    let mut request = DeleteRecordsRequest::default();
    let mut args = command.consume_args();
    while let Some(at) = args.next_pos() {
        let (name, partition_index, offset) = place_at(at)?;
        let partition = DeleteRecordsPartition {
            partition_index,
            offset,
        };
        request.topics.push(DeleteRecordsTopic {
            name,
            partitions: vec![partition],
        });
    }
    args.reject_next()?;
    world.request(2, request);
    Ok(())
}

fn commit(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let mut request = OffsetCommitRequest {
        group_id: args.next_pos().ok_or("GROUP?")?.into(),
        generation_id_or_member_epoch: args.take_key("generation").map_or(Ok(-1), str::parse)?,
        member_id: crate::groups::member_id(args.take_key("member").unwrap_or("none")),
        ..OffsetCommitRequest::default()
    };
    let metadata = args.take_key("metadata").map(str::to_owned);
    let committed_leader_epoch = args.take_key("leader").map_or(Ok(-1), str::parse)?;
    while let Some(at) = args.next_pos() {
        let (name, partition_index, committed_offset) = place_at(at)?;
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch,
            committed_metadata: metadata.clone(),
        };
        request.topics.push(OffsetCommitRequestTopic {
            name,
            partitions: vec![partition],
        });
    }
    args.reject_next()?;
    world.request(9, request);
    Ok(())
}

fn offsets(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let version = args.take_key("version").map_or(Ok(9), str::parse)?;
    let group_id: String = args.next_pos().ok_or("GROUP?")?.into();
    let mut topics = Vec::new();
    while let Some(at) = args.next_pos() {
        let (name, partition) = place(at)?;
        topics.push(OffsetFetchRequestTopics {
            name,
            partition_indexes: vec![partition],
        });
    }
    args.reject_next()?;
    let topics = (!topics.is_empty()).then_some(topics);
    if version < 8 {
        let topics = topics.map(|topics| {
            let older = |topic: OffsetFetchRequestTopics| OffsetFetchRequestTopic {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
            };
            topics.into_iter().map(older).collect()
        });
        world.request(
            version,
            OffsetFetchRequest {
                group_id,
                topics,
                ..Default::default()
            },
        );
    } else {
        let groups = vec![OffsetFetchRequestGroup {
            group_id,
            topics,
            ..Default::default()
        }];
        world.request(
            version,
            OffsetFetchRequest {
                groups,
                ..Default::default()
            },
        );
    }
    Ok(())
}

fn delete_offsets(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let mut request = OffsetDeleteRequest {
        group_id: args.next_pos().ok_or("GROUP?")?.into(),
        ..Default::default()
    };
    while let Some(at) = args.next_pos() {
        let (name, partition_index) = place(at)?;
        let partitions = vec![OffsetDeleteRequestPartition { partition_index }];
        request.topics.push(OffsetDeleteRequestTopic { name, partitions });
    }
    args.reject_next()?;
    world.request(0, request);
    Ok(())
}

fn init_producer(world: &mut World, command: &Command) -> Done {
    let mut args = command.consume_args();
    let transactional_id = args.take_key("txn").map(str::to_owned);
    args.reject_next()?;
    world.request(
        4,
        InitProducerIdRequest {
            transactional_id,
            ..Default::default()
        },
    );
    Ok(())
}

pub fn show(response: &Response) -> Option<String> {
    let lines: Vec<String> = match response {
        Response::Produce(response) => {
            let topics = response
                .responses
                .iter()
                .flat_map(|topic| topic.partition_responses.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    let time = if part.log_append_time_ms == -1 {
                        String::new()
                    } else {
                        format!(" time={}", part.log_append_time_ms)
                    };
                    let message = part.error_message.as_deref().unwrap_or_default();
                    let result = outcome(part.error_code, format!("at {}{time}", part.base_offset));
                    format!("{}/{} {result} {message}", topic.name, part.index)
                        .trim_end()
                        .to_owned()
                })
                .collect()
        }
        Response::Fetch(response) if !response.error_code.is_ok() => vec![format!("fetch {:?}", response.error_code)],
        Response::Fetch(response) => {
            let topics = response
                .responses
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    let name = if topic.topic.is_empty() {
                        "(by id)"
                    } else {
                        &topic.topic
                    };
                    let records = part.records.as_ref().map(records).unwrap_or_default();
                    let aborted = if part.aborted_transactions.is_some() {
                        " aborted=[]"
                    } else {
                        ""
                    };
                    let ends = format!(
                        "[{}..{}]{aborted} {records}",
                        part.log_start_offset, part.high_watermark
                    );
                    format!("{name}/{} {}", part.partition_index, outcome(part.error_code, ends))
                        .trim_end()
                        .to_owned()
                })
                .collect()
        }
        Response::ListOffsets(response) => {
            let topics = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    let found = format!(
                        "offset={} time={} epoch={}",
                        part.offset, part.timestamp, part.leader_epoch
                    );
                    format!(
                        "{}/{} {}",
                        topic.name,
                        part.partition_index,
                        outcome(part.error_code, found)
                    )
                })
                .collect()
        }
        Response::OffsetForLeaderEpoch(response) => {
            let topics = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    let found = format!("epoch={} end={}", part.leader_epoch, part.end_offset);
                    format!("{}/{} {}", topic.topic, part.partition, outcome(part.error_code, found))
                })
                .collect()
        }
        Response::DeleteRecords(response) => {
            let topics = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    format!(
                        "{}/{} {}",
                        topic.name,
                        part.partition_index,
                        outcome(part.error_code, format!("start={}", part.low_watermark))
                    )
                })
                .collect()
        }
        Response::OffsetCommit(response) => {
            let topics = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    format!(
                        "{}/{} {}",
                        topic.name,
                        part.partition_index,
                        outcome(part.error_code, "committed".into())
                    )
                })
                .collect()
        }
        Response::OffsetFetch(response) => {
            let older = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |part| {
                    let metadata = part.metadata.as_deref().unwrap_or_default();
                    (
                        response.error_code,
                        &topic.name,
                        part.partition_index,
                        part.committed_offset,
                        part.committed_leader_epoch,
                        metadata,
                    )
                })
            });
            let newer = response.groups.iter().flat_map(|group| {
                group.topics.iter().flat_map(move |topic| {
                    topic.partitions.iter().map(move |part| {
                        let metadata = part.metadata.as_deref().unwrap_or_default();
                        (
                            group.error_code,
                            &topic.name,
                            part.partition_index,
                            part.committed_offset,
                            part.committed_leader_epoch,
                            metadata,
                        )
                    })
                })
            });
            let found: Vec<String> = older
                .chain(newer)
                .map(|(error, name, partition, offset, epoch, metadata)| {
                    format!(
                        "{name}/{partition} {}",
                        outcome(error, format!("at {offset} epoch={epoch} {metadata}"))
                    )
                    .trim_end()
                    .to_owned()
                })
                .collect();
            let error = response
                .groups
                .first()
                .map_or(response.error_code, |group| group.error_code);
            if found.is_empty() {
                vec![outcome(error, "no offsets".into())]
            } else {
                found
            }
        }
        Response::OffsetDelete(response) if !response.error_code.is_ok() => vec![format!("{:?}", response.error_code)],
        Response::OffsetDelete(response) => {
            let topics = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
            topics
                .map(|(topic, part)| {
                    format!(
                        "{}/{} {}",
                        topic.name,
                        part.partition_index,
                        outcome(part.error_code, "deleted".into())
                    )
                })
                .collect()
        }
        Response::InitProducerId(response) => {
            vec![outcome(
                response.error_code,
                format!("producer {} epoch {}", response.producer_id, response.producer_epoch),
            )]
        }
        _ => return None,
    };
    Some(lines.join("\n"))
}

/// An error's name, or what there is without one.
pub fn outcome(error: ErrorCode, fine: String) -> String {
    if error.is_ok() { fine } else { format!("{error:?}") }
}

/// Offsets and values of all records; what is not text prints as its length.
fn records(records: &Records) -> String {
    let mut shown = Vec::new();
    for batch in batches(records) {
        let payload = batch.unwrap().payload(usize::MAX).unwrap();
        for record in payload.records() {
            let record = record.unwrap();
            let value = record
                .value
                .map_or("null".into(), |value| match std::str::from_utf8(value) {
                    Ok(text) if !text.contains('\0') => text.to_owned(),
                    _ => format!("({} bytes)", value.len()),
                });
            shown.push(format!("{}:{value}", record.offset));
        }
    }
    shown.join(" ")
}
