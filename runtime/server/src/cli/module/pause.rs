//! `tidemill module pause`.

use clap::Args;
use tidemill_client::Admin;

use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Stop a module; its offsets and state are kept.
#[derive(Debug, Args)]
pub(super) struct Pause {
    /// Name.
    module: String,
    /// Shown in `status`.
    #[arg(long)]
    reason: Option<String>,
}

impl Pause {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        admin.pause_module(&module, self.reason).await.map_err(explained)?;
        print(format_args!(
            "{module} is paused: `tidemill module resume {module}` lets it go on"
        ))
    }
}
