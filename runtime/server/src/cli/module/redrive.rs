//! `tidemill module redrive`.

use clap::Args;
use tidemill_client::Admin;
use tidemill_client::management::Answer;

use super::dead_letters::code;
use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Give a module the records of its dead letters again, each once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module redrive sessions --dry-run
  tidemill module redrive sessions --where code=no-user

The records are not appended to their topics: no other consumer meets them again. What the module makes of a record and the mark
that its letter is done are one entry. A record that fails again stays a letter that is not done.")]
pub(super) struct Redrive {
    /// Name.
    module: String,
    /// Only letters with this code.
    #[arg(long = "where", value_name = "code=CODE", value_parser = code)]
    code: Option<String>,
    /// Only print which records it would be.
    #[arg(long)]
    dry_run: bool,
    /// Answers as JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

impl Redrive {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let answers = admin.redrive_module(&self.module, self.code, self.dry_run).await;
        let mut answers = answers.map_err(explained)?;
        while let Some(answer) = answers.next().await.map_err(explained)? {
            match &answer {
                _ if self.json => print(serde_json::to_string(&answer)?)?,
                Answer::Progress { message, .. } => print(message)?,
                _ => {}
            }
        }
        Ok(())
    }
}
