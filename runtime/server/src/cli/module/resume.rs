//! `tidemill module resume`.

use clap::Args;
use tidemill_client::Admin;

use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Let a module go on where it stopped.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Name.
    module: String,
}

impl Resume {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        admin.resume_module(&module).await.map_err(explained)?;
        print(format_args!("{module} goes on"))
    }
}
