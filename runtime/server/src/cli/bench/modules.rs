//! `tidemill bench modules`: what a module costs that is only there: memory, the time until one more runs, and the time until all of them
//! work again after a restart.
//!
//! Each is a deployment with its own group, tasks and instances, and a component of its own: to the given one a section is added that means
//! nothing, so that the daemon has to compile, keep and load every one of them. One record wakes them all at the end, so that none is
//! counted that could not work.
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tidemill_client::{Admin, Deploy};

use super::module::{self, ModuleArgs};
use super::report::{Report, Spread, latencies};
use super::start::one_record;
use super::target::{Target, TargetArgs};
use super::{Problem, settings};
use crate::clock;

/// Deployments at once, before those that are measured.
const AT_ONCE: usize = 4;

/// Deployments that are measured, one after the other.
const MEASURED: usize = 10;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// A thousand modules that cannot process one record each within this time are given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Deploy a module under many names and measure what each costs, idle.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidemill bench modules guest-examples/route\n  tidemill bench modules guest-examples/route --modules 1 --component large.wasm"
)]
pub(super) struct Modules {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    module: ModuleArgs,
    /// How many; then ten more, whose time is measured.
    #[arg(long, short = 'n', default_value_t = 1_000)]
    modules: usize,
    /// Partitions of every topic: tasks of each module.
    #[arg(long, short = 'p', default_value_t = 1)]
    partitions: i32,
    /// How long to leave them alone before memory is read.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    rest: u64,
}

impl Modules {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let (deploy, mut target, _) = self.module.prepare(&self.target, self.partitions).await?;
        let mut report = Report::new(
            "modules",
            settings([
                target.settings(),
                vec![
                    ("module", json!(deploy.manifest.module.name)),
                    ("component_bytes", json!(deploy.component.len())),
                    ("modules", json!(self.modules)),
                    ("partitions", json!(self.partitions)),
                ],
            ]),
        );
        let (client, before) = (target.sdk().await?, target.before().await);
        let admin = client.admin();
        let many = stream::iter(0..self.modules).map(|number| deploy_one(&admin, &deploy, number));
        let begun = clock::instant();
        many.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        let seconds = begun.elapsed().as_secs_f64();
        report.more.insert("deployed_in_s".to_owned(), json!(seconds));
        let mut times = latencies();
        for number in self.modules..self.modules + MEASURED {
            let time = deploy_one(&admin, &deploy, number).await?;
            times.saturating_record(u64::try_from(time.as_nanos())?);
        }
        report.latency_ms = Spread::of(&times);
        report.more.insert(
            "latency_is".to_owned(),
            json!("from the request for one more deployment until it runs"),
        );

        tokio::time::sleep(Duration::from_secs(self.rest)).await;
        target.after(before, 0, &mut report).await;
        report.journal = None;
        client.close().await;
        self.restart(&mut target, &mut report).await?;
        Ok(report)
    }

    /// Stops the daemon, starts it again, and wakes every module with a record.
    async fn restart(&self, target: &mut Target, report: &mut Report) -> Result<(), Problem> {
        let daemon = target.daemon.as_mut().ok_or("the daemon is gone")?;
        daemon.restart()?;
        let serving = daemon.startup;
        target.locate()?;
        let begun = clock::instant();
        one_record(target).await?;
        let acknowledged = serving + begun.elapsed();
        let client = target.sdk().await?;
        all_have_worked(&client.admin(), self.modules + MEASURED, begun).await?;
        let ms = |time: Duration| json!(time.as_secs_f64() * 1e3);
        report
            .more
            .insert("restart_to_acknowledged_ms".to_owned(), ms(acknowledged));
        report
            .more
            .insert("restart_to_all_committed_ms".to_owned(), ms(serving + begun.elapsed()));
        client.close().await;
        Ok(())
    }
}

/// Deploys it under another name and waits until it runs.
async fn deploy_one(admin: &Admin, deploy: &Deploy, number: usize) -> Result<Duration, Problem> {
    let mut manifest = deploy.manifest.clone();
    manifest.module.name = format!("{}-{number:05}", manifest.module.name);
    let deploy = Deploy::new(
        manifest,
        with_custom_section(&deploy.component, &format!("{number:05}"))?,
    );
    let begun = clock::instant();
    module::deploy(admin, deploy).await?;
    Ok(begun.elapsed())
}

/// The same component with other bytes: a custom section at its end, whose name is its content.
fn with_custom_section(component: &[u8], name: &str) -> Result<Vec<u8>, Problem> {
    let length = u8::try_from(name.len())?;
    Ok([component, &[0, length + 1, length], name.as_bytes()].concat())
}

/// Waits until every module has committed a record.
async fn all_have_worked(admin: &Admin, modules: usize, begun: Instant) -> Result<(), Problem> {
    loop {
        let all = admin.list_modules().await?;
        all.iter().try_for_each(module::check)?;
        let worked = all.iter().filter(|module| 0 < module.counters.records_in).count();
        if worked == modules {
            return Ok(());
        }
        if PATIENCE < begun.elapsed() {
            return Err(format!("{worked} of {modules} modules have processed their record").into());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
