//! `tidemill serve`: runs the daemon until a signal or a failure ends it.
use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::Failure;
use super::stop::Stop;
use crate::{Node, config, logging};

/// Run the daemon.
#[derive(Debug, Args)]
#[command(after_help = "\
No configuration is needed: it listens on 127.0.0.1:9092 (TCP and QUIC) and keeps its data in ~/.local/share/tidemill.
SIGTERM and SIGINT stop it in good order; a second one stops it at once.

Examples:
  tidemill serve
  tidemill serve --data-dir /srv/tidemill --listen 127.0.0.1:19092
  TIDEMILL_LOG_FORMAT=json tidemill serve --config /etc/tidemill.toml")]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) source: Source,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// TOML file; without it $XDG_CONFIG_HOME/tidemill/tidemill.toml, if there is one.
    #[arg(long, env = "TIDEMILL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address for TCP and QUIC; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

impl Source {
    pub(super) fn load(&self) -> Result<config::Loaded, Failure> {
        let mut overrides = Vec::new();
        if let Some(dir) = &self.data_dir {
            overrides.push(("data-dir", dir.display().to_string()));
        }
        if let Some(address) = &self.listen {
            overrides.push(("listen.tcp", address.clone()));
            overrides.push(("listen.quic", address.clone()));
        }
        config::load(self.config.as_deref(), &overrides).map_err(|problems| problems.join("\n").into())
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let loaded = self.source.load()?;
        logging::init(&loaded.config.log)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(loaded.config))
    }
}

async fn serve(config: config::Config) -> Result<ExitCode, Failure> {
    let mut stop = Stop::new()?;
    let node = Node::start(config)?;
    tokio::select! {
        signal = stop.wanted() => tracing::info!("{signal}: stopping"),
        message = node.failed() => {
            drop(node);
            return Err(format!("{message}; start it again when that is mended, nothing that was acknowledged is lost").into());
        }
    }
    tokio::select! {
        () = node.shutdown() => tracing::info!("stopped"),
        _ = stop.wanted() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(ExitCode::SUCCESS)
}
