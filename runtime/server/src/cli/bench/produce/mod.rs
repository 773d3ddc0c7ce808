//! `tidemill bench produce`: as many records as the broker acknowledges.
//!
//! After a warm-up everything in flight is waited for; then the clock runs from a common start until the last acknowledgement. So every
//! record that is counted is acknowledged, and none is counted that was not sent meanwhile.
pub(super) mod sdk;
pub(super) mod wire;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::crew::Crew;
use super::load::LoadArgs;
use super::report::{Latencies, Moved, Report, Spread, latencies};
use super::target::{ClientKind, Target, TargetArgs};
use super::{Problem, settings, watch};
use crate::config::units::Span;

/// Write records as fast as they are acknowledged.
#[derive(Debug, Args)]
pub(super) struct Produce {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Producers at once.
    #[arg(long, short = 'n', default_value_t = 4)]
    producers: usize,
    /// Connections that the producers share in turn; without it each has its own.
    #[arg(long)]
    connections: Option<usize>,
    /// How long to measure.
    #[arg(long, short, value_name = "TIME", default_value = "10s")]
    time: Span,
    /// How long to run before that.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    warmup: Span,
}

/// What every producer of a run needs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topic: super::wire::Topic,
    pub(super) dial: super::wire::Dial,
    pub(super) quic: String,
    pub(super) load: LoadArgs,
    pub(super) warmup: Duration,
    /// `None`: until `records` are sent.
    pub(super) time: Duration,
    /// At most so many records of each producer in the measured part.
    pub(super) records_max: u64,
}

/// What one producer has done.
pub(super) struct Produced {
    pub(super) records: u64,
    pub(super) latencies: Latencies,
}

impl Produce {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let target = Target::prepare(&self.target).await?;
        let topic = target.create_topic(self.load.partitions).await?;
        let plan = Arc::new(Plan {
            topic,
            dial: target.dial.clone(),
            quic: target.address.clone(),
            load: self.load.clone(),
            warmup: self.warmup.duration(),
            time: self.time.duration(),
            records_max: u64::MAX,
        });
        let mut report = Report::new(
            "produce",
            settings([
                target.settings(),
                self.load.settings(),
                vec![
                    ("producers", json!(self.producers)),
                    ("connections", json!(self.connections.unwrap_or(self.producers))),
                ],
            ]),
        );
        let mut crew = hire(&plan, target.kind, self.producers, self.connections)?;
        crew.ready().await?;
        let before = target.before().await;
        let (produced, seconds) = watch::run(&mut crew, "producing").await?;
        let (records, spread) = add_up(&produced);
        let bytes = records * self.load.record_bytes.0;
        target.after(before, bytes, &mut report).await;
        report.moved = Some(Moved::new(records, bytes, seconds));
        report.latency_ms = spread;
        report
            .more
            .insert("latency_is".to_owned(), json!(latency_is(target.kind)));
        target.clean_up().await?;
        Ok(report)
    }
}

/// Starts the producers.
pub(super) fn hire(
    plan: &Arc<Plan>,
    kind: ClientKind,
    producers: usize,
    connections: Option<usize>,
) -> Result<Crew<Produced>, Problem> {
    let connections = connections.unwrap_or(producers).clamp(1, producers.max(1));
    match kind {
        ClientKind::Wire if connections < producers => {
            Err("the plain client has one connection for each producer: leave --connections out".into())
        }
        ClientKind::Wire => {
            let plan = plan.clone();
            Crew::hire(plan.load.threads, producers, move |seat| wire::run(seat, plan.clone()))
        }
        // Producers of one connection share a client, and with it a thread.
        ClientKind::Sdk => {
            let plan = plan.clone();
            Crew::hire(plan.load.threads, connections, move |seat| {
                let own = (seat.number..producers).step_by(connections).count();
                sdk::run(seat, plan.clone(), own)
            })
        }
    }
}

/// All records, and how long they took.
pub(super) fn add_up(produced: &[Produced]) -> (u64, Option<Spread>) {
    let mut all = latencies();
    for one in produced {
        // Both have the same bounds.
        let _ = all.add(&one.latencies);
    }
    (produced.iter().map(|one| one.records).sum(), Spread::of(&all))
}

fn latency_is(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::Wire => "from the making of a batch to its acknowledgement, at full load",
        ClientKind::Sdk => {
            "from the record's place in the buffer to its acknowledgement, at full load; one record in 256"
        }
    }
}
