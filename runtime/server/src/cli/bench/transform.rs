//! `tidemill bench transform`: records through a module, until what it made of them is committed.
//!
//! The input is written before the module is deployed, which is not measured, and neither is the start of the module: the clock runs from
//! the first look that finds records committed until the look that finds all of them, and what was committed before the first does not
//! count. A committed offset means committed outputs: they are one entry.
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidemill_client::Admin;
use tidemill_client::management::ModuleStatus;

use super::consume::fill;
use super::load::LoadArgs;
use super::module::{self, ModuleArgs};
use super::report::{Moved, Report};
use super::target::TargetArgs;
use super::{Problem, settings};
use crate::clock;
use crate::config::Size;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Deploy a module and measure the records that go through it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill bench transform guest-examples/route --partitions 1")]
pub(super) struct Transform {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    module: ModuleArgs,
    /// Bytes of values to write first, and then to transform.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    fill_bytes: Size,
}

impl Transform {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let (deploy, target, topic) = self.module.prepare(&self.target, self.load.partitions).await?;
        let written = fill(&target, &self.load, topic, self.fill_bytes.0).await?;

        let mut report = Report::new(
            "transform",
            settings([
                target.settings(),
                self.load.settings(),
                vec![("module", json!(deploy.manifest.module.name))],
            ]),
        );
        let client = target.sdk().await?;
        let admin = client.admin();
        let name = deploy.manifest.module.name.clone();
        module::deploy(&admin, deploy).await?;

        let first = look(&admin, &name, |committed, _| 0 < committed).await?;
        let (begun, before) = (clock::instant(), target.before().await);
        let last = look(&admin, &name, |committed, lag| written <= committed && lag == 0).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let records = committed(&last) - committed(&first);
        let bytes = records * self.load.record_bytes.0;
        target.after(before, bytes, &mut report).await;
        report.moved = Some(Moved::new(records, bytes, seconds));
        report
            .more
            .insert("records_out".to_owned(), json!(last.counters.records_out));
        report.more.insert("given_up".to_owned(), json!(last.counters.given_up));
        report.more.insert("batches".to_owned(), json!(last.counters.batches));
        if records < written / 2 {
            report
                .notes
                .push("most records went through before the first look: write more with --fill-bytes".to_owned());
        }
        client.close().await;
        Ok(report)
    }
}

fn committed(status: &ModuleStatus) -> u64 {
    status.counters.records_in
}

/// Looks until the counts are as wanted: records committed, and records still to come.
async fn look(admin: &Admin, module: &str, is_wanted: impl Fn(u64, i64) -> bool) -> Result<ModuleStatus, Problem> {
    loop {
        let status = admin.module_status(module).await?;
        module::check(&status)?;
        let lag = status
            .tasks
            .iter()
            .flat_map(|task| &task.inputs)
            .map(|input| input.lag)
            .sum();
        if is_wanted(committed(&status), lag) {
            return Ok(status);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
