//! `tidemill module delete`.

use clap::Args;
use tidemill_client::Admin;

use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Remove a module, its state and its committed offsets.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Name.
    module: String,
}

impl Delete {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        admin.delete_module(&module).await.map_err(explained)?;
        print(format_args!("deleted {module}, its state and its committed offsets"))
    }
}
