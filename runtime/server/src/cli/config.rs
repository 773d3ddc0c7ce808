//! `tidemill config`: what the daemon would run with, and why.
use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Subcommand;

use super::{Failure, serve::Source};

/// Check or show the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether the daemon could start with this configuration.
    Check(Source),
    /// Print every key with its value, where that came from, and its environment variable.
    #[command(after_help = "The output is TOML: it can be the start of a configuration file.")]
    Show {
        #[command(flatten)]
        source: Source,
        /// One JSON array for programs.
        #[arg(long)]
        json: bool,
        /// Only what differs from the defaults.
        #[arg(long)]
        changed: bool,
    },
}

impl Command {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Check(source) => check(&source),
            Self::Show { source, json, changed } => show(&source, json, changed),
        }
    }
}

fn check(source: &Source) -> Result<ExitCode, Failure> {
    let loaded = source.load()?;
    if !loaded.warnings.is_empty() {
        return Err(loaded.warnings.join("\n").into());
    }
    let changed = loaded
        .settings()
        .iter()
        .filter(|setting| setting.origin != "default")
        .count();
    writeln!(
        io::stdout(),
        "The configuration is good: {changed} keys set, the others at their defaults."
    )?;
    Ok(ExitCode::SUCCESS)
}

fn show(source: &Source, json: bool, changed: bool) -> Result<ExitCode, Failure> {
    let mut settings = source.load()?.settings();
    settings.retain(|setting| !changed || setting.value != setting.default);
    let mut out = io::stdout().lock();
    if json {
        let rows: Vec<_> = settings
            .iter()
            .map(|s| serde_json::json!({ "key": s.key, "value": s.value, "default": s.default, "origin": s.origin, "variable": s.variable }))
            .collect();
        writeln!(out, "{}", serde_json::Value::Array(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    let lines: Vec<String> = settings
        .iter()
        .map(|s| format!("{}{} = {}", if s.value == "(none)" { "# " } else { "" }, s.key, s.value))
        .collect();
    let width = lines.iter().map(String::len).max().unwrap_or(0).min(64);
    for (setting, line) in settings.iter().zip(lines) {
        let default = if setting.value == setting.default {
            String::new()
        } else {
            format!(" (default {})", setting.default)
        };
        writeln!(
            out,
            "{line:width$}  # {}{default}; {}",
            setting.origin, setting.variable
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
