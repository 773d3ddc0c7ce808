//! `tidemill module build`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use serde_json::{Value, json};
use tidemill_client::management::Digest;
use tidemill_host::compile::inspect;

use super::check::described;
use super::project::{CARGO_MANIFEST, NPM_MANIFEST, Project};
use super::toolchain::{TARGET, look};
use crate::cli::Failure;
use crate::cli::remote::print;

/// Vector instructions: the host has them everywhere, and some guests are three times as fast with them. More inlining than natively: in
/// the sandbox every call has to look at its deadline, and a JSON filter is a tenth faster without most of them.
const RUSTFLAGS: &str =
    "target.wasm32-wasip2.rustflags=[\"-C\",\"target-feature=+simd128\",\"-C\",\"llvm-args=-inline-threshold=1500\"]";

/// Build a module's component: optimised, with SIMD, where its manifest says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidemill module build
  tidemill module build visits -- --offline

What follows `--` goes to cargo.")]
pub(super) struct Build {
    /// Folder with a `module.toml`, or the manifest itself.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// A JSON object.
    #[arg(long)]
    json: bool,
    /// More arguments for cargo.
    #[arg(last = true)]
    cargo: Vec<String>,
}

/// A component that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its bytes.
    pub(super) component: Vec<u8>,
}

impl Build {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let project = Project::read(&self.path)?;
        let built = build(&project, &self.cargo)?;
        let report = inspect(&built.component)?;
        let digest = Digest(tidemill_host::digest(&built.component));
        if self.json {
            print(json!({
                "path": built.path,
                "bytes": built.component.len(),
                "digest": digest.to_string(),
                "imports": report.imports,
            }))?;
        } else {
            let line = described(built.component.len(), &report);
            print(format_args!("{}: {line}\nsha-256 {digest}", built.path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Builds the component and puts it where the manifest says. Progress is cargo's own, on standard error.
pub(super) fn build(project: &Project, more: &[String]) -> Result<Built, Failure> {
    let folder = project.folder();
    if !folder.join(CARGO_MANIFEST).is_file() {
        return npm(project);
    }
    let artefact = cargo(folder, more)?;
    let component = fs::read(&artefact).map_err(|e| format!("{}: {e}", artefact.display()))?;
    let path = match &project.manifest.module.component {
        Some(named) => folder.join(named),
        None => artefact.clone(),
    };
    if path.canonicalize().ok() != artefact.canonicalize().ok() {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &component).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(Built { path, component })
}

/// Builds a module in JavaScript or TypeScript by its own script.
fn npm(project: &Project) -> Result<Built, Failure> {
    let folder = project.folder();
    if !folder.join(NPM_MANIFEST).is_file() {
        let shown = folder.display();
        return Err(
            format!("{shown}: neither {CARGO_MANIFEST} nor {NPM_MANIFEST}: its README says how it is built").into(),
        );
    }
    let status = Command::new("npm")
        .args(["run", "--silent", "build"])
        .current_dir(folder)
        .stdin(Stdio::null())
        // Standard output is for results.
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("cannot start npm: {e}; install Node: https://nodejs.org"))?;
    if !status.success() {
        return Err("the build failed: npm says why above; `npm ci` installs what it needs".into());
    }
    Ok(Built {
        path: project.component_path(None)?,
        component: project.component(None)?,
    })
}

/// Runs cargo; where it put the component.
fn cargo(folder: &Path, more: &[String]) -> Result<PathBuf, Failure> {
    let mut child = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--config", RUSTFLAGS])
        .arg("--message-format=json-render-diagnostics")
        .args(more)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start cargo: {e}; install rustup: https://rustup.rs"))?;
    let manifest = folder.join(CARGO_MANIFEST).canonicalize()?;
    let mut artefact = None;
    for line in child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        artefact = component_of(&line?, &manifest).or(artefact);
    }
    if !child.wait()?.success() {
        let missing = look(folder).into_iter().find(|finding| finding.detail.is_err());
        return Err(match missing {
            Some(finding) => format!(
                "the build failed: {} is missing; `{}` mends it",
                finding.what, finding.mend
            ),
            None => "the build failed: cargo says why above".to_owned(),
        }
        .into());
    }
    artefact.ok_or_else(|| "cargo built no component: the crate needs `crate-type = [\"cdylib\"]` in [lib]".into())
}

/// The component that a line of cargo's says was made of this crate.
fn component_of(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || Path::new(message["manifest_path"].as_str()?) != manifest {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files
        .map(PathBuf::from)
        .find(|file| file.extension().is_some_and(|end| end == "wasm"))
}
