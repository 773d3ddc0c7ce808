//! `tidemill module check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use tidemill_host::compile::{Report, inspect};

use super::project::{CARGO_MANIFEST, Project};
use super::toolchain::{Finding, look};
use crate::cli::Failure;
use crate::cli::remote::print;

/// Say what is missing before a module can be built and deployed, and the command that mends it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill module check --json | jq 'map(select(.ok | not))'")]
pub(super) struct Check {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The component, instead of the one that the manifest names.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// A JSON array.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let findings = self.findings();
        if self.json {
            let rows = findings.iter().map(|finding| {
                json!({
                    "what": finding.what,
                    "ok": finding.detail.is_ok(),
                    "detail": match &finding.detail { Ok(text) | Err(text) => text },
                    "mend": finding.detail.is_err().then_some(&finding.mend),
                })
            });
            print(serde_json::Value::from_iter(rows))?;
        } else {
            findings.iter().try_for_each(show)?;
        }
        let is_whole = findings.iter().all(|finding| finding.detail.is_ok());
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn findings(&self) -> Vec<Finding> {
        let project = Project::read(&self.path);
        let folder = match &project {
            Ok(project) => project.folder(),
            Err(_) => self.path.as_path(),
        };
        // A component from another language needs no Rust.
        let mut findings = match folder.join(CARGO_MANIFEST).is_file() {
            true => look(folder),
            false => Vec::new(),
        };
        let manifest = match &project {
            Ok(project) => Ok(format!(
                "{}: {} {}",
                project.manifest_path.display(),
                project.manifest.module.name,
                project.manifest.module.version
            )),
            Err(error) => Err(error.to_string()),
        };
        findings.push(Finding::new(
            "manifest",
            manifest,
            "correct it, or begin with `tidemill module new NAME`",
        ));
        if let Ok(project) = &project {
            let (detail, mend) = component(project, self.component.as_deref());
            findings.push(Finding::new("component", detail, mend));
        }
        findings
    }
}

/// Whether the component is there and of the world that this version serves.
fn component(project: &Project, given: Option<&Path>) -> (Result<String, String>, &'static str) {
    let build = "tidemill module build";
    match project.component(given) {
        Err(error) => (Err(error.to_string()), build),
        Ok(bytes) => match inspect(&bytes) {
            Err(error) => (Err(error.to_string()), build),
            Ok(report) => (Ok(described(bytes.len(), &report)), ""),
        },
    }
}

/// A component in a line.
pub(super) fn described(bytes: usize, report: &Report) -> String {
    let own = |import: &&String| import.starts_with("tidemill:");
    let imports: Vec<&str> = report.imports.iter().filter(own).map(String::as_str).collect();
    format!("{} KiB, uses {}", bytes.div_ceil(1024), imports.join(" "))
}

fn show(finding: &Finding) -> Result<(), Failure> {
    match &finding.detail {
        Ok(text) => print(format_args!("{:9} ok       {text}", finding.what)),
        Err(why) => print(format_args!(
            "{:9} missing  {why}\n{:18} do this: {}",
            finding.what, "", finding.mend
        )),
    }
}
