//! A producer on the bare protocol: makes a batch, writes it, has a number of them on their way.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tidemill_protocol::api::init_producer_id::InitProducerIdRequest;
use tidemill_protocol::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidemill_protocol::batch::{Builder, Producer, add_sequence};
use tidemill_protocol::records::Records;

use super::super::Problem;
use super::super::crew::Seat;
use super::super::payload::{Keys, Payload};
use super::super::report::{Latencies, latencies};
use super::super::wire::{Connection, check};
use super::{Plan, Produced};
use crate::clock;

/// One producer, with a connection to every leader.
pub(in crate::cli::bench) async fn run(seat: Seat, plan: Arc<Plan>) -> Result<Produced, Problem> {
    let mut lanes = lanes(&plan, &seat).await?;
    try_join_all(lanes.iter_mut().map(|lane| lane.run(plan.warmup, u64::MAX))).await?;
    for lane in &mut lanes {
        lane.latencies.reset();
    }
    seat.start().await;
    let share = plan.records_max.div_ceil(lanes.len() as u64);
    let records = try_join_all(lanes.iter_mut().map(|lane| lane.run(plan.time, share))).await?;
    let mut all = latencies();
    for lane in &lanes {
        all.add(&lane.latencies)?;
    }
    Ok(Produced {
        records: records.into_iter().sum(),
        latencies: all,
    })
}

/// The partitions of one leader.
struct Lane {
    connection: Connection,
    plan: Arc<Plan>,
    seat: Seat,
    partitions: Vec<Partition>,
    next: usize,
    payload: Payload,
    latencies: Latencies,
}

struct Partition {
    index: i32,
    identity: Producer,
    keys: Keys,
}

async fn lanes(plan: &Arc<Plan>, seat: &Seat) -> Result<Vec<Lane>, Problem> {
    let mut leaders: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in &plan.topic.partitions {
        leaders.entry(&partition.leader).or_default().push(partition.index);
    }
    let mut lanes = Vec::new();
    for (address, partitions) in leaders {
        let mut connection = plan.dial.connect(address).await?;
        let identity = match plan.load.is_idempotent() {
            true => identity(&mut connection).await?,
            false => Producer::NONE,
        };
        let (seed, count) = (seat.number as u64, plan.topic.partitions.len());
        let partition = |index| Partition {
            index,
            identity,
            keys: Keys::new(plan.load.keys, seed).of_partition(index, count),
        };
        // One that no key belongs to gets nothing.
        let is_used = |partition: &Partition| plan.load.keys == 0 || !partition.keys.is_empty();
        let partitions: Vec<_> = partitions.into_iter().map(partition).filter(is_used).collect();
        if partitions.is_empty() {
            continue;
        }
        // Producers begin with different partitions.
        let next = seat.number % partitions.len();
        lanes.push(Lane {
            connection,
            plan: plan.clone(),
            seat: seat.clone(),
            partitions,
            next,
            payload: Payload::new(plan.load.record_bytes.bytes(), seed),
            latencies: latencies(),
        });
    }
    Ok(lanes)
}

async fn identity(connection: &mut Connection) -> Result<Producer, Problem> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let response = connection.call(request).await?;
    check(response.error_code, "a producer id (--no-idempotence does without)")?;
    Ok(Producer {
        id: response.producer_id,
        epoch: response.producer_epoch,
        base_sequence: 0,
    })
}

/// A batch on its way.
struct Flight {
    begun: Instant,
    records: u64,
}

impl Lane {
    /// Sends for a while, then waits for every answer. The records that are acknowledged.
    async fn run(&mut self, time: Duration, records_max: u64) -> Result<u64, Problem> {
        let deadline = clock::instant() + time;
        let (mut sent, mut stored) = (0, 0);
        let mut flights = VecDeque::new();
        loop {
            while flights.len() < self.plan.load.wire_in_flight() && sent < records_max {
                let begun = clock::instant();
                if deadline <= begun {
                    break;
                }
                let records = self.send().await?;
                sent += records;
                if self.plan.load.wire_acks() == 0 {
                    stored += records;
                    self.seat.advance(records);
                    // Others of this thread have their turn.
                    tokio::task::yield_now().await;
                } else {
                    flights.push_back(Flight { begun, records });
                }
            }
            let Some(flight) = flights.pop_front() else { break };
            let response = self.connection.receive::<ProduceRequest>().await?;
            for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
                check(answer.error_code, &format!("partition {}", answer.index))?;
            }
            let took = u64::try_from(flight.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(took);
            stored += flight.records;
            self.seat.advance(flight.records);
        }
        Ok(stored)
    }

    async fn send(&mut self) -> Result<u64, Problem> {
        let turn = self.next;
        self.next = (turn + 1) % self.partitions.len();
        let (batch, records) = self.batch(turn)?;
        let Partition { index, identity, .. } = &mut self.partitions[turn];
        if 0 <= identity.base_sequence {
            identity.base_sequence = add_sequence(identity.base_sequence, records);
        }
        let request = request(&self.plan.topic.name, *index, batch, self.plan.load.wire_acks());
        match request.acks {
            0 => self.connection.tell(request).await?,
            _ => self.connection.send(request).await?,
        }
        Ok(u64::try_from(records).unwrap_or(0))
    }

    /// A full batch, made record by record as any producer has to.
    fn batch(&mut self, turn: usize) -> Result<(Bytes, i32), Problem> {
        let bytes_max = self.plan.load.batch_bytes.bytes();
        let Partition { identity, keys, .. } = &mut self.partitions[turn];
        let mut builder = Builder::new();
        builder.producer(*identity).reserve(bytes_max);
        let now = clock::wall_ms();
        loop {
            let (key, value) = (keys.next(), self.payload.next());
            let added = Builder::record_bytes_max(key.as_deref(), Some(&value), &[]);
            if !builder.is_empty() && bytes_max < builder.size() + added {
                break;
            }
            builder.append(now, key.as_deref(), Some(&value), []);
        }
        let records = builder.record_count();
        Ok((builder.finish_compressed(self.plan.load.codec())?, records))
    }
}

/// A produce request of one batch.
pub(in crate::cli::bench) fn request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch)),
            }],
        }],
    }
}
