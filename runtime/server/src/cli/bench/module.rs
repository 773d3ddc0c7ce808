//! The module of a workload that has one.
use std::path::{Path, PathBuf};

use clap::Args;
use tidemill_client::{
    Admin, Deploy,
    management::{ModuleState, ModuleStatus},
};
use tidemill_protocol::manifest::{Manifest, Start};

use super::Problem;
use super::target::{Target, TargetArgs};
use super::wire::{self, Topic};

/// Which module.
#[derive(Debug, Args)]
#[command(next_help_heading = "Module")]
pub(super) struct ModuleArgs {
    /// Folder with a `module.toml`, or the manifest itself.
    module: PathBuf,
    /// The component, instead of the one that the manifest names.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
}

impl ModuleArgs {
    /// The module, a daemon for it, and every topic that it names; the load goes to the first of its inputs.
    pub(super) async fn prepare(&self, args: &TargetArgs, partitions: i32) -> Result<(Deploy, Target, Topic), Problem> {
        let deploy = self.read()?;
        let manifest = &deploy.manifest;
        let input = manifest.input.first().ok_or("the module has no input")?;
        let mut args = args.clone();
        args.topic = Some(input.topic.clone());
        let target = Target::prepare(&args).await?;
        if target.daemon.is_none() {
            return Err("modules are measured on a throw-away daemon: leave --bootstrap out".into());
        }
        let mut connection = target.connect().await?;
        let inputs = manifest.input.iter().skip(1).map(|input| &input.topic);
        let outputs = manifest.output.iter().map(|output| &output.topic);
        for topic in inputs.chain(outputs).chain(&manifest.dead_letter.topic) {
            wire::create_topic(&mut connection, topic, partitions).await?;
        }
        let topic = target.create_topic(partitions).await?;
        Ok((deploy, target, topic))
    }

    /// The module, from the earliest record of its inputs on.
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

/// Deploys a module and waits until it runs.
pub(super) async fn deploy(admin: &Admin, deploy: Deploy) -> Result<(), Problem> {
    Ok(admin.deploy(deploy).await?.finish(|_| {}).await?)
}

/// An error if a module does not run and will not by itself.
pub(super) fn check(status: &ModuleStatus) -> Result<(), Problem> {
    match (status.state, &status.reason) {
        (ModuleState::Staged | ModuleState::Running, _) => Ok(()),
        (_, reason) => Err(format!(
            "{} has stopped: {}",
            status.module,
            reason.as_deref().unwrap_or("no reason")
        )
        .into()),
    }
}
