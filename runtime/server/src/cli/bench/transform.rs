//! `tidemill bench transform`: records through a module, until what it made of them is committed.
//!
//! The input is written before the module is deployed, which is not measured, and neither is the start of the module: the clock runs from
//! the first look that finds records committed until the look that finds all of them, and what was committed before the first does not
//! count. A committed offset means committed outputs: they are one entry.
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidemill_client::management::ModuleStatus;
use tidemill_client::{Admin, Deploy};
use tidemill_protocol::manifest::{Manifest, Start};

use super::consume::fill;
use super::load::LoadArgs;
use super::report::{Moved, Report};
use super::target::{Target, TargetArgs};
use super::{Problem, settings, wire};
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
    /// Folder with a `module.toml`, or the manifest itself.
    module: PathBuf,
    /// The component, instead of the one that the manifest names.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Bytes of values to write first, and then to transform.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    fill_bytes: Size,
}

impl Transform {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let deploy = self.read()?;
        let mut args = self.target.clone();
        let input = deploy.manifest.input.first().ok_or("the module has no input")?;
        args.topic = Some(input.topic.clone());
        let target = Target::prepare(&args).await?;
        if target.daemon.is_none() {
            return Err("modules are measured on a throw-away daemon: leave --bootstrap out".into());
        }
        let mut connection = target.connect().await?;
        let manifest = &deploy.manifest;
        let others = manifest.input.iter().skip(1).map(|input| &input.topic);
        let outputs = manifest.output.iter().map(|output| &output.topic);
        for topic in others.chain(outputs).chain(&manifest.dead_letter.topic) {
            wire::create_topic(&mut connection, topic, self.load.partitions).await?;
        }
        let topic = target.create_topic(self.load.partitions).await?;
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
        let mut answers = admin.deploy(deploy).await?;
        while answers.next().await?.is_some() {}

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

    fn read(&self) -> Result<Deploy, Problem> {
        let path = match self.module.is_dir() {
            true => self.module.join("module.toml"),
            false => self.module.clone(),
        };
        let at = |path: &Path, e: &dyn std::fmt::Display| Problem::from(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|e| at(&path, &e))?;
        let mut manifest: Manifest = toml::from_str(&text).map_err(|e| at(&path, &e))?;
        for input in &mut manifest.input {
            input.start = Start::Earliest;
        }
        let named = manifest.module.component.as_ref();
        let beside = named.map(|named| path.parent().unwrap_or(Path::new(".")).join(named));
        let component = self
            .component
            .clone()
            .or(beside)
            .ok_or("name the component with --component")?;
        let bytes = std::fs::read(&component).map_err(|e| at(&component, &e))?;
        Ok(Deploy::new(manifest, bytes))
    }
}

fn committed(status: &ModuleStatus) -> u64 {
    status.counters.records_in
}

/// Looks until the counts are as wanted: records committed, and records still to come.
async fn look(admin: &Admin, module: &str, is_wanted: impl Fn(u64, i64) -> bool) -> Result<ModuleStatus, Problem> {
    loop {
        let status = admin.module_status(module).await?;
        if let Some(reason) = &status.reason {
            return Err(format!("the module has stopped: {reason}").into());
        }
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
