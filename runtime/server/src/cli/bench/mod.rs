//! `tidemill bench`: measures a daemon, any broker of Kafka's protocol, and the machine under them.
//!
//! Every number is counted or read from the system. What cannot be measured is said to be so, in words. Without `--bootstrap` a
//! workload starts a daemon of its own and removes it, so that one command on a fresh machine gives a number.
mod consume;
mod crew;
mod daemon;
mod growth;
mod idle;
mod latency;
mod load;
mod module;
mod modules;
mod payload;
mod produce;
mod raw;
mod rebalance;
mod report;
mod start;
mod target;
mod transform;
mod usage;
mod watch;
mod wire;

use std::future::Future;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use self::report::Report;
use super::Failure;
use super::remote::block_on;
use super::stop::Stop;

/// What goes wrong in a measurement; it may cross threads.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Measure throughput, latency, processor time and memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill bench produce                                       # a daemon of its own, over QUIC
  tidemill bench produce --transport tcp --record-bytes 100 --json
  tidemill bench latency --rate 20000 --transport tcp
  tidemill bench consume --consumers 4 --restart
  tidemill bench modules guest-examples/route                  # a thousand that do nothing
  tidemill bench produce --transport tcp --bootstrap kafka.example:9092 --producers 8
  tidemill bench raw disk --commit-bytes 64KiB                 # what the disk can do at most

Records are JSON of the size asked for. MB are 1,000,000 bytes of record values, GB 1,000 of those.
Without --bootstrap a daemon is started on a directory of its own and removed; TIDEMILL_* variables are its settings.")]
pub(super) struct Group {
    #[command(subcommand)]
    workload: Workload,
    /// One JSON object instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Workload {
    Produce(produce::Produce),
    Consume(consume::Consume),
    Latency(latency::Latency),
    Transform(transform::Transform),
    Modules(modules::Modules),
    Rebalance(rebalance::Rebalance),
    Idle(idle::Idle),
    Start(start::Start),
    Growth(growth::Growth),
    #[command(subcommand)]
    Raw(raw::Raw),
    /// Consume, transform and produce in transactions: not served yet.
    Transaction,
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let as_json = self.json;
        let report = match self.workload {
            Workload::Produce(produce) => run(produce.measure()),
            Workload::Consume(consume) => run(consume.measure()),
            Workload::Latency(latency) => run(latency.measure()),
            Workload::Transform(transform) => run(transform.measure()),
            Workload::Modules(modules) => run(modules.measure()),
            Workload::Rebalance(rebalance) => run(rebalance.measure()),
            Workload::Idle(idle) => run(idle.measure()),
            Workload::Start(start) => run(start.measure()),
            Workload::Growth(growth) => run(growth.measure()),
            Workload::Raw(raw) => run(raw.measure()),
            Workload::Transaction => {
                Err("this daemon does not serve transactions yet, so there is nothing to measure".into())
            }
        };
        report?.print(as_json)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs a measurement until it is done or interrupted; either way what it started is stopped.
fn run(measure: impl Future<Output = Result<Report, Problem>>) -> Result<Report, Failure> {
    let mut report = None;
    block_on(async {
        let mut stop = Stop::new()?;
        tokio::select! {
            measured = measure => report = Some(measured.map_err(|problem| -> Failure { problem })?),
            _ = stop.wanted() => return Err("interrupted".into()),
        }
        Ok(ExitCode::SUCCESS)
    })?;
    report.ok_or_else(|| "nothing was measured".into())
}

/// Settings of a report, in order, from several lists.
fn settings(lists: impl IntoIterator<Item = Vec<(&'static str, Value)>>) -> Value {
    let pairs = lists.into_iter().flatten();
    Value::Object(
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}
