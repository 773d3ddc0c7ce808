//! What every command that talks to a daemon shares: where it is, how to connect, what to say when it is not there, and
//! how results are printed: tables for people, JSON for programs.

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use tidemill_client::{Client, ClientBuilder, DEFAULT_ADDRESS, Error, ErrorCode};
use tidemill_protocol::manifest::Duration as Written;

use super::Failure;

/// Where the daemon is, and who we are to it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Remote {
    /// Addresses of the daemon or cluster, separated by commas.
    #[arg(long, short, env = "TIDEMILL_BROKER", value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS, global = true)]
    broker: String,
    /// PEM file of the certificate authority to trust; without it `TIDEMILL_CA`, or the one of this user's daemon.
    #[arg(long, value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// PEM file of the client's certificate, for a daemon that asks for one.
    #[arg(long, env = "TIDEMILL_CERT", value_name = "FILE", requires = "key", global = true)]
    cert: Option<PathBuf>,
    /// PEM file of the client's key.
    #[arg(long, env = "TIDEMILL_KEY", value_name = "FILE", requires = "cert", global = true)]
    key: Option<PathBuf>,
    /// How long to try, each record if records are produced, as in `500ms`, `10s`.
    #[arg(long, env = "TIDEMILL_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = parse_time, global = true)]
    pub(super) timeout: Duration,
}

impl Remote {
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        self.builder().connect().await.map_err(|error| self.explain(error))
    }

    fn builder(&self) -> ClientBuilder {
        let builder = Client::builder()
            .bootstrap(&self.broker)
            .client_id("tidemill-cli")
            .connect_timeout(self.timeout.min(Duration::from_secs(5)))
            .api_timeout(self.timeout);
        let builder = match &self.ca {
            Some(file) => builder.ca_file(file),
            None => builder,
        };
        match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => builder.identity_files(certificate, key),
            _ => builder,
        }
    }

    fn explain(&self, error: Error) -> Failure {
        match error {
            Error::Unreachable { addresses, reason } if reason.contains("refused") || reason.contains("no answer") => {
                format!("no daemon at {addresses} ({reason}): start one with `tidemill serve`, or name another with --broker").into()
            }
            Error::Unreachable { addresses, reason } if reason.to_lowercase().contains("certificate") => format!(
                "the daemon at {addresses} is not one that this user trusts ({reason}): name its CA file with --ca or TIDEMILL_CA"
            )
            .into(),
            Error::Disconnected { reason, .. } if reason.contains("certificate") => {
                format!("the daemon asks for a certificate ({reason}): show one that it trusts with --cert and --key").into()
            }
            other => other.into(),
        }
    }
}

/// Runs a command's future on a runtime of its own.
pub(super) fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// An error of the broker in the words of somebody who has to do something about it.
pub(super) fn explained(error: Error) -> Failure {
    let hint = match error.code() {
        Some(ErrorCode::KAFKA_STORAGE_ERROR) => {
            "the daemon's disk is nearly full, or it is stopping: its log says which"
        }
        Some(ErrorCode::TOPIC_ALREADY_EXISTS) => "use --if-not-exists to accept the one there is",
        Some(ErrorCode::NON_EMPTY_GROUP | ErrorCode::UNKNOWN_MEMBER_ID) => {
            "stop its members first: `tidemill group describe`"
        }
        Some(ErrorCode::GROUP_ID_NOT_FOUND) => "`tidemill group list` shows those there are",
        _ => return error.into(),
    };
    format!("{error} ({hint})").into()
}

/// A table for people.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    table
}

/// Writes a line of results.
pub(super) fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

/// Writes a table, or what it is without one.
pub(super) fn print_table(table: &Table, empty: &str) -> Result<(), Failure> {
    if table.is_empty() { print(empty) } else { print(table) }
}

/// `key=value`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be key=value".to_owned()),
    }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match Written::parse(text) {
        Some(Written(ms)) => Ok(Duration::from_millis(ms)),
        None => Err("must be a time such as 500ms, 10s, 2m".to_owned()),
    }
}
