//! `tidemill bench consume`: reads what was written before, all of it, once.
//!
//! The topic is filled first, which is not measured. The clock runs from a common start until the last consumer has its last record.
//! Every batch's checksum is verified and every record looked at, as any consumer has to.
mod sdk;
mod wire;

pub(super) use self::wire::{Fetch, Place};

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::crew::Crew;
use super::load::LoadArgs;
use super::produce::{self, Plan};
use super::report::{Moved, Report};
use super::target::{ClientKind, Target, TargetArgs};
use super::{Problem, settings, watch, wire::end_offsets};
use crate::config::Size;

/// Read records as fast as they come.
#[derive(Debug, Args)]
pub(super) struct Consume {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Consumers at once; each reads partitions of its own.
    #[arg(long, short = 'n', default_value_t = 1)]
    consumers: usize,
    /// Bytes of values to write first, and then to read.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    fill_bytes: Size,
    /// Bytes of one partition in one fetch.
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    fetch_bytes: Size,
    /// Restart the throw-away daemon before reading, so that it has nothing in memory.
    #[arg(long)]
    restart: bool,
}

/// What every consumer of a run needs.
#[derive(Clone, Debug)]
struct Reading {
    topic: super::wire::Topic,
    dial: super::wire::Dial,
    quic: String,
    /// Offset behind the last record, by partition.
    ends: Vec<i64>,
    consumers: usize,
    fetch_bytes: i32,
}

/// Producers that fill the topic.
const FILLERS: usize = 4;

/// Filling ends when everything is written; this only bounds it.
const FILL_TIME: Duration = Duration::from_secs(3600);

/// What one consumer has read.
struct Consumed {
    records: u64,
    bytes: u64,
}

impl Reading {
    /// The partitions of one consumer: index and end.
    fn share(&self, number: usize) -> Vec<(i32, i64)> {
        let all = self.topic.partitions.iter().zip(&self.ends);
        let own = all.skip(number).step_by(self.consumers);
        own.map(|(partition, end)| (partition.index, *end)).collect()
    }
}

impl Consume {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let mut target = Target::prepare(&self.target).await?;
        let partitions = usize::try_from(self.load.partitions)?;
        if partitions < self.consumers {
            return Err(format!("{} consumers need as many partitions", self.consumers).into());
        }
        let topic = target.create_topic(self.load.partitions).await?;
        fill(&target, &self.load, topic, self.fill_bytes.0).await?;
        if self.restart {
            let daemon = target.daemon.as_mut();
            daemon.ok_or("only a throw-away daemon can be restarted")?.restart()?;
            target.locate()?;
        }
        let fetch_bytes = i32::try_from(self.fetch_bytes.0)?;
        let reading = Arc::new(Reading::of(&target, self.consumers, fetch_bytes).await?);
        let mut report = Report::new(
            "consume",
            settings([
                target.settings(),
                self.load.settings(),
                vec![
                    ("consumers", json!(self.consumers)),
                    ("fetch_bytes", json!(self.fetch_bytes.0)),
                    ("fill_bytes", json!(self.fill_bytes.0)),
                    ("restarted", json!(self.restart)),
                ],
            ]),
        );
        let mut crew = hire(&reading, target.kind, self.load.threads)?;
        crew.ready().await?;
        let before = target.before().await;
        let (consumed, seconds) = watch::run(&mut crew, "consuming").await?;
        let records = consumed.iter().map(|one| one.records).sum();
        let bytes = consumed.iter().map(|one| one.bytes).sum();
        target.after(before, bytes, &mut report).await;
        report.moved = Some(Moved::new(records, bytes, seconds));
        target.clean_up().await?;
        Ok(report)
    }
}

/// Reads the oldest so many bytes of values with one consumer. Gives MB/s.
pub(super) async fn oldest(target: &Target, load: &LoadArgs, bytes: u64) -> Result<f64, Problem> {
    let mut reading = Reading::of(target, 1, 1 << 20).await?;
    let partitions = u64::try_from(reading.ends.len())?.max(1);
    let each = i64::try_from(bytes / load.record_bytes.0.max(1) / partitions)?;
    reading.ends.iter_mut().for_each(|end| *end = each.min(*end));
    let mut crew = hire(&Arc::new(reading), target.kind, load.threads)?;
    crew.ready().await?;
    let (consumed, seconds) = watch::run(&mut crew, "consuming").await?;
    Ok(consumed.iter().map(|one| one.bytes).sum::<u64>() as f64 / seconds / 1e6)
}

impl Reading {
    async fn of(target: &Target, consumers: usize, fetch_bytes: i32) -> Result<Reading, Problem> {
        let mut connection = target.connect().await?;
        let topic = super::wire::topic(&mut connection, &target.topic).await?;
        let mut ends = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let mut leader = target.dial.connect(&partition.leader).await?;
            ends.extend(end_offsets(&mut leader, &topic.name, &[partition.index]).await?);
        }
        Ok(Reading {
            topic,
            dial: target.dial.clone(),
            quic: target.address.clone(),
            ends,
            consumers,
            fetch_bytes,
        })
    }
}

fn hire(reading: &Arc<Reading>, kind: ClientKind, threads: usize) -> Result<Crew<Consumed>, Problem> {
    let (consumers, reading) = (reading.consumers, reading.clone());
    match kind {
        ClientKind::Wire => Crew::hire(threads, consumers, move |seat| wire::run(seat, reading.clone())),
        ClientKind::Sdk => Crew::hire(threads, consumers, move |seat| sdk::run(seat, reading.clone())),
    }
}

/// Writes so many bytes of values into the topic.
pub(super) async fn fill(
    target: &Target,
    load: &LoadArgs,
    topic: super::wire::Topic,
    bytes: u64,
) -> Result<u64, Problem> {
    let records = bytes.div_ceil(load.record_bytes.0.max(1));
    let plan = Arc::new(Plan {
        topic,
        dial: target.dial.clone(),
        quic: target.address.clone(),
        load: load.clone(),
        warmup: Duration::ZERO,
        time: FILL_TIME,
        records_max: records.div_ceil(FILLERS as u64),
    });
    // The plain client fills faster, over any transport.
    let mut crew = produce::hire(&plan, ClientKind::Wire, FILLERS, None)?;
    crew.ready().await?;
    let (produced, _) = watch::run(&mut crew, "filling").await?;
    Ok(produced.iter().map(|one| one.records).sum())
}
