//! A peer's process: started on a directory of its own, measured, stopped and removed.
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Hundredths of a second, in which Linux counts processor time.
const TICKS: f64 = 100.0;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server of somebody else's.
pub(super) struct Server {
    child: Child,
    directory: PathBuf,
    pub(super) port: u16,
}

impl Server {
    /// Starts what `command` makes of a directory and a free port, and waits until it accepts connections.
    pub(super) fn start(
        name: &str,
        command: impl FnOnce(&Path, u16) -> Result<Command, String>,
    ) -> Result<Server, String> {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .map_err(|e| e.to_string())?
            .port();
        // On the disk that Tidemill is measured on, not on a file system in memory.
        let directory = Path::new("/var/tmp").join(format!("tidemill-bench-{name}-{}-{port}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let log = fs::File::create(directory.join("log")).map_err(|e| e.to_string())?;
        let child = command(&directory, port)?
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{name}: {e}"))?;
        let mut server = Server { child, directory, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let is_gone = server.child.try_wait().ok().flatten().is_some();
            if is_gone || deadline < Instant::now() {
                let said = fs::read_to_string(server.directory.join("log")).unwrap_or_default();
                return Err(format!("{name} does not start: {said}"));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor seconds so far.
    pub(super) fn cpu(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some((ticks()? + ticks()?) as f64 / TICKS)
    }

    /// The most memory there ever was.
    pub(super) fn peak_mib(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A percentile of unsorted nanoseconds, in milliseconds.
pub(super) fn percentile(sorted: &[u64], quantile: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(clippy::cast_possible_truncation, reason = "an index within the slice")]
    let at = (last as f64 * quantile).round() as usize;
    Some(sorted[at] as f64 / 1e6)
}

/// Waits exactly until a moment.
pub(super) fn until(moment: Instant) {
    loop {
        let now = Instant::now();
        if moment <= now {
            return;
        }
        std::thread::park_timeout(moment - now);
    }
}

/// Values to send: no two alike, compressible like text.
pub(super) fn values(bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 7u64;
    let mut chance = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 32
    };
    let one = |_| {
        let mut text = format!(
            "{{\"user\":\"u-{:07}\",\"page\":\"/cart\",\"session\":\"",
            chance() % 10_000_000
        );
        while text.len() < bytes {
            text.push_str(&format!("{:08x}Mozilla ", chance()));
        }
        text.truncate(bytes);
        text.into_bytes()
    };
    (0..256).map(one).collect()
}
