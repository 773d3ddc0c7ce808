//! What cargo and rustc on this machine can do, found by asking them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that components are built for.
pub(super) const TARGET: &str = "wasm32-wasip2";
/// The oldest toolchain that builds the SDK.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Something a module needs, whether it is there, and the command that mends it.
#[derive(Debug)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) what: &'static str,
    /// What there is, or why it will not do.
    pub(super) detail: Result<String, String>,
    /// What to do about it.
    pub(super) mend: String,
}

impl Finding {
    pub(super) fn new(what: &'static str, detail: Result<String, String>, mend: impl Into<String>) -> Self {
        Self {
            what,
            detail,
            mend: mend.into(),
        }
    }
}

/// Looks at the Rust toolchain, as cargo in `folder` would use it.
pub(super) fn look(folder: &Path) -> Vec<Finding> {
    let install = "install rustup: https://rustup.rs";
    let cargo = said(folder, "cargo", &["--version"]);
    let rustc = said(folder, "rustc", &["--version"]).and_then(|version| new_enough(&version));
    vec![
        Finding::new("cargo", cargo, install),
        Finding::new("rustc", rustc, "rustup update stable"),
        Finding::new("target", target(folder), format!("rustup target add {TARGET}")),
    ]
}

fn target(folder: &Path) -> Result<String, String> {
    let libraries = said(folder, "rustc", &["--print", "target-libdir", "--target", TARGET])?;
    if PathBuf::from(libraries).is_dir() {
        Ok(TARGET.to_owned())
    } else {
        Err(format!("{TARGET} is not installed"))
    }
}

/// `rustc 1.95.0 (...)` or later.
fn new_enough(version: &str) -> Result<String, String> {
    let numbers = |text: &str| -> Vec<u32> { text.split(['.', '-']).map_while(|n| n.parse().ok()).collect() };
    let found = numbers(version.split_whitespace().nth(1).unwrap_or_default());
    if numbers(RUST_VERSION) <= found {
        Ok(version.to_owned())
    } else {
        Err(format!("{version} is older than {RUST_VERSION}"))
    }
}

fn said(folder: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(new_enough("rustc 1.101.0 (abc 2027-01-01)").is_ok());
        assert!(new_enough("rustc 2.0.0-nightly (abc)").is_ok());
        assert!(new_enough("rustc 1.9.0 (abc)").is_err());
        assert!(new_enough("").is_err());
    }
}
