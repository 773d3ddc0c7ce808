//! What is measured: a daemon started for the purpose, or any broker that runs already.
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tidemill_client::{Client, management::NodeStatus};

use super::Problem;
use super::daemon::Daemon;
use super::report::{Journal, Report};
use super::usage::{Process, Usage};
use super::wire::{self, Connection, Dial, Transport};
use crate::data_dir;

/// Where to measure, and how to get there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Target")]
pub(super) struct TargetArgs {
    /// A broker that runs already, Tidemill or any other of Kafka's protocol; without it a throw-away daemon is started.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// What carries the requests.
    #[arg(long, value_enum, default_value_t = Transport::Quic)]
    transport: Transport,
    /// Whose client makes the load: our SDK (QUIC only) or a plain one on the bare protocol. Default: the SDK over QUIC,
    /// the plain one over TCP and TLS.
    #[arg(long, value_enum)]
    client: Option<ClientKind>,
    /// PEM file of the certificate authority to trust, with --bootstrap.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Process of the broker, with --bootstrap: its processor time and memory are then measured too.
    #[arg(long, value_name = "PROCESS")]
    pid: Option<u32>,
    /// Where the throw-away daemon keeps its data; it should be on the disk that matters.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    directory: PathBuf,
    /// Topic to create and delete; without it one with a random name.
    #[arg(long, value_name = "NAME")]
    pub(super) topic: Option<String>,
}

/// Whose client makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientKind {
    /// The producer and consumer of our SDK, record by record.
    Sdk,
    /// A plain client that makes and reads whole batches.
    Wire,
}

/// A target that answers.
pub(super) struct Target {
    pub(super) dial: Dial,
    pub(super) kind: ClientKind,
    pub(super) address: String,
    pub(super) topic: String,
    pub(super) daemon: Option<Daemon>,
    /// Where QUIC is, if it is: the only place that tells what the daemon says of itself.
    quic: Option<String>,
    process: Option<Process>,
    notes: Vec<String>,
}

/// What broker and client had used at one moment.
pub(super) struct Before {
    daemon: Option<Usage>,
    own: Option<Usage>,
    node: Option<NodeStatus>,
}

impl Target {
    /// Starts a daemon, or gets ready for the broker named.
    pub(super) async fn prepare(args: &TargetArgs) -> Result<Target, Problem> {
        Target::prepare_with(args, Vec::new()).await
    }

    /// The same, with variables for a daemon that is started.
    pub(super) async fn prepare_with(
        args: &TargetArgs,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Target, Problem> {
        let kind = args.client.unwrap_or(match args.transport {
            Transport::Quic => ClientKind::Sdk,
            Transport::Tcp | Transport::Tls => ClientKind::Wire,
        });
        if kind == ClientKind::Sdk && args.transport != Transport::Quic {
            return Err("the SDK speaks QUIC only: use --client wire with this transport".into());
        }
        let topic = match &args.topic {
            Some(topic) => topic.clone(),
            None => format!("bench-{:08x}", u32::from_be_bytes(data_dir::random()?)),
        };
        let mut target = match &args.bootstrap {
            None => Target::own(args, kind, topic, variables)?,
            Some(address) => Target::running(args, kind, address, topic),
        };
        if target.process.is_none() {
            target.process = target.find_process().await;
        }
        if target.process.is_none() {
            target.notes.push(
                "the broker's processor time and memory are not measured: name its process with --pid".to_owned(),
            );
        }
        Ok(target)
    }

    fn own(
        args: &TargetArgs,
        kind: ClientKind,
        topic: String,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Target, Problem> {
        let daemon = Daemon::start(&args.directory, variables)?;
        let mut target = Target {
            dial: Dial {
                transport: args.transport,
                ca: Some(daemon.ca()),
            },
            kind,
            address: String::new(),
            topic,
            quic: None,
            process: None,
            daemon: Some(daemon),
            notes: Vec::new(),
        };
        target.locate()?;
        if let Some(system) = volatile_file_system(&args.directory) {
            let directory = args.directory.display();
            target.notes.push(format!(
                "{directory} is a {system}, which forgets: nothing here is durable; give another with --directory"
            ));
        }
        Ok(target)
    }

    fn running(args: &TargetArgs, kind: ClientKind, address: &str, topic: String) -> Target {
        Target {
            dial: Dial {
                transport: args.transport,
                ca: args.ca.clone(),
            },
            kind,
            address: address.to_owned(),
            topic,
            daemon: None,
            // Tidemill serves TCP and QUIC on one port unless told otherwise.
            quic: (args.transport != Transport::Tls).then(|| address.to_owned()),
            process: args.pid.map(Process),
            notes: Vec::new(),
        }
    }

    /// Takes over where the throw-away daemon listens now.
    pub(super) fn locate(&mut self) -> Result<(), Problem> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        self.address = daemon.address(&format!("kafka+{}", self.dial.transport.name()))?;
        self.quic = Some(daemon.address("kafka+quic")?);
        self.process = Some(Process(daemon.pid()));
        Ok(())
    }

    /// A connection for everything that is not measured.
    pub(super) async fn connect(&self) -> Result<Connection, Problem> {
        self.dial.connect(&self.address).await
    }

    /// A client of our SDK.
    pub(super) async fn sdk(&self) -> Result<Client, Problem> {
        let address = self.quic.as_deref().unwrap_or(&self.address);
        sdk(address, self.dial.ca.as_deref()).await
    }

    /// Creates the topic.
    pub(super) async fn create_topic(&self, partitions: i32) -> Result<wire::Topic, Problem> {
        let mut connection = self.connect().await?;
        wire::create_topic(&mut connection, &self.topic, partitions).await?;
        wire::topic(&mut connection, &self.topic).await
    }

    /// Deletes the topic from a broker that goes on running.
    pub(super) async fn clean_up(&self) -> Result<(), Problem> {
        if self.daemon.is_some() {
            return Ok(());
        }
        wire::delete_topic(&mut self.connect().await?, &self.topic).await
    }

    /// What everybody has used up to now.
    pub(super) async fn before(&self) -> Before {
        Before {
            node: self.node_status().await,
            daemon: self.process.and_then(Process::usage),
            own: Process::own().usage(),
        }
    }

    /// Adds to a report what was used since, while `bytes` were moved, and what is known about the target.
    pub(super) async fn after(&self, before: Before, bytes: u64, report: &mut Report) {
        let daemon = self.process.and_then(Process::usage);
        report.daemon = before.daemon.zip(daemon).map(|(before, now)| before.until(now, bytes));
        report.client = before
            .own
            .zip(Process::own().usage())
            .map(|(before, now)| before.until(now, bytes));
        report.journal = before.node.zip(self.node_status().await).map(|(before, now)| {
            let (commits, bytes) = (
                now.journal_commits.saturating_sub(before.journal_commits),
                now.journal_bytes.saturating_sub(before.journal_bytes),
            );
            Journal {
                commits,
                bytes,
                bytes_per_commit: bytes.checked_div(commits),
            }
        });
        for note in &self.notes {
            if !report.notes.contains(note) {
                report.notes.push(note.clone());
            }
        }
    }

    /// What a report says about the target.
    pub(super) fn settings(&self) -> Vec<(&'static str, Value)> {
        let client = match self.kind {
            ClientKind::Sdk => "sdk",
            ClientKind::Wire => "wire",
        };
        let target = match self.daemon {
            Some(_) => json!("throw-away daemon"),
            None => json!(self.address),
        };
        vec![
            ("target", target),
            ("transport", json!(self.dial.transport.name())),
            ("client", json!(client)),
        ]
    }

    /// What the daemon says of itself. Only Tidemill does, and only over QUIC.
    async fn node_status(&self) -> Option<NodeStatus> {
        let client = self.management().await?;
        let status = client.admin().node_status().await.ok();
        client.close().await;
        status
    }

    async fn management(&self) -> Option<Client> {
        let address = self.quic.as_deref()?;
        // A broker without QUIC never answers: that must not hold the measurement up for long.
        let connect = sdk(address, self.dial.ca.as_deref());
        tokio::time::timeout(Duration::from_secs(2), connect).await.ok()?.ok()
    }

    /// The process whose id is in the data directory of the daemon that answers, if that is on this machine.
    async fn find_process(&self) -> Option<Process> {
        let status = self.node_status().await?;
        let text = std::fs::read_to_string(Path::new(&status.data_dir).join("pid")).ok()?;
        let process = Process(text.trim().parse().ok()?);
        process.usage().map(|_| process)
    }
}

/// A client of our SDK that a slow measurement does not make impatient.
pub(super) async fn sdk(address: &str, ca: Option<&Path>) -> Result<Client, Problem> {
    let builder = Client::builder().bootstrap(address).client_id("tidemill-bench");
    let builder = match ca {
        Some(file) => builder.ca_file(file),
        None => builder,
    };
    Ok(builder.connect().await?)
}

/// The name of a file system that keeps nothing.
pub(super) fn volatile_file_system(directory: &Path) -> Option<&'static str> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let found = rustix::fs::statfs(directory).ok()?;
    match u64::try_from(found.f_type).ok()? & 0xffff_ffff {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        _ => None,
    }
}

impl Before {
    /// The broker's bytes in memory.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        self.daemon.map(|daemon| daemon.rss_bytes)
    }
}
