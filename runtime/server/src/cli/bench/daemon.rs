//! A throw-away daemon: a child process of this binary on a directory of its own, stopped and removed at the end.
//!
//! Its settings are the defaults; `TIDEMILL_*` variables reach it as they would any daemon, so that a setting can be measured.
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Problem;
use crate::{clock, data_dir, files};

/// A daemon that does not serve or stop within this time is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running child.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    directory: PathBuf,
    /// Beside those of our own environment.
    variables: Vec<(&'static str, String)>,
    /// Where it listens: scheme and `host:port`.
    listeners: Vec<(String, String)>,
    /// From the start of the process to the first line that says that it serves.
    pub(super) startup: Duration,
}

impl Daemon {
    /// Starts one below `parent`, with these variables.
    pub(super) fn start(parent: &Path, variables: Vec<(&'static str, String)>) -> Result<Daemon, Problem> {
        let name = format!("tidemill-bench-{:016x}", u64::from_be_bytes(data_dir::random()?));
        let directory = parent.join(name);
        files::create_dir(&directory)?;
        let mut daemon = Daemon {
            child: spawn(&directory, &variables)?,
            directory,
            variables,
            listeners: Vec::new(),
            startup: Duration::ZERO,
        };
        daemon.await_serving()?;
        Ok(daemon)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Certificate of its authority.
    pub(super) fn ca(&self) -> PathBuf {
        self.directory.join("config/tidemill/ca.pem")
    }

    /// What its disk has left, in bytes.
    pub(super) fn free_bytes(&self) -> Result<u64, Problem> {
        let stat = rustix::fs::statvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// `host:port` of a listener by its scheme (`kafka+tcp`).
    pub(super) fn address(&self, scheme: &str) -> Result<String, Problem> {
        let found = self.listeners.iter().find(|(name, _)| name == scheme);
        let found = found.ok_or_else(|| format!("the daemon has no listener {scheme}"))?;
        Ok(found.1.clone())
    }

    /// Stops it in good order and starts it again on the same directory and, for the listeners' sake, on new ports.
    pub(super) fn restart(&mut self) -> Result<(), Problem> {
        self.signal(Signal::TERM)?;
        self.child = spawn(&self.directory, &self.variables)?;
        self.await_serving()
    }

    /// Kills it without a warning and starts it again.
    pub(super) fn kill_and_restart(&mut self) -> Result<(), Problem> {
        self.signal(Signal::KILL)?;
        self.child = spawn(&self.directory, &self.variables)?;
        self.await_serving()
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Problem> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("the daemon has no process")?, signal)?;
        let deadline = clock::instant() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if deadline < clock::instant() {
                return Err("the daemon does not stop".into());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Reads its log until it says where it serves. The log goes on in a file.
    fn await_serving(&mut self) -> Result<(), Problem> {
        let begun = clock::instant();
        let log = self.directory.join("log");
        loop {
            if let Some(listeners) = serving(&log)? {
                self.startup = begun.elapsed();
                self.listeners = listeners;
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || PATIENCE < begun.elapsed() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the daemon does not start:\n{said}").into());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What cannot be killed is dead already; what cannot be removed is left to whoever cleans the directory.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &Path, variables: &[(&'static str, String)]) -> Result<Child, Problem> {
    let log = File::create(directory.join("log"))?;
    let child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .env("TIDEMILL_DATA_DIR", directory.join("data"))
        .env("XDG_CONFIG_HOME", directory.join("config"))
        .env("TIDEMILL_LISTEN_TCP", "127.0.0.1:0")
        .env("TIDEMILL_LISTEN_QUIC", "127.0.0.1:0")
        .env("TIDEMILL_LISTEN_TLS", "127.0.0.1:0")
        .env("TIDEMILL_LOG_FORMAT", "json")
        .env_remove("TIDEMILL_CONFIG")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(child)
}

/// The listeners, once the log names them.
fn serving(log: &Path) -> Result<Option<Vec<(String, String)>>, Problem> {
    for line in BufReader::new(File::open(log)?).lines() {
        let line: Value = match serde_json::from_str(&line?) {
            Ok(line) => line,
            // The last line may be half written.
            Err(_) => continue,
        };
        if line["message"] == "serving" {
            let listeners = line["listeners"].as_str().unwrap_or_default();
            let listeners = listeners.split(' ').filter_map(|url| url.split_once("://"));
            return Ok(Some(
                listeners.map(|(name, at)| (name.to_owned(), at.to_owned())).collect(),
            ));
        }
    }
    Ok(None)
}
