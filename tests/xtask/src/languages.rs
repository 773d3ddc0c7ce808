//! The guest examples that are not written in Rust: each is copied into `guest-examples/target/languages`, where npm and pip bring the
//! tools that it names, and is tested and built there. Nothing is installed anywhere else.
//!
//! What cannot be built because node or python is missing is said to be SKIPPED; every other failure is one.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use crate::run::{Done, root};

pub(crate) fn languages() -> Done {
    let mut skipped = 0;
    for (example, tools, build) in [
        ("javascript-redact", ["node", "npm"], javascript as fn(&Place) -> Done),
        ("python-sessions", ["python3", "python3"], python),
    ] {
        if let Some(tool) = tools.iter().find(|tool| !is_there(tool)) {
            println!("SKIPPED the guest example {example}: {tool} is not installed");
            skipped += 1;
            continue;
        }
        let place = Place::new(example);
        if place.is_built() {
            continue;
        }
        place.copy().map_err(|e| format!("cannot copy {example}: {e}"))?;
        build(&place)?;
    }
    if 0 < skipped {
        println!("{skipped} guest examples SKIPPED; their end-to-end tests will be, too");
    }
    Ok(())
}

fn javascript(place: &Place) -> Done {
    if !place
        .target
        .join("node_modules/@bytecodealliance/componentize-js")
        .exists()
    {
        // No lock file: npm writes into it only the platform's own binaries when a mirror does not list the others.
        place.sh(
            "npm",
            &[
                "install",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ],
        )?;
    }
    place.sh("npm", &["test", "--silent"])?;
    place.sh("npm", &["run", "build", "--silent"])
}

fn python(place: &Place) -> Done {
    if !place.target.join("venv/bin/componentize-py").exists() {
        place.sh("python3", &["-m", "venv", "venv"])?;
        place.sh(
            "venv/bin/pip",
            &["install", "--quiet", "--requirement", "requirements.txt"],
        )?;
    }
    place.sh("venv/bin/python", &["-m", "unittest", "-q"])?;
    fs::create_dir_all(place.target.join("dist")).map_err(|e| e.to_string())?;
    let wit = root().join("wit");
    // By the interpreter, not by itself: a script of a virtual environment knows the folder in which it was made, and a tree may move.
    place.sh(
        "venv/bin/python",
        &[
            "venv/bin/componentize-py",
            "--wit-path",
            &wit.to_string_lossy(),
            "--world",
            "processor",
            "componentize",
            "app",
            "--output",
            "dist/python_sessions.wasm",
        ],
    )
}

fn is_there(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where an example comes from, and where it is built.
struct Place {
    source: PathBuf,
    target: PathBuf,
}

impl Place {
    fn new(example: &str) -> Place {
        let examples = root().join("guest-examples");
        Place {
            source: examples.join(example),
            target: examples.join("target/languages").join(example),
        }
    }

    /// Whether a component is there that is younger than everything it is made from.
    fn is_built(&self) -> bool {
        let sources = newest(&self.source).max(newest(&root().join("wit")));
        let components = newest(&self.target.join("dist"));
        sources.is_some() && sources < components
    }

    fn copy(&self) -> std::io::Result<()> {
        copy(&self.source, &self.target)
    }

    fn sh(&self, program: &str, args: &[&str]) -> Done {
        println!("$ {program} {}", args.join(" "));
        let inside = self.target.join(program);
        let program = if inside.exists() { inside } else { program.into() };
        let status = Command::new(&program)
            .args(args)
            .env("TIDEMILL_WIT", root().join("wit"))
            .current_dir(&self.target)
            .status()
            .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        status.success().then_some(()).ok_or_else(|| {
            format!(
                "`{} {}` failed in {}",
                program.display(),
                args.join(" "),
                self.target.display()
            )
        })
    }
}

/// Made by the tools in an example's own folder, if somebody has built there.
const LEFT_OUT: [&str; 4] = ["node_modules", "dist", "venv", "__pycache__"];

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| match entry.path() {
        path if LEFT_OUT.iter().any(|left_out| path.ends_with(left_out)) => None,
        path if path.is_dir() => newest(&path),
        path => path.metadata().and_then(|data| data.modified()).ok(),
    });
    times.max()
}
