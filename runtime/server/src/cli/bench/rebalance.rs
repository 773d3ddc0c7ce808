//! `tidemill bench rebalance`: how long a task stands still while its module's tasks are shared out anew.
//!
//! Records flow into every partition all the time, and the module is deployed again and again with more and with fewer members. A task stands
//! still while it has records to process and its committed offset does not move; both are looked at every few milliseconds, so a time is
//! too long by at most the distance of two looks.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tidemill_client::{Admin, Deploy, Producer, Record};

use super::load::LoadArgs;
use super::module::{self, ModuleArgs};
use super::payload::Payload;
use super::report::{Latencies, Report, Spread, latencies};
use super::target::TargetArgs;
use super::{Problem, settings};
use crate::clock;
use crate::config::Size;

/// Between two looks, and between two rounds of records.
const INTERVAL: Duration = Duration::from_millis(5);

/// From one change of members to the next, and how long nothing is changed at first.
const REST: Duration = Duration::from_secs(2);

/// Deploy a module with other numbers of members, under load, and measure how long its tasks stand still.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill bench rebalance guest-examples/route --partitions 100 --members 4,8")]
pub(super) struct Rebalance {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    module: ModuleArgs,
    /// Partitions of every topic: tasks of the module.
    #[arg(long, short = 'p', default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Numbers of members, taken in turn.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = [4, 8])]
    members: Vec<u32>,
    /// How often they are changed.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Records a second, over all partitions.
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Bytes of a record's value.
    #[arg(long, value_name = "SIZE", default_value = "100B")]
    record_bytes: Size,
}

/// When each task was last seen to move or to have nothing to do, and how long it stood still since.
#[derive(Default)]
struct Tasks(BTreeMap<u32, (i64, Instant, Duration)>);

impl Rebalance {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let (mut deploy, target, _) = self.module.prepare(&self.target, self.partitions).await?;
        let mut report = Report::new(
            "rebalance",
            settings([
                target.settings(),
                vec![
                    ("module", json!(deploy.manifest.module.name)),
                    ("partitions", json!(self.partitions)),
                    ("members", json!(self.members)),
                    ("rounds", json!(self.rounds)),
                    ("rate", json!(self.rate)),
                    ("record_bytes", json!(self.record_bytes.0)),
                ],
            ]),
        );
        let mut members = self.members.iter().copied().cycle();
        deploy.manifest.module.members = members.next().ok_or("name at least one number of --members")?;
        let client = target.sdk().await?;
        let (admin, before) = (client.admin(), target.before().await);
        module::deploy(&admin, deploy.clone()).await?;

        let producer = client.producer(LoadArgs::at_once(self.record_bytes).producer())?;
        let measured = async {
            let nothing = async {
                tokio::time::sleep(REST).await;
                Ok(())
            };
            let undisturbed = watch(&admin, &deploy, nothing).await?;
            let mut all = latencies();
            for members in members.take(self.rounds) {
                let mut deploy = deploy.clone();
                deploy.manifest.module.members = members;
                let changed = async {
                    module::deploy(&admin, deploy.clone()).await?;
                    tokio::time::sleep(REST).await;
                    Ok(())
                };
                all.add(watch(&admin, &deploy, changed).await?)?;
            }
            Ok::<_, Problem>((undisturbed, all))
        };
        let (undisturbed, all) = tokio::select! {
            measured = measured => measured?,
            failed = self.flow(&producer, &target.topic) => return Err(failed),
        };
        target.after(before, 0, &mut report).await;
        report.latency_ms = Spread::of(&all);
        let what = "the longest time that each task stood still, for each change of members";
        report.more.insert("latency_is".to_owned(), json!(what));
        report
            .more
            .insert("without_a_change_ms".to_owned(), json!(Spread::of(&undisturbed)));
        client.close().await;
        Ok(report)
    }

    /// Sends records to all partitions in turn, for ever.
    async fn flow(&self, producer: &Producer, topic: &str) -> Problem {
        let mut payload = Payload::new(self.record_bytes.bytes(), 1);
        let mut ticks = tokio::time::interval(INTERVAL);
        let (begun, mut sent) = (clock::instant(), 0_u64);
        loop {
            ticks.tick().await;
            let due = u128::from(self.rate) * begun.elapsed().as_millis() / 1000;
            while u128::from(sent) < due {
                let partition = i32::try_from(sent % u64::from(self.partitions.unsigned_abs())).unwrap_or(0);
                let record = Record::to(topic).partition(partition).value(payload.next());
                if let Err(failed) = producer.enqueue(record).await {
                    return failed.into();
                }
                sent += 1;
            }
        }
    }
}

/// Looks at the tasks until `done`: the longest time that each stood still.
async fn watch(
    admin: &Admin,
    deploy: &Deploy,
    done: impl Future<Output = Result<(), Problem>>,
) -> Result<Latencies, Problem> {
    let mut tasks = Tasks::default();
    tokio::select! {
        failed = tasks.look_on(admin, &deploy.manifest.module.name) => failed?,
        done = done => done?,
    }
    let mut longest = latencies();
    for (_, _, still) in tasks.0.values() {
        longest.saturating_record(u64::try_from(still.as_nanos())?);
    }
    Ok(longest)
}

impl Tasks {
    /// Looks for as long as nothing fails.
    async fn look_on(&mut self, admin: &Admin, name: &str) -> Result<(), Problem> {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let status = admin.module_status(name).await?;
            module::check(&status)?;
            for task in &status.tasks {
                let input = task.inputs.first().ok_or("a task without an input")?;
                self.look(task.number, input.position, input.lag);
            }
        }
    }

    fn look(&mut self, number: u32, position: i64, lag: i64) {
        let now = clock::instant();
        let (at, since, longest) = self.0.entry(number).or_insert((position, now, Duration::ZERO));
        *longest = (*longest).max(now - *since);
        if *at != position || lag == 0 {
            (*at, *since) = (position, now);
        }
    }
}
