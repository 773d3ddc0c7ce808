//! `tidemill module rollback`.

use clap::Args;
use tidemill_client::Admin;

use super::progress::follow;
use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Run a version that was deployed before. Offsets and state are kept.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module rollback sessions               # the one before, or away from a version that is taking over
  tidemill module rollback sessions --to 1.3.0    # a label, or a number from `tidemill module history`")]
pub(super) struct Rollback {
    /// Name.
    module: String,
    /// The version, instead of the one before.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Return when it is decided, not only when the version runs.
    #[arg(long)]
    no_wait: bool,
}

impl Rollback {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        let answers = admin
            .rollback_module(&module, self.to, !self.no_wait)
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
