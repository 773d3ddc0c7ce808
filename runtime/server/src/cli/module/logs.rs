//! `tidemill module logs`.

use clap::Args;
use tidemill_client::Admin;
use tidemill_client::management::LogLine;
use tidemill_protocol::manifest::Moment;

use crate::cli::Failure;
use crate::cli::remote::{explained, print};
use crate::cli::stop::Stop;

/// Print what a module logs.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill module logs redact --follow --level warn")]
pub(super) struct Logs {
    /// Name.
    module: String,
    /// Go on with what it logs from now on.
    #[arg(long, short)]
    follow: bool,
    /// Only lines of this level and above: trace, debug, info, warn, error or critical.
    #[arg(long, value_parser = ["trace", "debug", "info", "warn", "error", "critical"])]
    level: Option<String>,
    /// How many of the last lines to print first.
    #[arg(long, default_value_t = 100, value_name = "LINES")]
    tail: u32,
    /// JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(super) async fn run(self, admin: &Admin) -> Result<(), Failure> {
        let lines = admin.module_logs(&self.module, self.tail, self.follow, self.level);
        let mut answers = lines.await.map_err(explained)?;
        let mut stop = Stop::new()?;
        loop {
            let line = tokio::select! {
                line = answers.next_log() => line.map_err(explained)?,
                _ = stop.wanted() => return Ok(()),
            };
            match line {
                None => return Ok(()),
                Some(line) if self.json => print(serde_json::to_string(&line)?)?,
                Some(line) => print(shown(&line))?,
            }
        }
    }
}

/// A line for people.
pub(super) fn shown(line: &LogLine) -> String {
    let at = line
        .at
        .as_ref()
        .map(|at| format!(" {}-{}@{}", at.topic, at.partition, at.offset))
        .unwrap_or_default();
    format!(
        "{} {:5} task {}{at}: {}",
        Moment(line.time),
        line.level,
        line.task,
        line.message
    )
}
