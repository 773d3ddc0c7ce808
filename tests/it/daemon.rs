//! A real daemon in a process of its own, on a fresh directory and free ports; and waiting for things without sleeping blindly.
use std::{
    fs::File,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything may take on a busy machine before a test calls it lost.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidemill serve`. Killed when dropped.
pub struct Daemon {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    /// How often the process was started.
    starts: usize,
    settings: Vec<(String, String)>,
}

impl Daemon {
    /// Starts with the defaults, but for ports, directories, and shorter group timeouts.
    pub fn start() -> Daemon {
        Daemon::with(&[])
    }

    /// Starts with more settings, as environment variables without their prefix `TIDEMILL_`.
    pub fn with(settings: &[(&str, &str)]) -> Daemon {
        let defaults = [
            ("GROUPS_INITIAL_REBALANCE_DELAY", "50ms"),
            ("GROUPS_SESSION_TIMEOUT_MIN", "1s"),
            ("GROUPS_CONSUMER_SESSION_TIMEOUT", "3s"),
            ("GROUPS_CONSUMER_HEARTBEAT_INTERVAL", "200ms"),
        ];
        let settings = defaults
            .iter()
            .chain(settings)
            .map(|(k, v)| (format!("TIDEMILL_{k}"), (*v).to_owned()))
            .collect();
        let mut daemon = Daemon {
            child: None,
            dir: TempDir::new().unwrap(),
            port: free_port(),
            starts: 0,
            settings,
        };
        daemon.restart();
        daemon
    }

    /// What the next start is told besides, or instead.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.push((format!("TIDEMILL_{key}"), value.to_owned()));
    }

    /// Starts the process again on the same directory and port.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = self
            .tidemill()
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.starts += 1;
        until("the daemon serves", || {
            self.log().matches(" serving ").count() == self.starts || self.has_exited()
        });
        let exited = self.has_exited();
        assert!(!exited, "the daemon did not start:\n{}", self.log());
    }

    /// SIGKILL: no chance to write anything.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it runs");
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        child.wait().unwrap().code()
    }

    /// The binary, told where this daemon keeps things and listens.
    pub fn tidemill(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env("TIDEMILL_DATA_DIR", self.data_dir())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("TIDEMILL_LISTEN_TCP", self.address())
            .env("TIDEMILL_LISTEN_QUIC", self.address())
            .env("TIDEMILL_BROKER", self.address())
            .envs(self.settings.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs the command line and expects success; what it printed.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.tidemill().args(args).stdin(Stdio::null()).output().unwrap();
        text(&output, &format!("tidemill {}", args.join(" ")))
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The CA certificate that clients of the same user find.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("config/tidemill/ca.pem")
    }

    /// A folder for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    fn has_exited(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| child.try_wait().unwrap().is_some())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
    }
}

/// Where cargo put the daemon: beside this test binary's `deps`.
pub fn binary() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let path = me.ancestors().nth(2).unwrap().join("tidemill");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins`, as `cargo xtask test` does",
        path.display()
    );
    path
}

/// A port free for both TCP and UDP.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both TCP and UDP");
}

/// Standard output of a process that succeeded.
pub fn text(output: &Output, what: &str) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Waits for a condition, with a deadline.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn sigterm_drains_and_exits_with_zero() {
    let mut daemon = Daemon::start();
    daemon.run(&["topic", "create", "t", "--partitions", "1"]);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    daemon.restart();
    assert!(daemon.run(&["topic", "list"]).contains('t'));
}

#[test]
fn what_cannot_start_says_why() {
    let daemon = Daemon::start();
    let second = daemon
        .tidemill()
        .arg("serve")
        .env("TIDEMILL_LISTEN_TCP", "127.0.0.1:0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains(daemon.data_dir().to_str().unwrap()),
        "a second daemon on the directory: {said}"
    );

    let other = daemon.scratch().join("other");
    let busy = daemon
        .tidemill()
        .arg("serve")
        .env("TIDEMILL_DATA_DIR", &other)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(
        !busy.status.success() && said.contains(&daemon.address()),
        "a port in use: {said}"
    );

    let foreign = daemon.scratch().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("holiday.jpg"), b"not ours").unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    let mut command = daemon.tidemill();
    command
        .env("TIDEMILL_DATA_DIR", &foreign)
        .env("TIDEMILL_LISTEN_TCP", &free)
        .env("TIDEMILL_LISTEN_QUIC", &free);
    let refused = command.arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("holiday.jpg"),
        "a foreign file: {said}"
    );
}

#[test]
fn a_nearly_full_disk_refuses_records_and_goes_on_reading_and_deleting() {
    let mut daemon = Daemon::start();
    for topic in ["t", "old"] {
        daemon.run(&["topic", "create", topic, "--partitions", "1"]);
    }
    produce(&daemon, "before\n").unwrap();
    daemon.kill();
    // Hardly a disk has so much room left: from here on it is nearly full.
    daemon.set("STORAGE_RESERVE_BYTES", "1024GiB");
    daemon.restart();
    until("the daemon has looked at the disk", || {
        produce(&daemon, "refused\n").is_err_and(|said| said.contains("KAFKA_STORAGE_ERROR"))
    });
    assert_eq!(
        daemon.run(&["consume", "t", "--from", "earliest", "--until-end"]),
        "before\n"
    );
    daemon.run(&["topic", "delete", "old"]);
    daemon.kill();
    daemon.set("STORAGE_RESERVE_BYTES", "1MiB");
    daemon.restart();
    produce(&daemon, "after\n").unwrap();
    let all = daemon.run(&["consume", "t", "--from", "earliest", "--until-end"]);
    assert_eq!(
        all, "before\nafter\n",
        "what was refused is nowhere, what was acknowledged is there"
    );
}

/// Produces to `t` with little patience; what it said when it gave up.
fn produce(daemon: &Daemon, input: &str) -> Result<(), String> {
    use std::io::Write;
    let mut command = daemon.tidemill();
    command.env("TIDEMILL_TIMEOUT", "2s").args(["produce", "t"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
