//! `tidemill module new`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::template;
use crate::cli::Failure;
use crate::cli::remote::print;

/// Begin a module: a project that builds, with tests, from a template in this binary.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module new visits --template sessionize
  tidemill module new --list

The guest SDK and the WIT are written to vendor/tidemill in the project: a module builds against the tidemill that made it, also
where that is not installed.")]
pub(super) struct New {
    /// Name of the module: also of its folder, its crate and its consumer group.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// What to begin with; --list shows what there is.
    #[arg(long, short, default_value = "redact")]
    template: String,
    /// Folder to make, instead of one called NAME here.
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
    /// Build against this copy of the guest SDK (`sdk/guest` of a source tree) instead of the one in this binary.
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
    /// Only list the templates.
    #[arg(long)]
    list: bool,
}

impl New {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Some(name) = self.name.filter(|_| !self.list) else {
            for name in template::names() {
                print(name)?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        check_name(&name)?;
        let folder = self.path.unwrap_or_else(|| PathBuf::from(&name));
        let files = template::project(&name, &self.template, self.sdk.as_deref())?;
        fs::create_dir(&folder).map_err(|e| format!("{}: {e}; choose another with --path", folder.display()))?;
        for file in files {
            let path = folder.join(file.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, file.text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let folder = folder.display();
        print(format_args!(
            "{folder} is a module after `{}`: go there, then `tidemill module check`, `tidemill module build`, `tidemill module test`",
            self.template
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What cargo takes as the name of a crate is also a good name for a group.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 64 && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(format!("{name}: a module's name is a lower-case letter, then letters, digits, - and _, 64 at most").into())
}
