//! Offsets of partitions, and the deletion of records below one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_protocol::api::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};

use super::Admin;
use crate::client::AutoCreate;
use crate::error::{Result, check};
use crate::net::broker::Broker;
use crate::offsets::{self, OffsetAndTimestamp, OffsetSpec};
use crate::record::TopicPartition;

impl Admin {
    /// Offsets of partitions, each by its own wish; `None` where nothing is at the place asked for.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        let wanted = || wanted.iter().map(|(place, spec)| (place.clone(), *spec));
        self.client.retry(|| offsets::list(&self.client, wanted())).await
    }

    /// Moves the start of partitions up: records below the offset are gone. With `None`, all that are there now. Gives
    /// the new start of each.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        /// Kafka's way to say "up to the high watermark".
        const HIGH_WATERMARK: i64 = -1;
        let mut by_leader: BTreeMap<String, (Arc<Broker>, BTreeMap<String, Vec<DeleteRecordsPartition>>)> =
            BTreeMap::new();
        for (place, offset) in before {
            let topic = self.client.topic(&place.topic, AutoCreate::Denied).await?;
            let leader = self.client.leader(&topic, place.partition)?;
            let (_, topics) = by_leader
                .entry(leader.address.clone())
                .or_insert_with(|| (leader, BTreeMap::new()));
            let offset = offset.unwrap_or(HIGH_WATERMARK);
            let partition = DeleteRecordsPartition {
                partition_index: place.partition,
                offset,
            };
            topics.entry(place.topic.clone()).or_default().push(partition);
        }
        let mut starts = BTreeMap::new();
        for (leader, topics) in by_leader.into_values() {
            let topics = topics
                .into_iter()
                .map(|(name, partitions)| DeleteRecordsTopic { name, partitions });
            let request = DeleteRecordsRequest {
                topics: topics.collect(),
                timeout_ms: self.timeout_ms(),
            };
            for topic in leader.call(request).await?.topics {
                for partition in topic.partitions {
                    let place = TopicPartition::new(topic.name.clone(), partition.partition_index);
                    check(partition.error_code, None, || place.to_string())?;
                    starts.insert(place, partition.low_watermark);
                }
            }
        }
        Ok(starts)
    }
}
