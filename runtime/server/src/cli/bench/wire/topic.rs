//! Topics as the measurements need them: created, found, measured and deleted.
use tidemill_protocol::api::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidemill_protocol::api::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidemill_protocol::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use tidemill_protocol::api::metadata::{MetadataRequest, MetadataRequestTopic};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::ids::Uuid;

use super::super::Problem;
use super::Connection;

/// How often a topic is asked for that was created and is not there yet.
const ATTEMPTS: u32 = 100;

const TIMEOUT_MS: i32 = 60_000;

/// A topic and who leads its partitions.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(in crate::cli::bench) name: String,
    pub(in crate::cli::bench) id: Uuid,
    pub(in crate::cli::bench) partitions: Vec<Partition>,
}

/// One partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(in crate::cli::bench) index: i32,
    /// `host:port` of its leader.
    pub(in crate::cli::bench) leader: String,
}

/// Creates a topic. One that exists is refused: it would hold records that are not ours.
pub(in crate::cli::bench) async fn create_topic(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
) -> Result<(), Problem> {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    let response = connection.call(request).await?;
    for result in response.topics {
        check(result.error_code, &format!("creating topic {name}"))?;
    }
    Ok(())
}

/// Deletes a topic.
pub(in crate::cli::bench) async fn delete_topic(connection: &mut Connection, name: &str) -> Result<(), Problem> {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.to_owned()),
            ..Default::default()
        }],
        topic_names: vec![name.to_owned()],
        timeout_ms: TIMEOUT_MS,
    };
    let response = connection.call(request).await?;
    for result in response.responses {
        check(result.error_code, &format!("deleting topic {name}"))?;
    }
    Ok(())
}

/// Finds a topic with a leader for every partition; waits a little for one that was just created.
pub(in crate::cli::bench) async fn topic(connection: &mut Connection, name: &str) -> Result<Topic, Problem> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = look(connection, name).await? {
            return Ok(found);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(format!("topic {name} has no leader for every partition").into())
}

async fn look(connection: &mut Connection, name: &str) -> Result<Option<Topic>, Problem> {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let response = connection.call(request).await?;
    let address = |node: i32| {
        let broker = response.brokers.iter().find(|broker| broker.node_id == node)?;
        Some(format!("{}:{}", broker.host, broker.port))
    };
    let Some(topic) = response.topics.iter().find(|topic| topic.name.as_deref() == Some(name)) else {
        return Ok(None);
    };
    if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION || topic.partitions.is_empty() {
        return Ok(None);
    }
    check(topic.error_code, &format!("topic {name}"))?;
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let Some(leader) = address(partition.leader_id) else {
            return Ok(None);
        };
        partitions.push(Partition {
            index: partition.partition_index,
            leader,
        });
    }
    partitions.sort_by_key(|partition| partition.index);
    Ok(Some(Topic {
        name: name.to_owned(),
        id: topic.topic_id,
        partitions,
    }))
}

/// The offset behind the last record of each of these partitions, all of which the broker leads.
pub(in crate::cli::bench) async fn end_offsets(
    connection: &mut Connection,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<i64>, Problem> {
    const LATEST: i64 = -1;
    let wanted = partitions.iter().map(|index| ListOffsetsPartition {
        partition_index: *index,
        timestamp: LATEST,
        ..Default::default()
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: wanted.collect(),
        }],
        ..Default::default()
    };
    let response = connection.call(request).await?;
    let found: Vec<_> = response.topics.into_iter().flat_map(|topic| topic.partitions).collect();
    let mut ends = Vec::with_capacity(partitions.len());
    for index in partitions {
        let found = found.iter().find(|found| found.partition_index == *index);
        let found = found.ok_or_else(|| format!("{topic}-{index} has no end"))?;
        check(found.error_code, &format!("the end of {topic}-{index}"))?;
        ends.push(found.offset);
    }
    Ok(ends)
}

/// An error code as a sentence.
pub(in crate::cli::bench) fn check(code: ErrorCode, what: &str) -> Result<(), Problem> {
    if code.is_ok() {
        Ok(())
    } else {
        Err(format!("{what}: {code}").into())
    }
}
