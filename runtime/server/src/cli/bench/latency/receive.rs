//! The receiving end: reads all partitions from their end on, with long polls.
use tidemill_client::{ConsumerConfig, OffsetReset, TopicPartition};
use tidemill_protocol::batch::batches;

use super::super::Problem;
use super::super::consume::{Fetch, Place};
use super::super::crew::Seat;
use super::super::report::Latencies;
use super::super::target;
use super::{Counter, Plan};

/// Bytes to which one batch may be decompressed.
const BATCH_BYTES_MAX: usize = 256 << 20;

const PARTITION_BYTES: i32 = 1 << 20;

pub(super) async fn wire(seat: &Seat, plan: &Plan) -> Result<Latencies, Problem> {
    let leader = &plan.topic.partitions.first().ok_or("no partitions")?.leader;
    let connection = plan.dial.connect(leader).await?;
    let mut fetch = Fetch::new(connection, &plan.topic.name, plan.topic.id)?;
    // The topic is new, so its partitions begin and end at 0.
    let partitions = plan.topic.partitions.iter();
    let mut places: Vec<Place> = partitions.map(|partition| Place::from(partition.index, 0)).collect();
    let mut counter = Counter::new(plan);
    seat.start().await;
    while !counter.is_done() {
        fetch.ask(&places, PARTITION_BYTES, 1).await?;
        let fetched = fetch.answer(&mut places).await?;
        let now = plan.now();
        let before = counter.received;
        for records in fetched {
            for batch in batches(&records) {
                for record in batch?.payload(BATCH_BYTES_MAX)?.records() {
                    counter.count(record?.value.unwrap_or_default(), now)?;
                }
            }
        }
        seat.advance(counter.received - before);
    }
    Ok(counter.latencies)
}

pub(super) async fn sdk(seat: &Seat, plan: &Plan) -> Result<Latencies, Problem> {
    let client = target::sdk(&plan.quic, plan.dial.ca.as_deref()).await?;
    let mut consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit: None,
        ..ConsumerConfig::default()
    })?;
    let partitions = plan.topic.partitions.iter();
    let places = partitions.map(|partition| TopicPartition::new(plan.topic.name.clone(), partition.index));
    consumer.assign(places).await?;
    let mut counter = Counter::new(plan);
    seat.start().await;
    while !counter.is_done() {
        let batch = consumer.next().await?;
        let now = plan.now();
        for record in &batch.records {
            counter.count(record.value.as_deref().unwrap_or_default(), now)?;
        }
        seat.advance(batch.records.len() as u64);
    }
    Ok(counter.latencies)
}
