//! What the client knows about brokers, topics and partitions, as last told by a broker.
//!
//! It is a cache: it may be old, and whoever finds out asks for it to be refreshed. Topics are known by name and by id;
//! a topic that was deleted and created again has a new id.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_protocol::api::metadata::{MetadataResponse, MetadataResponseTopic};
use tidemill_protocol::error_code::ErrorCode;
use tidemill_protocol::ids::TopicId;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::limits::PARTITIONS_MAX;

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Where it says it listens, TCP and QUIC alike.
    pub address: String,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Id, the same for the topic's life.
    pub id: TopicId,
    /// Whether the broker uses it for itself.
    pub is_internal: bool,
    /// Partitions, by number from 0.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// How many partitions.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number.
    pub partition: i32,
    /// Node that leads it, if any does.
    pub leader: Option<i32>,
    /// Epoch of the leader; -1 if not known.
    pub leader_epoch: i32,
    /// Nodes that hold it.
    pub replicas: Vec<i32>,
    /// Nodes that hold all of it.
    pub in_sync: Vec<i32>,
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: Option<i32>,
    pub(crate) nodes: BTreeMap<i32, Node>,
    topics: BTreeMap<String, Known>,
    names: BTreeMap<TopicId, String>,
}

#[derive(Debug)]
struct Known {
    topic: Arc<Topic>,
    since: Instant,
}

impl Cluster {
    /// Takes brokers and every topic without an error. Topics with one are returned with it.
    pub(crate) fn update(
        &mut self,
        response: MetadataResponse,
        now: Instant,
    ) -> Result<Vec<(MetadataResponseTopic, ErrorCode)>> {
        let nodes = response.brokers.into_iter().map(|broker| {
            let host = if broker.host.contains(':') {
                format!("[{}]", broker.host)
            } else {
                broker.host
            };
            (
                broker.node_id,
                Node {
                    id: broker.node_id,
                    address: format!("{host}:{}", broker.port),
                },
            )
        });
        self.nodes = nodes.collect();
        self.cluster_id = response.cluster_id;
        self.controller = Some(response.controller_id).filter(|id| 0 <= *id);
        let mut failed = Vec::new();
        for topic in response.topics {
            match topic.error_code {
                ErrorCode::NONE => self.learn(topic_of(topic)?, now),
                error => {
                    if let Some(name) = &topic.name {
                        self.forget(name);
                    }
                    failed.push((topic, error));
                }
            }
        }
        Ok(failed)
    }

    /// The topic, if it was told of at or after `oldest`.
    pub(crate) fn topic(&self, name: &str, oldest: Option<Instant>) -> Option<Arc<Topic>> {
        let known = self.topics.get(name)?;
        oldest
            .is_none_or(|oldest| oldest <= known.since)
            .then(|| known.topic.clone())
    }

    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topic(self.names.get(&id)?, None).filter(|topic| topic.id == id)
    }

    fn learn(&mut self, topic: Topic, now: Instant) {
        self.forget(&topic.name);
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(
            topic.name.clone(),
            Known {
                topic: Arc::new(topic),
                since: now,
            },
        );
    }

    /// Makes the next look at a topic ask a broker.
    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(known) = self.topics.remove(name) {
            self.names.remove(&known.topic.id);
        }
    }
}

/// Checks what a broker told of a topic: partitions are numbered from 0 without gaps.
pub(crate) fn topic_of(topic: MetadataResponseTopic) -> Result<Topic> {
    let name = topic.name.ok_or_else(|| Error::protocol("a topic without a name"))?;
    if PARTITIONS_MAX < topic.partitions.len() {
        return Err(Error::protocol(format_args!(
            "{name} has {} partitions",
            topic.partitions.len()
        )));
    }
    let partitions = topic.partitions.into_iter().map(|partition| Partition {
        partition: partition.partition_index,
        leader: Some(partition.leader_id).filter(|id| 0 <= *id),
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes,
        in_sync: partition.isr_nodes,
    });
    let mut partitions: Vec<Partition> = partitions.collect();
    partitions.sort_by_key(|partition| partition.partition);
    if partitions.is_empty()
        || partitions
            .iter()
            .zip(0..)
            .any(|(partition, number)| partition.partition != number)
    {
        return Err(Error::protocol(format_args!(
            "the partitions of {name} are not numbered from 0 without gaps"
        )));
    }
    Ok(Topic {
        name,
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
    })
}
