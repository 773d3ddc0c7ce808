//! The daemon's log, on standard error: text for people or JSON for collectors.
use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Format, Log},
    error::StartError,
};

/// Installs it for the process. A second call changes nothing.
pub fn init(log: &Log) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|e| StartError::Config(vec![format!("log.level = {:?}: {e}", log.level)]))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An installed log stays: tests run several daemons in one process.
    let _ = match log.format {
        Format::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        Format::Json => builder.json().flatten_event(true).with_target(true).try_init(),
    };
    Ok(())
}
