//! `tidemill module rollback`.

use clap::Args;
use tidemill_client::Admin;

use super::progress::follow;
use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Run a version that was deployed before. Offsets and state are kept.
///
/// A version that reads an older layout of the state than the one that the state was migrated to needs --restore-state: state and offsets
/// are then as of that migration, and what was processed since is processed again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module rollback sessions               # the one before, or away from a version that is taking over
  tidemill module rollback sessions --to 1.3.0    # a label, or a number from `tidemill module history`
  tidemill module rollback sessions --restore-state    # back over a migration: outputs since then repeat")]
pub(super) struct Rollback {
    /// Name.
    module: String,
    /// The version, instead of the one before.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Go back to the state and the offsets of before the last migration. Outputs since then repeat.
    #[arg(long)]
    restore_state: bool,
    /// Return when it is decided, not only when the version runs.
    #[arg(long)]
    no_wait: bool,
}

impl Rollback {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        let answers = admin
            .rollback_module(&module, self.to, self.restore_state, !self.no_wait)
            .await
            .map_err(explained)?;
        follow(answers, false).await?;
        let status = admin.module_status(&module).await.map_err(explained)?;
        match status.rollout {
            None => print(format_args!("{module} runs {}", status.version)),
            Some(rollout) => print(format_args!("{module} goes back to {}", rollout.version)),
        }
    }
}
