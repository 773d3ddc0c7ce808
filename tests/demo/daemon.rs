//! The daemon of the demo: the real binary, in a process of its own, on a directory of its own.
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidemill_client::Client;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Daemon {
    child: Child,
    dir: TempDir,
    starts: usize,
    pub address: String,
    pub startup: Duration,
}

impl Daemon {
    /// Starts on a fresh directory and a free port.
    pub fn start() -> Result<Daemon> {
        let dir = tempfile::Builder::new().prefix("tidemill-demo-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let started = Instant::now();
        let child = spawn(&dir, &address)?;
        let mut daemon = Daemon {
            child,
            dir,
            starts: 0,
            address,
            startup: Duration::ZERO,
        };
        daemon.wait()?;
        daemon.startup = started.elapsed();
        Ok(daemon)
    }

    pub async fn client(&self) -> Result<Client> {
        let ca = self.dir.path().join("config/tidemill/ca.pem");
        Ok(Client::builder()
            .bootstrap(&self.address)
            .ca_file(ca)
            .client_id("demo")
            .connect()
            .await?)
    }

    /// Deploys a module with the command line, as a person would, and waits until it runs.
    pub fn deploy(&self, manifest: &Path) -> Result<()> {
        let mut command = tidemill(&self.dir, &self.address)?;
        let output = command.args(["module", "deploy"]).arg(manifest).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(said.into())
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts again on the same directory; how long until it serves.
    pub fn restart(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.child = spawn(&self.dir, &self.address)?;
        self.wait()?;
        Ok(started.elapsed())
    }

    /// SIGTERM, and waits.
    pub fn terminate(&mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the daemon did not stop cleanly: {status}").into())
        }
    }

    /// What the command line needs in the environment.
    pub fn exports(&self) -> String {
        let ca = self.dir.path().join("config/tidemill/ca.pem");
        format!("TIDEMILL_BROKER={} TIDEMILL_CA={}", self.address, ca.display())
    }

    /// Gives up ownership: process and directory stay. The process id.
    pub fn leave(self) -> u32 {
        let _ = self.dir.keep();
        self.child.id()
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.starts += 1;
        while fs::read_to_string(log(&self.dir))?.matches(" serving ").count() < self.starts {
            if self.child.try_wait()?.is_some() || deadline < Instant::now() {
                return Err(format!("the daemon did not start:\n{}", fs::read_to_string(log(&self.dir))?).into());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }
}

fn log(dir: &TempDir) -> PathBuf {
    dir.path().join("daemon.log")
}

fn spawn(dir: &TempDir, address: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log(dir))?;
    let mut command = tidemill(dir, address)?;
    command
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command.spawn()?)
}

/// The binary beside this one, told where the demo keeps things.
fn tidemill(dir: &TempDir, address: &str) -> Result<Command> {
    let binary = std::env::current_exe()?.with_file_name("tidemill");
    if !binary.exists() {
        return Err(format!("{} is missing: run the demo by `cargo xtask demo`", binary.display()).into());
    }
    let mut command = Command::new(binary);
    command
        .env("TIDEMILL_DATA_DIR", dir.path().join("data"))
        .env("XDG_CONFIG_HOME", dir.path().join("config"));
    command
        .env("TIDEMILL_LISTEN_TCP", address)
        .env("TIDEMILL_LISTEN_QUIC", address)
        .env("TIDEMILL_BROKER", address);
    Ok(command)
}
