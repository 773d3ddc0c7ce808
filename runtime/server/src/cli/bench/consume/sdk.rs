//! A consumer of our SDK: partitions by hand, batches of records as an application gets them.
use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_client::{ConsumerConfig, OffsetReset, TopicPartition};

use super::super::Problem;
use super::super::crew::Seat;
use super::super::target;
use super::{Consumed, Reading};

/// One consumer with a client of its own.
pub(super) async fn run(seat: Seat, reading: Arc<Reading>) -> Result<Consumed, Problem> {
    let client = target::sdk(&reading.quic, reading.dial.ca.as_deref()).await?;
    let mut consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        partition_fetch_bytes_max: reading.fetch_bytes,
        poll_records_max: 10_000,
        ..ConsumerConfig::default()
    })?;
    let place = |index| TopicPartition::new(reading.topic.name.clone(), index);
    let share = reading.share(seat.number);
    let mut open: BTreeMap<i32, i64> = share.into_iter().filter(|(_, end)| 0 < *end).collect();
    seat.start().await;
    // Fetching begins with the assignment, so it belongs to what is measured.
    consumer.assign(open.keys().map(|index| place(*index))).await?;
    let mut consumed = Consumed { records: 0, bytes: 0 };
    while !open.is_empty() {
        let batch = consumer.next().await?;
        let count = batch.records.len() as u64;
        consumed.records += count;
        consumed.bytes += batch
            .records
            .iter()
            .map(|record| record.value.as_ref().map_or(0, |value| value.len() as u64))
            .sum::<u64>();
        seat.advance(count);
        let index = batch.partition.partition;
        let next = batch.records.last().map_or(0, |record| record.offset + 1);
        if open.get(&index).is_some_and(|end| *end <= next) {
            open.remove(&index);
        }
    }
    drop(consumer);
    client.close().await;
    Ok(consumed)
}
