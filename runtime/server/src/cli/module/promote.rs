//! `tidemill module promote`.

use clap::Args;
use tidemill_client::Admin;

use super::progress::follow;
use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Let a canary take over everywhere.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// Name.
    module: String,
    /// Return when it is decided, not only when it runs everywhere.
    #[arg(long)]
    no_wait: bool,
}

impl Promote {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        let answers = admin.promote_module(&module, !self.no_wait).await.map_err(explained)?;
        follow(answers, false).await?;
        let status = admin.module_status(&module).await.map_err(explained)?;
        let taking_over = status.rollout.map(|rollout| rollout.version);
        print(format_args!("{module} runs {}", taking_over.unwrap_or(status.version)))
    }
}
