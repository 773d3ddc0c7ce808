//! `tidemill bench growth`: whether producing and fetching cost more when the log is longer or there are more groups.
//!
//! Two daemons: one keeps the first size, the other grows. At each step both are measured in turn, because no machine is as fast now as it
//! was a minute ago; what is reported is the grown one's share of the other.
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidemill_protocol::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use super::consume::{fill, oldest};
use super::load::LoadArgs;
use super::produce::{self, Plan};
use super::report::Report;
use super::target::{Target, TargetArgs};
use super::wire::{Topic, check};
use super::{Problem, settings, watch};
use crate::config::Size;
use crate::config::units::Span;

/// Measure a daemon that grows beside one that does not.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill bench growth --transport tcp\n  tidemill bench growth --sizes 1GiB,10GiB,100GiB   # disk space: twice the first size, the last, and what both produce"
)]
pub(super) struct Growth {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Bytes of values in the log, step by step.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "1GiB,10GiB")]
    sizes: Vec<Size>,
    /// Groups with committed offsets in all partitions, step by step, once the log has its last size.
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', default_value = "1,100,10000")]
    groups: Vec<u32>,
    /// How long to produce in each measurement.
    #[arg(long, value_name = "TIME", default_value = "3s")]
    time: Span,
    /// Bytes of values to fetch in each measurement, from the oldest on.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    fetch_bytes: Size,
    /// Measurements of each daemon at each step; the medians are compared.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,
}

/// What is left free of the disk: it belongs to others, and a daemon whose disk is full refuses to write.
const ROOM: u64 = 4 << 30;

const MB: u64 = 1_000_000;

/// Before each measurement of produce.
const WARM_UP: Duration = Duration::from_secs(1);

/// A daemon and its topic.
struct Node {
    target: Target,
    topic: Topic,
    /// Bytes of values produced.
    bytes: u64,
}

/// MB/s.
#[derive(Default)]
struct Speeds {
    produce: Vec<f64>,
    fetch: Vec<f64>,
}

impl Growth {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let (mut small, mut grown) = (self.node().await?, self.node().await?);
        let mut report = Report::new(
            "growth",
            settings([
                grown.target.settings(),
                self.load.settings(),
                vec![
                    ("fetch_bytes", json!(self.fetch_bytes.0)),
                    ("rounds", json!(self.rounds)),
                ],
            ]),
        );
        let first = self.sizes.first().ok_or("no size to begin with")?;
        small.grow(&self.load, first.0).await?;
        let before = grown.target.before().await;
        for size in &self.sizes {
            grown.grow(&self.load, size.0).await?;
            self.compare(&mut small, &mut grown, &format!("log of {size}"), &mut report)
                .await?;
        }
        let mut there = 0;
        for &groups in &self.groups {
            grown.commit(there..groups).await?;
            there = groups;
            self.compare(&mut small, &mut grown, &format!("and {groups} groups"), &mut report)
                .await?;
        }
        grown.target.after(before, 0, &mut report).await;
        Ok(report)
    }

    async fn node(&self) -> Result<Node, Problem> {
        let target = Target::prepare(&self.target).await?;
        if target.daemon.is_none() {
            return Err("only throw-away daemons can be compared: leave --bootstrap out".into());
        }
        let topic = target.create_topic(self.load.partitions).await?;
        Ok(Node {
            target,
            topic,
            bytes: 0,
        })
    }

    async fn compare(
        &self,
        small: &mut Node,
        grown: &mut Node,
        step: &str,
        report: &mut Report,
    ) -> Result<(), Problem> {
        let (mut of_small, mut of_grown) = (Speeds::default(), Speeds::default());
        for round in 0..self.rounds {
            let mut turns = [(&mut *small, &mut of_small), (&mut *grown, &mut of_grown)];
            // Neither always comes first.
            turns.rotate_left(round % 2);
            for (node, speeds) in turns {
                speeds
                    .produce
                    .push(node.produce(&self.load, self.time.duration()).await?);
                speeds
                    .fetch
                    .push(oldest(&node.target, &self.load, self.fetch_bytes.0).await?);
            }
        }
        for (what, small, grown) in [
            ("produce", of_small.produce, of_grown.produce),
            ("fetch", of_small.fetch, of_grown.fetch),
        ] {
            let (small, grown) = (median(small), median(grown));
            report.more.insert(format!("{step}: {what}, MB/s"), json!(grown));
            report
                .more
                .insert(format!("{step}: {what}, share"), json!(grown / small));
        }
        Ok(())
    }
}

impl Node {
    async fn grow(&mut self, load: &LoadArgs, bytes: u64) -> Result<(), Problem> {
        let missing = bytes.saturating_sub(self.bytes);
        if 0 < missing {
            self.make_sure_of(missing)?;
            fill(&self.target, load, self.topic.clone(), missing).await?;
            self.bytes += missing;
        }
        Ok(())
    }

    /// That the disk has room for this many bytes of values and [`ROOM`].
    fn make_sure_of(&self, bytes: u64) -> Result<(), Problem> {
        let daemon = self.target.daemon.as_ref().ok_or("no daemon of our own")?;
        let free = daemon.free_bytes()?;
        if free < bytes.saturating_add(ROOM) {
            return Err(format!(
                "{} MB of disk are free and {} are wanted: give smaller --sizes, a shorter --time, or a larger disk with --directory",
                free / MB,
                bytes.saturating_add(ROOM) / MB
            )
            .into());
        }
        Ok(())
    }

    async fn produce(&mut self, load: &LoadArgs, time: Duration) -> Result<f64, Problem> {
        // No broker seen here takes a gigabyte a second.
        self.make_sure_of((time + WARM_UP).as_secs() * 1000 * MB)?;
        let plan = Arc::new(Plan {
            topic: self.topic.clone(),
            dial: self.target.dial.clone(),
            quic: self.target.address.clone(),
            load: load.clone(),
            warmup: WARM_UP,
            time,
            records_max: u64::MAX,
        });
        let mut crew = produce::hire(&plan, self.target.kind, 4, None)?;
        crew.ready().await?;
        let (produced, seconds) = watch::run(&mut crew, "producing").await?;
        let bytes = produce::add_up(&produced).0 * load.record_bytes.0;
        self.bytes += bytes;
        Ok(bytes as f64 / seconds / 1e6)
    }

    /// Commits an offset of each partition for each of these groups.
    async fn commit(&self, groups: std::ops::Range<u32>) -> Result<(), Problem> {
        let mut connection = self.target.connect().await?;
        let partitions = self
            .topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitRequestPartition {
                partition_index: partition.index,
                committed_offset: 1,
                ..Default::default()
            });
        let topic = OffsetCommitRequestTopic {
            name: self.topic.name.clone(),
            partitions: partitions.collect(),
        };
        for group in groups {
            let request = OffsetCommitRequest {
                group_id: format!("group-{group}"),
                topics: vec![topic.clone()],
                ..Default::default()
            };
            let response = connection.call(request).await?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                check(partition.error_code, "a commit of offsets")?;
            }
        }
        Ok(())
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
