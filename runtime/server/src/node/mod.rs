//! One node: everything started in order, and stopped in the opposite one.
mod compiler;
mod event;
mod find_time;
mod modules;
mod readers;
mod reading;
mod recover;
pub mod sequencer;
mod state_page;
mod state_reader;
mod status;
mod turn;

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use tidemill_broker::Broker;
use tidemill_protocol::admin::NodeStatus;
use tidemill_storage::{Error, Settled, Settling, Writer};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

pub use self::compiler::{COMMAND as COMPILE_COMMAND, child as compile_child};
pub(crate) use self::{
    compiler::Compiler,
    event::{Event, Events},
};
use self::{
    modules::Modules,
    readers::Readers,
    recover::{Recovered, recover},
    sequencer::Local,
    state_reader::ModuleState,
    status::Status,
    turn::{End, Open, Turn},
};
use crate::{
    clock::{self, Clock},
    config::{Config, split_host_port},
    data_dir::{self, DataDir},
    error::StartError,
    limits,
    net::{Addresses, Gate, Network, Sockets},
    tls,
};

/// A running daemon. Several may live in one process, each on its own data directory.
///
/// Dropping it stops it at once, without waiting for requests in work; what was acknowledged is durable all the same.
pub struct Node {
    addresses: Addresses,
    grace: Duration,
    stop: watch::Sender<bool>,
    gate: Gate,
    events: Events,
    failed: watch::Receiver<Option<String>>,
    network: Option<Network>,
    settling: Option<Settling>,
    _dir: DataDir,
}

impl Node {
    /// Starts a node: data directory, sockets, certificates, recovery, threads. Blocks until it serves.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        let dir = DataDir::open(&config.data_dir)?;
        let (sockets, addresses) = Sockets::bind(&config.listen)?;
        let (host, port) = advertised(&config, addresses);
        let tls = tls::configs(&config, &certificate_names(&config, addresses, &host))?;
        let recovered = recover(dir.path(), &config.storage)?;

        let (events, inbox) = mpsc::unbounded_channel();
        let (stop, stopping) = watch::channel(false);
        let (fail, failed) = watch::channel(None);
        let connections = Arc::new(AtomicU32::new(0));
        let compiler = Arc::new(Compiler::new(dir.modules(), &config.modules));
        let gate = Gate::new(
            &config,
            Arc::clone(&compiler),
            events.clone(),
            Arc::clone(&connections),
            stopping,
        );
        let status = Status {
            fixed: NodeStatus {
                cluster_id: dir.cluster_id.clone(),
                node_id: config.node_id,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: clock::wall_ms(),
                data_dir: config.data_dir.display().to_string(),
                listeners: addresses.urls(),
                ..NodeStatus::default()
            },
            connections,
        };
        let core = core_config(&config, dir.cluster_id.clone(), host.clone(), port)?;
        let (turn, settling) = turn(&config, core, recovered, compiler, status, events.clone())?;
        let run = async move {
            if let End::Failed(message) = turn.run(inbox).await {
                tracing::error!("{message}");
                let _ = fail.send(Some(message));
            }
        };
        let network = Network::start(&config, sockets, &tls, &host, &gate, run)?;
        tracing::info!(
            data_dir = %config.data_dir.display(),
            listeners = %addresses.urls().join(" "),
            advertised = %format!("{host}:{port}"),
            "serving"
        );
        let grace = config.shutdown.grace.duration();
        Ok(Self {
            addresses,
            grace,
            stop,
            gate,
            events,
            failed,
            network: Some(network),
            settling: Some(settling),
            _dir: dir,
        })
    }

    /// Where it can be reached, with the ports that it really got.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Returns when the node cannot go on, with the reason. It must be started anew then: recovery is the only second chance.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        let message = failed.wait_for(Option::is_some).await.map(|message| message.clone());
        message
            .ok()
            .flatten()
            .unwrap_or_else(|| "the node's thread has ended".to_owned())
    }

    /// Stops: takes nothing new, answers what is in work as long as the grace period lasts, settles, closes.
    pub async fn shutdown(mut self) {
        let drain = async {
            let _ = self.stop.send(true);
            let (done, drained) = oneshot::channel();
            let _ = self.events.send(Event::Drain(done));
            let _ = drained.await;
            self.gate.quiet().await;
        };
        if timeout(self.grace, drain).await.is_err() {
            tracing::warn!(
                grace_ms = u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
                "requests in work are cut off: the grace period is over"
            );
        }
        self.close();
    }

    fn close(&mut self) {
        let _ = self.stop.send(true);
        if let Some(network) = self.network.take() {
            network.close();
        }
        // The journal has been closed with the loop; now everything is settled, so that the next start has nothing to replay.
        drop(self.settling.take());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.close();
    }
}

/// Host and port that Metadata names.
fn advertised(config: &Config, addresses: Addresses) -> (String, u16) {
    if let Some((host, port)) = split_host_port(&config.listen.advertised) {
        return (host.to_owned(), port);
    }
    // QUIC may be reached from elsewhere while plain TCP is loopback only, so its address says more.
    let address = addresses.quic.or(addresses.tcp).or(addresses.tls);
    let Some(address) = address else {
        return ("127.0.0.1".to_owned(), 9092);
    };
    let host = if address.ip().is_unspecified() {
        host_name()
    } else {
        address.ip().to_string()
    };
    (host, address.port())
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}

/// All names by which a client may reach the node.
fn certificate_names(config: &Config, addresses: Addresses, advertised: &str) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        host_name(),
        advertised.to_owned(),
    ];
    let listened = [addresses.tcp, addresses.tls, addresses.quic].into_iter().flatten();
    names.extend(
        listened
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    names.extend(config.tls.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn core_config(
    config: &Config,
    cluster_id: String,
    host: String,
    port: u16,
) -> Result<tidemill_broker::Config, StartError> {
    let ms = |span: crate::config::Span| i32::try_from(span.0).unwrap_or(i32::MAX);
    Ok(tidemill_broker::Config {
        cluster_id,
        node_id: config.node_id,
        advertised_host: host,
        advertised_port: port,
        auto_create_topics: config.topics.auto_create,
        default_partitions: config.topics.partitions,
        group_initial_rebalance_delay_ms: config.groups.initial_rebalance_delay.millis(),
        group_session_timeout_ms: (
            ms(config.groups.session_timeout_min),
            ms(config.groups.session_timeout_max),
        ),
        group_heartbeat_interval_ms: ms(config.groups.consumer_heartbeat_interval),
        group_consumer_session_timeout_ms: ms(config.groups.consumer_session_timeout),
        seed: u64::from_le_bytes(data_dir::random()?),
    })
}

fn turn(
    config: &Config,
    core: tidemill_broker::Config,
    recovered: Recovered,
    compiler: Arc<Compiler>,
    status: Status,
    events: Events,
) -> Result<(Turn, Settling), StartError> {
    let Recovered {
        storage,
        journal,
        settler,
        state,
        last,
    } = recovered;
    let failing = events.clone();
    let writer = Writer::spawn(
        journal,
        Box::new(move |error| drop(failing.send(Event::Failed(error.to_string())))),
    );
    let settling = Settling::spawn(settler, Box::new(on_settled(events.clone())));
    let node = u32::try_from(config.node_id).unwrap_or(0);
    let state_reader = Arc::new(ModuleState::new(storage.clone(), events.clone()));
    let turn = Turn {
        clock: Clock::start(),
        sequencer: Local::new(writer, events.clone(), node, last, state.time),
        broker: Broker::new(core, state),
        storage,
        readers: Readers::start("reader", limits::READERS)?,
        modules: Modules::new(compiler, state_reader, config.modules.lanes, events.clone())?,
        status,
        events,
        open: Open::default(),
    };
    Ok((turn, settling))
}

/// A full disk is waited out; anything else ends the node.
fn on_settled(events: Events) -> impl FnMut(Result<Settled, Error>) + Send {
    move |round| match round {
        Ok(_) => {}
        Err(error) if error.is_retriable() => tracing::warn!(%error, "cannot settle yet"),
        Err(error) => drop(events.send(Event::Failed(error.to_string()))),
    }
}
