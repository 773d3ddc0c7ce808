//! `tidemill module history`.

use clap::Args;
use tidemill_client::Admin;
use tidemill_client::management::VersionState;
use tidemill_protocol::manifest::Moment;

use crate::cli::Failure;
use crate::cli::remote::{explained, print, print_table, table};

/// Show the versions of a module that are kept, the youngest first.
#[derive(Debug, Args)]
pub(super) struct History {
    /// Name.
    module: String,
    /// A JSON array, the oldest first, with what each version may do that the one before might not.
    #[arg(long)]
    json: bool,
}

impl History {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let versions = admin.module_history(&self.module).await.map_err(explained)?;
        if self.json {
            return print(serde_json::to_string(&versions)?);
        }
        let mut rows = table([
            "number", "version", "state", "layout", "deployed", "by", "digest", "changes", "note",
        ]);
        for version in versions.iter().rev() {
            let digest = version.digest.to_string();
            rows.add_row(vec![
                version.number.to_string(),
                version.version.clone(),
                state(version.state).to_owned(),
                version.state_version.to_string(),
                Moment(version.deployed_at).to_string(),
                version.by.clone(),
                digest[..12].to_owned(),
                version.changes.len().to_string(),
                version
                    .returned
                    .as_ref()
                    .map(|reason| format!("taken back: {reason}"))
                    .unwrap_or_default(),
            ]);
        }
        print_table(&rows, "no versions")
    }
}

fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Running => "running",
        VersionState::TakingOver => "taking over",
        VersionState::Canary => "canary",
        VersionState::Kept => "kept",
    }
}
