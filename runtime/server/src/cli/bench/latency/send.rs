//! The sending end: what is due goes out at once, in one batch for each partition if several are due.
use std::collections::BTreeMap;

use tidemill_client::Record;
use tidemill_protocol::api::produce::ProduceRequest;
use tidemill_protocol::batch::Builder;

use super::super::Problem;
use super::super::crew::Seat;
use super::super::payload::Payload;
use super::super::produce::wire::request;
use super::super::report::{Latencies, latencies};
use super::super::target;
use super::super::wire::check;
use super::pacer::Pacer;
use super::{Plan, stamp};
use crate::clock;

/// Requests on their way. Beyond it what is due gathers, and its wait is counted.
const IN_FLIGHT_MAX: usize = 64;

pub(super) async fn wire(seat: &Seat, plan: &Plan) -> Result<Latencies, Problem> {
    let leader = &plan.topic.partitions.first().ok_or("no partitions")?.leader;
    if plan
        .topic
        .partitions
        .iter()
        .any(|partition| partition.leader != *leader)
    {
        return Err("this workload writes to one broker: use as many partitions as it leads".into());
    }
    let mut connection = plan.dial.connect(leader).await?;
    let mut payload = Payload::new(plan.load.record_bytes.bytes(), 1);
    let mut late = latencies();
    seat.start().await;
    let mut pacer = Pacer::start(plan)?;
    let records_max = (plan.load.batch_bytes.0 / plan.load.record_bytes.0.max(1)).max(1);
    let (mut in_flight, mut is_open) = (0, true);
    while is_open || 0 < in_flight {
        tokio::select! {
            due = pacer.due(records_max), if is_open && in_flight < IN_FLIGHT_MAX => {
                let Some(due) = due? else {
                    is_open = false;
                    continue;
                };
                let mut batches: BTreeMap<usize, Builder> = BTreeMap::new();
                let (now, wall) = (plan.now(), clock::wall_ms());
                for (number, at) in due.records() {
                    let turn = usize::try_from(number)? % plan.topic.partitions.len();
                    let value = stamp(&payload.next(), at);
                    batches.entry(turn).or_default().append(wall, None, Some(&value), []);
                    note(&mut late, plan, number, now.saturating_sub(at));
                }
                for (turn, builder) in batches {
                    let index = plan.topic.partitions[turn].index;
                    connection
                        .send(request(&plan.topic.name, index, builder.finish(), -1))
                        .await?;
                    in_flight += 1;
                }
            }
            answer = connection.receive::<ProduceRequest>(), if 0 < in_flight => {
                in_flight -= 1;
                for answer in answer?.responses.iter().flat_map(|topic| &topic.partition_responses) {
                    check(answer.error_code, &format!("partition {}", answer.index))?;
                }
            }
        }
    }
    Ok(late)
}

pub(super) async fn sdk(seat: &Seat, plan: &Plan) -> Result<Latencies, Problem> {
    let client = target::sdk(&plan.quic, plan.dial.ca.as_deref()).await?;
    let producer = client.producer(plan.load.producer())?;
    let mut payload = Payload::new(plan.load.record_bytes.bytes(), 1);
    let mut late = latencies();
    let partitions: Vec<i32> = plan.topic.partitions.iter().map(|partition| partition.index).collect();
    seat.start().await;
    let mut pacer = Pacer::start(plan)?;
    while let Some(due) = pacer.due(u64::MAX).await? {
        for (number, at) in due.records() {
            let partition = partitions[usize::try_from(number)? % partitions.len()];
            let record = Record::to(plan.topic.name.clone())
                .partition(partition)
                .value(stamp(&payload.next(), at));
            drop(producer.enqueue(record).await?);
            note(&mut late, plan, number, plan.now().saturating_sub(at));
        }
    }
    producer.close().await?;
    Ok(late)
}

fn note(late: &mut Latencies, plan: &Plan, number: u64, by: u64) {
    if plan.uncounted <= number {
        late.saturating_record(by);
    }
}
