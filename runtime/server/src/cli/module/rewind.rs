//! `tidemill module rewind`.

use clap::Args;
use tidemill_client::Admin;
use tidemill_protocol::manifest::{Moment, Start};

use crate::cli::Failure;
use crate::cli::remote::{explained, print};

/// Begin again elsewhere in the inputs of a module: all partitions, with the state or without.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module rewind sessions --to 2013-01-31T12:00:00Z --reset-state
  tidemill module rewind sessions --to earliest --reset-state

What is read again is processed again: outputs repeat, and without --reset-state records are added to what the state has of them.")]
pub(super) struct Rewind {
    /// Name.
    module: String,
    /// The first record at or after this moment; or earliest, or latest.
    #[arg(long, value_name = "TIME", value_parser = start)]
    to: Start,
    /// Forget the state, too.
    #[arg(long)]
    reset_state: bool,
}

impl Rewind {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let module = self.module;
        admin
            .rewind_module(&module, self.to, self.reset_state)
            .await
            .map_err(explained)?;
        let state = if self.reset_state {
            "without its state"
        } else {
            "with its state"
        };
        print(format_args!("{module} begins again, {state}"))
    }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        other => Moment::parse(other)
            .map(Start::At)
            .ok_or_else(|| "must be earliest, latest or a moment such as 2013-01-31T12:00:00Z".to_owned()),
    }
}
