//! Components on disk, and their compilation in a child process with bounds.
//!
//! ```text
//! data/modules/<digest>.wasm             as it was deployed
//! data/modules/<digest>-<engine>.cwasm   compiled for this build and machine; made again when that changes
//! ```
//! The compiler is not hardened against components made to exhaust it. So it runs in a child of our own binary, which takes bounds on its
//! address space and processor time before it reads a byte, and is killed after a timeout.
mod early_end;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Instant,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use tidemill_host::{Artefacts, compile};
use tidemill_protocol::admin::Digest;

use self::early_end::{Bounds, EarlyEnd};
use crate::{clock, config::Modules, files, limits};

/// Name of the hidden command of our binary that compiles.
pub const COMMAND: &str = "compile-component";

/// Stores and compiles components, one at a time.
#[derive(Debug)]
pub(crate) struct Compiler {
    directory: PathBuf,
    bounds: Bounds,
    in_process: bool,
    /// Held by whoever compiles or deletes: what was staged, and when.
    turn: Mutex<BTreeMap<[u8; 32], Instant>>,
}

impl Compiler {
    pub(crate) fn new(directory: PathBuf, settings: &Modules) -> Self {
        Self {
            directory,
            bounds: Bounds {
                timeout: settings.compile_timeout.duration(),
                memory_bytes: settings.compile_memory.0,
            },
            in_process: settings.compile_in_process,
            turn: Mutex::default(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps a component and compiles it. Blocks. The error is for the person who deploys.
    pub(crate) fn stage(&self, digest: &[u8; 32], component: &[u8]) -> Result<(), String> {
        let mut staged = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        staged.insert(*digest, clock::instant());
        files::create_dir(&self.directory).map_err(|e| e.to_string())?;
        if self.is_staged(digest) {
            return Ok(());
        }
        self.compile(component)?;
        files::write_private(&self.component(digest), component).map_err(|e| e.to_string())
    }

    /// Makes sure that a stored component is compiled for this build. Blocks.
    pub(super) fn ensure(&self, digest: &[u8; 32], artefacts: &Artefacts) -> Result<(), String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if artefacts.contains(digest) {
            return Ok(());
        }
        let path = self.component(digest);
        let component =
            std::fs::read(&path).map_err(|e| format!("{}: {e}; deploy the module again", path.display()))?;
        if tidemill_host::digest(&component) != *digest {
            return Err(format!("{} is damaged; deploy the module again", path.display()));
        }
        self.compile(&component)
    }

    /// Deletes components and artefacts that are none of these. What was staged lately stays: its entry may be on the way. Blocks.
    pub(super) fn keep(&self, digests: &BTreeSet<[u8; 32]>) {
        let mut staged = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::instant();
        staged.retain(|_, since| now.duration_since(*since) < limits::STAGED_KEPT);
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            // Nothing was deployed yet.
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.get(..64)).and_then(Digest::parse);
            let Some(digest) = digest else { continue };
            if digests.contains(&digest.0) || staged.contains_key(&digest.0) {
                continue;
            }
            // What cannot be deleted now is tried again after the next change.
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "a component of no version cannot be deleted");
            }
        }
    }

    /// Whether a component is here and was compiled before, if perhaps for another build: loading sees to that.
    fn is_staged(&self, digest: &[u8; 32]) -> bool {
        let prefix = format!("{}-", Digest(*digest));
        let is_artefact = |name: &str| name.starts_with(&prefix) && name.ends_with(".cwasm");
        let mut entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        self.component(digest).is_file() && entries.any(|entry| entry.file_name().to_str().is_some_and(is_artefact))
    }

    fn component(&self, digest: &[u8; 32]) -> PathBuf {
        self.directory.join(format!("{}.wasm", Digest(*digest)))
    }

    fn compile(&self, component: &[u8]) -> Result<(), String> {
        if self.in_process {
            return compile::compile(component, &self.directory)
                .map(drop)
                .map_err(|e| e.to_string());
        }
        let program = std::env::current_exe().map_err(cannot_start)?;
        let mut command = Command::new(program);
        command
            .args([
                COMMAND,
                &self.bounds.memory_bytes.to_string(),
                &self.bounds.timeout.as_secs().max(1).to_string(),
            ])
            .arg(&self.directory)
            .env_clear();
        self.in_child(command, component)
    }

    /// Runs the child. The error is what it said; or, if it had no chance to say anything, how it ended and what to do about that.
    fn in_child(&self, mut command: Command, component: &[u8]) -> Result<(), String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(cannot_start)?;
        let said = self.converse(&mut child, component);
        // Killing what has ended already is no error worth a word.
        let _ = child.kill();
        let status = child.wait().map_err(cannot_start)?;
        let end = match said? {
            None => EarlyEnd::TimeIsUp,
            Some((line, complaint)) => match compile::parse_report(&line) {
                Some(report) => return report.map(drop),
                None => EarlyEnd::Ended(status, complaint),
            },
        };
        Err(end.explain(self.bounds))
    }

    /// Gives the child the component, and gives what it wrote when it is done; `None` when time is up.
    fn converse(&self, child: &mut Child, component: &[u8]) -> Result<Option<(String, String)>, String> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(errors)) = pipes else {
            return Ok(None);
        };
        let (said, heard) = mpsc::channel();
        let listen = move || {
            // What it complains about fits a pipe, or it is given up.
            let line = read(output);
            let _ = said.send((line, read(errors)));
        };
        std::thread::Builder::new()
            .name("compiling".into())
            .spawn(listen)
            .map_err(cannot_start)?;
        // A child that dies early closes the pipe; what it said tells why.
        let _ = input.write_all(component);
        drop(input);
        Ok(heard.recv_timeout(self.bounds.timeout).ok())
    }
}
/// As much as anybody wants to read.
fn read(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before it broke is what there is.
    let _ = pipe.take(64 << 10).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cannot_start(error: std::io::Error) -> String {
    format!("cannot start the compiler: {error}")
}

/// The whole life of the child process: takes its bounds, then compiles what comes on standard input. True if it could be compiled.
pub fn child(memory_bytes: u64, cpu_seconds: u64, directory: &Path) -> std::io::Result<bool> {
    let bound = |resource, value| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(value),
                maximum: Some(value),
            },
        )
    };
    bound(Resource::As, memory_bytes)?;
    // Compilation runs on several threads, and each counts.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    bound(Resource::Cpu, cpu_seconds.saturating_mul(threads))?;
    bound(Resource::Core, 0)?;
    compile::main_in_child(std::io::stdin().lock(), std::io::stdout().lock(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Span};

    /// What is said of a child that runs this script instead of the compiler.
    fn said_of(script: &str) -> String {
        let mut settings = Config::default().modules;
        settings.compile_timeout = Span::secs(1);
        let compiler = Compiler::new(PathBuf::new(), &settings);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        compiler.in_child(shell, b"component").unwrap_err()
    }

    #[test]
    fn a_child_that_ends_early_says_why_and_what_to_do() {
        for (script, words) in [
            (
                "cat > /dev/null; exec sleep 60",
                ["within 1 s", "`modules.compile-timeout`"],
            ),
            ("kill -KILL $$", ["processor time", "`modules.compile-timeout`"]),
            ("kill -XCPU $$", ["processor time", "`modules.compile-timeout`"]),
            (
                "echo 'memory allocation of 69648 bytes failed' >&2; kill -ABRT $$",
                ["4096 MiB", "`modules.compile-memory`"],
            ),
            (
                "echo \"thread 'main' panicked at isle.rs:7:\nno such rule\" >&2; exit 101",
                ["panicked", "no such rule"],
            ),
            ("kill -SEGV $$", ["SIGSEGV", "report it"]),
            ("echo error no component; exit 1", ["no component", ""]),
        ] {
            let said = said_of(script);
            assert!(words.iter().all(|word| said.contains(word)), "{script}: {said}");
        }
    }

    #[test]
    fn a_child_that_reports_is_believed() {
        let compiler = Compiler::new(PathBuf::new(), &Config::default().modules);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "cat > /dev/null; echo ok 17 wasi:cli/exit@0.2.3"]);
        assert_eq!(compiler.in_child(shell, &[0; 1 << 20]), Ok(()));
    }
}
