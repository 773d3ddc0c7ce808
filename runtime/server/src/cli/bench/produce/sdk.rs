//! Producers of our SDK: record by record, as an application does it.
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tidemill_client::{Client, Delivery, Producer, Record};
use tokio::task::spawn_local;

use super::super::Problem;
use super::super::crew::Seat;
use super::super::payload::{Keys, Payload};
use super::super::report::{Latencies, latencies};
use super::super::target;
use super::{Plan, Produced};
use crate::clock;

/// One record in so many is timed: timing all would be most of the work.
const SAMPLE: u64 = 256;

/// So many producers on one connection.
pub(in crate::cli::bench) async fn run(seat: Seat, plan: Arc<Plan>, producers: usize) -> Result<Produced, Problem> {
    let client = target::sdk(&plan.quic, plan.dial.ca.as_deref()).await?;
    let latencies = Rc::new(RefCell::new(latencies()));
    let mut own = Vec::new();
    for number in 0..producers {
        own.push(One::new(&client, &plan, &seat, number, &latencies)?);
    }
    let (own, _) = together(own, plan.warmup, u64::MAX).await?;
    latencies.borrow_mut().reset();
    seat.start().await;
    let share = plan.records_max.div_ceil(producers.max(1) as u64);
    let (own, records) = together(own, plan.time, share).await?;
    drop(own);
    client.close().await;
    let latencies = latencies.borrow().clone();
    Ok(Produced { records, latencies })
}

/// All send for a while, each in a task of its own; the records that are stored.
async fn together(own: Vec<One>, time: Duration, records_max: u64) -> Result<(Vec<One>, u64), Problem> {
    let run = |mut one: One| {
        spawn_local(async move {
            let records = one.run(time, records_max).await?;
            Ok::<_, Problem>((one, records))
        })
    };
    let (mut ran, mut records) = (Vec::new(), 0);
    for task in try_join_all(own.into_iter().map(run)).await? {
        let (one, stored) = task?;
        ran.push(one);
        records += stored;
    }
    Ok((ran, records))
}

struct One {
    producer: Producer,
    plan: Arc<Plan>,
    seat: Seat,
    payload: Payload,
    keys: Keys,
    latencies: Rc<RefCell<Latencies>>,
}

impl One {
    fn new(
        client: &Client,
        plan: &Arc<Plan>,
        seat: &Seat,
        number: usize,
        latencies: &Rc<RefCell<Latencies>>,
    ) -> Result<One, Problem> {
        let seed = (seat.number * 1000 + number) as u64;
        Ok(One {
            producer: client.producer(plan.load.producer())?,
            plan: plan.clone(),
            seat: seat.clone(),
            payload: Payload::new(plan.load.record_bytes.bytes(), seed),
            keys: Keys::new(plan.load.keys, seed),
            latencies: latencies.clone(),
        })
    }

    /// Sends for a while, then waits for every acknowledgement. The records that are stored.
    async fn run(&mut self, time: Duration, records_max: u64) -> Result<u64, Problem> {
        let deadline = clock::instant() + time;
        let mut records = 0;
        while records < records_max && clock::instant() < deadline {
            for number in 0..SAMPLE.min(records_max - records) {
                let mut record = Record::to(self.plan.topic.name.clone()).value(self.payload.next());
                record.key = self.keys.next();
                let delivery = self.producer.enqueue(record).await?;
                if number == 0 {
                    self.time(delivery);
                }
            }
            records += SAMPLE.min(records_max - records);
            self.seat.advance(SAMPLE);
        }
        // What failed since the last flush is its error, so dropped deliveries hide nothing.
        self.producer.flush().await?;
        Ok(records)
    }

    fn time(&self, delivery: Delivery) {
        let (begun, latencies) = (clock::instant(), self.latencies.clone());
        spawn_local(async move {
            if delivery.await.is_ok() {
                let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                latencies.borrow_mut().saturating_record(took);
            }
        });
    }
}
