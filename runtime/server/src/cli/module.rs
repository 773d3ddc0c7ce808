//! `tidemill module`: deploy, list, status, logs, pause, resume, delete.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;
use tidemill_client::management::{Answer, LogLine, ModuleStatus};
use tidemill_client::{Admin, Deploy};
use tidemill_protocol::manifest::{Manifest, Moment};

use super::Failure;
use super::remote::{Remote, block_on, explained, print, print_table, table};

/// The manifest's name in a module's folder.
const MANIFEST: &str = "module.toml";

/// Deploy Wasm modules, look at them, stop and start them.
#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deploy a module, or a new version of it.
    #[command(after_help = "Examples:
  tidemill module deploy guest-examples/redact
  tidemill module deploy module.toml --component target/wasm32-wasip2/release/redact.wasm --no-wait")]
    Deploy {
        /// Folder with a `module.toml`, or the manifest itself.
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The component, instead of the one that the manifest names.
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
        /// Return when the deployment is durable, not only when the module runs.
        #[arg(long)]
        no_wait: bool,
        /// Progress as JSON objects, one a line.
        #[arg(long)]
        json: bool,
    },
    /// List modules.
    List {
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show a module: what it is doing, how far it is, why it stopped.
    #[command(after_help = "Example:\n  tidemill module status redact --json | jq .counters")]
    Status {
        /// Name.
        module: String,
        /// A JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print what a module logs.
    #[command(after_help = "Example:\n  tidemill module logs redact --follow")]
    Logs {
        /// Name.
        module: String,
        /// Go on with what it logs from now on.
        #[arg(long, short)]
        follow: bool,
        /// How many of the last lines to print first.
        #[arg(long, default_value_t = 100, value_name = "LINES")]
        tail: u32,
        /// JSON objects, one a line.
        #[arg(long)]
        json: bool,
    },
    /// Stop a module; its offsets and state are kept.
    Pause {
        /// Name.
        module: String,
        /// Shown in `status`.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let a module go on where it stopped.
    Resume {
        /// Name.
        module: String,
    },
    /// Remove a module, its state and its committed offsets.
    Delete {
        /// Name.
        module: String,
    },
}

impl Group {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        block_on(async {
            // Read before a daemon is looked for: a mistake in a file is told at once.
            let work = self.command.prepare()?;
            let client = self.remote.connect().await?;
            let done = work.run(&client.admin()).await;
            client.close().await;
            done.map(|()| ExitCode::SUCCESS)
        })
    }
}

/// A command whose files are read.
enum Work {
    Deploy(Box<Deploy>, bool),
    Other(Command),
}

impl Command {
    fn prepare(self) -> Result<Work, Failure> {
        match self {
            Command::Deploy {
                path,
                component,
                no_wait,
                json,
            } => Ok(Work::Deploy(
                Box::new(read(&path, component.as_deref(), !no_wait)?),
                json,
            )),
            other => Ok(Work::Other(other)),
        }
    }
}

impl Work {
    async fn run(self, admin: &Admin) -> Result<(), Failure> {
        match self {
            Work::Deploy(deploy, json) => self::deploy(admin, *deploy, json).await,
            Work::Other(command) => command.run(admin).await,
        }
    }
}

impl Command {
    async fn run(self, admin: &Admin) -> Result<(), Failure> {
        match self {
            // Taken out by `prepare`.
            Command::Deploy { .. } => Ok(()),
            Command::List { json } => list(admin, json).await,
            Command::Status { module, json } => {
                let status = admin.module_status(&module).await.map_err(explained)?;
                if json {
                    print(serde_json::to_string(&status)?)
                } else {
                    show(&status)
                }
            }
            Command::Logs {
                module,
                follow,
                tail,
                json,
            } => logs(admin, &module, follow, tail, json).await,
            Command::Pause { module, reason } => {
                admin.pause_module(&module, reason).await.map_err(explained)?;
                print(format_args!(
                    "{module} is paused: `tidemill module resume {module}` lets it go on"
                ))
            }
            Command::Resume { module } => {
                admin.resume_module(&module).await.map_err(explained)?;
                print(format_args!("{module} goes on"))
            }
            Command::Delete { module } => {
                admin.delete_module(&module).await.map_err(explained)?;
                print(format_args!(
                    "deleted {module} and its state; the offsets of its group are kept"
                ))
            }
        }
    }
}

/// Reads manifest and component.
fn read(path: &Path, component: Option<&Path>, wait: bool) -> Result<Deploy, Failure> {
    let manifest_path = if path.is_dir() {
        path.join(MANIFEST)
    } else {
        path.to_owned()
    };
    let shown = manifest_path.display();
    let text = std::fs::read_to_string(&manifest_path).map_err(|e| format!("{shown}: {e}"))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|e| format!("{shown}: {}", e.to_string().trim_end()))?;
    let component_path = match (component, &manifest.module.component) {
        (Some(given), _) => given.to_owned(),
        (None, Some(named)) => manifest_path.parent().unwrap_or(Path::new(".")).join(named),
        (None, None) => return Err(format!("{shown}: name the component in [module], or give --component").into()),
    };
    let shown = component_path.display();
    let component = std::fs::read(&component_path).map_err(|e| {
        format!("{shown}: {e}; build it with `cargo build --target wasm32-wasip2 --release`, or give --component")
    })?;
    Ok(Deploy {
        wait,
        ..Deploy::new(manifest, component)
    })
}

async fn deploy(admin: &Admin, deploy: Deploy, json: bool) -> Result<(), Failure> {
    let (name, version) = (
        deploy.manifest.module.name.clone(),
        deploy.manifest.module.version.clone(),
    );
    let is_waited_for = deploy.wait;
    let mut answers = admin.deploy(deploy).await.map_err(explained)?;
    while let Some(answer) = answers.next().await.map_err(explained)? {
        match &answer {
            _ if json => print(serde_json::to_string(&answer)?)?,
            Answer::Progress { stage, message } if io::stderr().is_terminal() => {
                writeln!(io::stderr(), "{stage}: {message}")?;
            }
            _ => {}
        }
    }
    match (json, is_waited_for) {
        (true, _) => Ok(()),
        (false, true) => print(format_args!(
            "{name} {version} runs: `tidemill module status {name}` shows how far it is"
        )),
        (false, false) => print(format_args!(
            "{name} {version} is deployed: `tidemill module status {name}` shows when it runs"
        )),
    }
}

async fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
    let modules = admin.list_modules().await.map_err(explained)?;
    if json {
        let rows: Result<Vec<Value>, _> = modules.iter().map(serde_json::to_value).collect();
        return print(Value::Array(rows?));
    }
    let mut rows = table(["module", "version", "state", "in", "out", "given up", "lag", "reason"]);
    for module in &modules {
        rows.add_row(vec![
            module.module.clone(),
            module.version.clone(),
            state(module),
            module.counters.records_in.to_string(),
            module.counters.records_out.to_string(),
            module.counters.given_up.to_string(),
            lag(module).to_string(),
            module.reason.clone().unwrap_or_default(),
        ]);
    }
    print_table(&rows, "no modules: deploy one with `tidemill module deploy FOLDER`")
}

fn show(module: &ModuleStatus) -> Result<(), Failure> {
    print(format_args!(
        "{} {}  {}, deployed {}, digest {}",
        module.module,
        module.version,
        state(module),
        Moment(module.deployed_at),
        module.digest,
    ))?;
    if let Some(reason) = &module.reason {
        print(format_args!("reason: {reason}"))?;
    }
    let counters = &module.counters;
    print(format_args!(
        "records in {}, out {}, given up {}; batches {}; failed runs {}; refused commits {}",
        counters.records_in,
        counters.records_out,
        counters.given_up,
        counters.batches,
        counters.failures,
        counters.refused,
    ))?;
    let mut rows = table([
        "task",
        "phase",
        "input",
        "position",
        "end",
        "lag",
        "attempt",
        "last error",
    ]);
    for task in &module.tasks {
        for input in &task.inputs {
            rows.add_row(vec![
                task.number.to_string(),
                format!("{:?}", task.phase).to_lowercase(),
                input.topic.clone(),
                input.position.to_string(),
                input.high_watermark.to_string(),
                input.lag.to_string(),
                task.attempt.to_string(),
                task.last_error.clone().unwrap_or_default(),
            ]);
        }
    }
    print_table(&rows, "no tasks")
}

fn state(module: &ModuleStatus) -> String {
    format!("{:?}", module.state).to_lowercase()
}

fn lag(module: &ModuleStatus) -> i64 {
    module
        .tasks
        .iter()
        .flat_map(|task| &task.inputs)
        .map(|input| input.lag)
        .sum()
}

async fn logs(admin: &Admin, module: &str, follow: bool, tail: u32, json: bool) -> Result<(), Failure> {
    let mut answers = admin.module_logs(module, tail, follow).await.map_err(explained)?;
    loop {
        let line = tokio::select! {
            line = answers.next_log() => line.map_err(explained)?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match line {
            None => return Ok(()),
            Some(line) if json => print(serde_json::to_string(&line)?)?,
            Some(line) => print(logged(&line))?,
        }
    }
}

fn logged(line: &LogLine) -> String {
    let at = line
        .at
        .as_ref()
        .map(|at| format!(" {}-{}@{}", at.topic, at.partition, at.offset))
        .unwrap_or_default();
    format!(
        "{} {:5} task {}{at}: {}",
        Moment(line.time),
        line.level,
        line.task,
        line.message
    )
}
