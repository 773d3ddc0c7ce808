//! `tidemill module deploy`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidemill_client::management::Canary;
use tidemill_client::{Admin, Deploy as Deployment};
use tidemill_protocol::manifest::Duration;

use super::progress::follow;
use super::project::Project;
use super::with_admin;
use crate::cli::Failure;
use crate::cli::remote::{Remote, explained, print};

/// Deploy a module, or a new version of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module deploy guest-examples/redact
  tidemill module deploy module.toml --component target/wasm32-wasip2/release/redact.wasm --no-wait
  tidemill module deploy . --shadow 20
  tidemill module deploy . --canary 1 --canary-lag 10000 --promote-after 10m

What the new version may do that the running one might not is printed as `+`, what it may do no more as `-`.")]
pub(super) struct Deploy {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The component, instead of the one that the manifest names.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Return when the deployment is durable, not only when the module runs.
    #[arg(long)]
    no_wait: bool,
    /// Deploy nothing: run the version over the last so many batches of each task, beside the one that runs, and print what differs.
    #[arg(long, value_name = "BATCHES", conflicts_with_all = ["canary", "no_wait"], value_parser = clap::value_parser!(u32).range(1..=1000))]
    shadow: Option<u32>,
    /// Let only this many tasks run it for now. It is taken back by itself when it does badly.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
    canary: Option<u32>,
    /// Failed runs and records given up that a canary may have.
    #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "canary")]
    canary_failures: u32,
    /// Records that a canary's task may be behind.
    #[arg(long, value_name = "RECORDS", requires = "canary")]
    canary_lag: Option<u64>,
    /// Let a canary that does well take over after so long, instead of waiting for `module promote`.
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = duration)]
    promote_after: Option<Duration>,
    /// Progress as JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

impl Deploy {
    pub(super) fn run(self, remote: &Remote) -> Result<ExitCode, Failure> {
        // Read before a daemon is looked for: a mistake in a file is told at once.
        let project = Project::read(&self.path)?;
        let component = project.component(self.component.as_deref())?;
        let deployment = Deployment {
            wait: !self.no_wait,
            canary: self.canary.map(|tasks| Canary {
                tasks,
                failures_max: self.canary_failures,
                lag_max: self.canary_lag.unwrap_or(0),
                promote_after_ms: self.promote_after.map_or(0, |after| after.0.max(1)),
            }),
            ..Deployment::new(project.manifest, component)
        };
        if let Some(batches) = self.shadow {
            return with_admin(remote, async |admin| {
                shadow(admin, deployment, batches, self.json).await
            });
        }
        with_admin(remote, async |admin| deploy(admin, deployment, self.json).await)
    }
}

async fn deploy(admin: &Admin, deployment: Deployment, json: bool) -> Result<(), Failure> {
    let (name, version) = (
        deployment.manifest.module.name.clone(),
        deployment.manifest.module.version.clone(),
    );
    let (is_waited_for, is_canary) = (deployment.wait, deployment.canary.is_some());
    let answers = admin.deploy(deployment).await.map_err(explained)?;
    follow(answers, json).await?;
    match (json, is_waited_for) {
        (true, _) => Ok(()),
        (false, true) if is_canary => print(format_args!(
            "{name} {version} is on trial: `tidemill module promote {name}` lets it take over, `rollback` takes it back"
        )),
        (false, true) => print(format_args!(
            "{name} {version} runs: `tidemill module status {name}` shows how far it is"
        )),
        (false, false) => print(format_args!(
            "{name} {version} is deployed: `tidemill module status {name}` shows when it runs"
        )),
    }
}

async fn shadow(admin: &Admin, deployment: Deployment, batches: u32, json: bool) -> Result<(), Failure> {
    let answers = admin.shadow_module(deployment, batches).await.map_err(explained)?;
    follow(answers, json).await
}

/// Reads `10m`.
fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).ok_or_else(|| "a time is a whole number with its unit: 500ms, 30s, 10m, 1h".to_owned())
}
