//! `tidemill module deploy`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tidemill_client::management::Answer;
use tidemill_client::{Admin, Deploy as Deployment};

use super::project::Project;
use super::with_admin;
use crate::cli::Failure;
use crate::cli::remote::{Remote, explained, print};

/// Deploy a module, or a new version of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module deploy guest-examples/redact
  tidemill module deploy module.toml --component target/wasm32-wasip2/release/redact.wasm --no-wait")]
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
            ..Deployment::new(project.manifest, component)
        };
        with_admin(remote, async |admin| deploy(admin, deployment, self.json).await)
    }
}

async fn deploy(admin: &Admin, deployment: Deployment, json: bool) -> Result<(), Failure> {
    let (name, version) = (
        deployment.manifest.module.name.clone(),
        deployment.manifest.module.version.clone(),
    );
    let is_waited_for = deployment.wait;
    let mut answers = admin.deploy(deployment).await.map_err(explained)?;
    while let Some(answer) = answers.next().await.map_err(explained)? {
        match &answer {
            _ if json => print(serde_json::to_string(&answer)?)?,
            Answer::Progress { stage, message } if io::stderr().is_terminal() => {
                writeln!(io::stderr(), "{stage}: {message}")?;
            }
            _ => {}
        }
    }
    match (json, is_waited_for) {
        (true, _) => Ok(()),
        (false, true) => print(format_args!(
            "{name} {version} runs: `tidemill module status {name}` shows how far it is"
        )),
        (false, false) => print(format_args!(
            "{name} {version} is deployed: `tidemill module status {name}` shows when it runs"
        )),
    }
}
