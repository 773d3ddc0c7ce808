//! `tidemill bench latency`: from the moment at which a record should have been sent until a consumer has it.
//!
//! Records are due at a fixed rate, whatever the broker does. Each carries the time at which it was *due*, so that a broker that stalls is
//! charged for every record that had to wait, not only for those that were sent (coordinated omission).
//!
//! ```text
//!   pacer ──due──► sender ──produce──► broker ──fetch──► receiver: now - due
//! ```
mod pacer;
mod receive;
mod send;

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::crew::Crew;
use super::load::LoadArgs;
use super::report::{Latencies, Moved, Report, Spread, latencies};
use super::target::{ClientKind, Target, TargetArgs};
use super::{Problem, settings, watch};
use crate::clock;
use crate::config::Size;
use crate::config::units::Span;

/// Bytes of the time that a record carries, at the start of its value.
const STAMP_BYTES: usize = 8;

/// Send at a fixed rate and measure how long each record takes to a consumer.
#[derive(Debug, Args)]
pub(super) struct Latency {
    #[command(flatten)]
    target: TargetArgs,
    /// Records a second.
    #[arg(long, short, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// Bytes of a record's value, at least 8.
    #[arg(long, short = 's', value_name = "SIZE", default_value = "100B")]
    record_bytes: Size,
    /// Partitions, written in turn and read by one consumer.
    #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// How long to measure.
    #[arg(long, short, value_name = "TIME", default_value = "10s")]
    time: Span,
    /// Records of this time at the start are not counted.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warmup: Span,
}

/// What both ends need.
#[derive(Clone, Debug)]
struct Plan {
    topic: super::wire::Topic,
    dial: super::wire::Dial,
    quic: String,
    load: LoadArgs,
    rate: u64,
    /// All records, warm-up included.
    records: u64,
    /// Of which so many are not counted.
    uncounted: u64,
    /// What times are relative to.
    origin: Instant,
}

/// What one end has seen.
enum Seen {
    /// The sender: how late records were sent, for it is part of what is measured.
    Sent(Latencies),
    Received(Latencies),
}

impl Plan {
    /// Nanoseconds since the origin.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Latency {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        if self.record_bytes.bytes() < STAMP_BYTES {
            return Err(format!("a record carries the time at which it was due: give it {STAMP_BYTES} bytes").into());
        }
        let target = Target::prepare(&self.target).await?;
        let topic = target.create_topic(self.partitions).await?;
        let records = |time: Span| self.rate.saturating_mul(time.0) / 1000;
        let plan = Arc::new(Plan {
            topic,
            dial: target.dial.clone(),
            quic: target.address.clone(),
            load: LoadArgs::at_once(self.record_bytes),
            rate: self.rate,
            records: records(self.warmup) + records(self.time),
            uncounted: records(self.warmup),
            origin: clock::instant(),
        });
        let mut report = Report::new(
            "latency",
            settings([
                target.settings(),
                vec![
                    ("rate", json!(self.rate)),
                    ("record_bytes", json!(self.record_bytes.0)),
                    ("partitions", json!(self.partitions)),
                ],
            ]),
        );
        let mut crew = hire(&plan, target.kind)?;
        crew.ready().await?;
        let before = target.before().await;
        let (seen, seconds) = watch::run(&mut crew, "sending").await?;
        let bytes = plan.records * self.record_bytes.0;
        target.after(before, bytes, &mut report).await;
        report.moved = Some(Moved::new(plan.records, bytes, seconds));
        for seen in &seen {
            match seen {
                Seen::Received(latencies) => report.latency_ms = Spread::of(latencies),
                Seen::Sent(late) => drop(report.more.insert("sent_late_ms".to_owned(), json!(Spread::of(late)))),
            }
        }
        target.clean_up().await?;
        Ok(report)
    }
}

/// A receiver and a sender, on a thread each: they are two programs that happen to share a clock.
fn hire(plan: &Arc<Plan>, kind: ClientKind) -> Result<Crew<Seen>, Problem> {
    let plan = plan.clone();
    Crew::hire(2, 2, move |seat| {
        let plan = plan.clone();
        async move {
            match (seat.number, kind) {
                (0, ClientKind::Wire) => receive::wire(&seat, &plan).await.map(Seen::Received),
                (0, ClientKind::Sdk) => receive::sdk(&seat, &plan).await.map(Seen::Received),
                (_, ClientKind::Wire) => send::wire(&seat, &plan).await.map(Seen::Sent),
                (_, ClientKind::Sdk) => send::sdk(&seat, &plan).await.map(Seen::Sent),
            }
        }
    })
}

/// Puts the time at which a record is due into its value.
fn stamp(value: &[u8], due: u64) -> Vec<u8> {
    let mut stamped = value.to_vec();
    stamped[..STAMP_BYTES].copy_from_slice(&due.to_be_bytes());
    stamped
}

/// Counts records by their stamps, in any order.
struct Counter<'a> {
    plan: &'a Plan,
    latencies: Latencies,
    received: u64,
}

impl<'a> Counter<'a> {
    fn new(plan: &'a Plan) -> Counter<'a> {
        Counter {
            plan,
            latencies: latencies(),
            received: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.plan.records <= self.received
    }

    /// A record that is here now.
    fn count(&mut self, value: &[u8], now: u64) -> Result<(), Problem> {
        let stamp = value.first_chunk::<STAMP_BYTES>().ok_or("a record that is not ours")?;
        self.received += 1;
        if self.plan.uncounted < self.received {
            self.latencies
                .saturating_record(now.saturating_sub(u64::from_be_bytes(*stamp)));
        }
        Ok(())
    }
}
