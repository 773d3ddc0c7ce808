//! Everything that can be set, with its default, its bounds and where its value came from.
//!
//! Four layers, each over the one before: the defaults here, one TOML file, environment variables (`TIDEMILL_` and the key in
//! capitals: `listen.tcp` is `TIDEMILL_LISTEN_TCP`), the command line. An unknown key in the file is refused, because a key that is
//! silently ignored is a setting that somebody believes in.
mod check;
mod load;
pub mod units;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use self::check::split_host_port;
pub use self::{
    load::{Loaded, Setting, config_file, config_home, load},
    units::{Size, Span},
};

/// The whole configuration of one daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept. One daemon at a time.
    pub data_dir: PathBuf,
    /// Number of this node, 0 to 2,147,483,647; it is in Metadata and in every entry.
    pub node_id: i32,
    /// Addresses.
    pub listen: Listen,
    /// Certificates.
    pub tls: Tls,
    /// What clients may make the daemon hold.
    pub network: Network,
    /// What new topics look like.
    pub topics: Topics,
    /// Consumer groups.
    pub groups: Groups,
    /// Journal and segments.
    pub storage: Storage,
    /// The Wasm host.
    pub modules: Modules,
    /// Logs.
    pub log: Log,
    /// SIGTERM and SIGINT.
    pub shutdown: Shutdown,
}

/// Addresses to listen on. Port 0 picks a free one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listen {
    /// Kafka over plain TCP. Loopback only, because nothing protects it; `"off"` closes it.
    pub tcp: Address,
    /// Kafka and management over QUIC (TLS 1.3). `"off"` closes it.
    pub quic: Address,
    /// Kafka over TLS over TCP.
    pub tls: Address,
    /// `host:port` that Metadata tells clients to connect to; empty: the address listened on, or the host's name for a wildcard.
    pub advertised: String,
}

/// Certificates. Without any of these the daemon makes a CA of its own at first start and a server certificate at every start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the server's certificate chain; needs `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// More names and addresses for the certificate that the daemon makes.
    pub names: Vec<String>,
    /// PEM file: clients must show a certificate signed by one of these. The first URI or DNS name in it is the principal.
    pub client_ca: Option<PathBuf>,
    /// Put the daemon's own CA certificate where clients of the same user look for it.
    pub publish_ca: bool,
}

/// What clients may make the daemon hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// Threads for TCP connections, 1 to 64. QUIC lives on the first, and so does the node's loop if there is only one.
    pub threads: usize,
    /// Largest request.
    pub frame_bytes_max: Size,
    /// Bytes of requests in work, all connections together; beyond it reading waits.
    pub request_bytes_max: Size,
    /// Requests in work, all connections together; beyond it reading waits.
    pub requests_max: usize,
    /// TCP and QUIC connections at once, each.
    pub connections_max: usize,
    /// A connection that says nothing for so long is closed. (TCP: 10 minutes at least are usual for Kafka clients.)
    pub idle_timeout: Span,
    /// The same for QUIC, whose clients keep alive by themselves.
    pub quic_idle_timeout: Span,
    /// Streams a QUIC connection may have open.
    pub quic_streams_max: u32,
    /// Bytes a QUIC connection may have sent that we have not read yet; half of it for one stream.
    pub quic_window: Size,
    /// Bound of QUIC's search for the path's largest packet.
    pub quic_mtu_max: u16,
}

/// What new topics look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Topics {
    /// Make a topic when a client first asks for it.
    pub auto_create: bool,
    /// Partitions of a topic that does not say how many.
    pub partitions: u32,
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Groups {
    /// Wait for so long for more members before the first assignment of a new group.
    pub initial_rebalance_delay: Span,
    /// Shortest session timeout that a classic member may ask for.
    pub session_timeout_min: Span,
    /// Longest session timeout that a classic member may ask for.
    pub session_timeout_max: Span,
    /// Session timeout of members of the new protocol (KIP-848).
    pub consumer_session_timeout: Span,
    /// Heartbeat interval of members of the new protocol.
    pub consumer_heartbeat_interval: Span,
}

/// Journal and segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Storage {
    /// A full segment file is closed and a new one begun.
    pub segment_bytes: Size,
    /// Appended bytes that wait in memory to be settled before writing is slowed down.
    pub tail_bytes_max: Size,
    /// Newest batches that stay in memory although they are settled, so that consumers that keep up need no disk.
    pub cache_bytes: Size,
    /// Free space of the disk at which writing is refused, retriably, so that reading and deleting go on.
    pub reserve_bytes: Size,
}

/// The Wasm host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Modules {
    /// Threads that run guests; 0: one for each core.
    pub lanes: usize,
    /// Largest component.
    pub component_bytes_max: Size,
    /// Wall time of one compilation.
    pub compile_timeout: Span,
    /// Address space of one compilation.
    pub compile_memory: Size,
    /// Compile in the daemon itself instead of a limited child process. For tests in one process; not a setting.
    #[serde(skip)]
    pub compile_in_process: bool,
}

/// Logs on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tidemill::net=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: Format,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// SIGTERM and SIGINT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shutdown {
    /// Requests in work get so long to be answered.
    pub grace: Span,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 9092));
        Self {
            data_dir: load::data_home().join("tidemill"),
            node_id: 1,
            listen: Listen {
                tcp: Address(Some(loopback)),
                quic: Address(Some(loopback)),
                tls: Address(None),
                advertised: String::new(),
            },
            tls: Tls {
                certificate: None,
                key: None,
                names: Vec::new(),
                client_ca: None,
                publish_ca: true,
            },
            network: Network {
                threads: 1,
                frame_bytes_max: Size::mib(100),
                request_bytes_max: Size::mib(256),
                requests_max: 16_384,
                connections_max: 4096,
                idle_timeout: Span::secs(600),
                quic_idle_timeout: Span::secs(30),
                quic_streams_max: 1024,
                quic_window: Size::mib(16),
                quic_mtu_max: 6500,
            },
            topics: Topics {
                auto_create: true,
                partitions: 4,
            },
            groups: Groups {
                initial_rebalance_delay: Span(500),
                session_timeout_min: Span::secs(6),
                session_timeout_max: Span::secs(1800),
                consumer_session_timeout: Span::secs(45),
                consumer_heartbeat_interval: Span::secs(5),
            },
            storage: Storage {
                segment_bytes: Size(1 << 30),
                tail_bytes_max: Size::mib(128),
                cache_bytes: Size::mib(32),
                reserve_bytes: Size::mib(64),
            },
            modules: Modules {
                lanes: 0,
                component_bytes_max: Size::mib(64),
                compile_timeout: Span::secs(60),
                compile_memory: Size::mib(4096),
                compile_in_process: false,
            },
            log: Log {
                level: "info".to_owned(),
                format: Format::Text,
            },
            shutdown: Shutdown { grace: Span::secs(30) },
        }
    }
}

/// An address to listen on, or `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Option<SocketAddr>);

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => text.parse().map(|a| Self(Some(a))).map_err(|_| {
                format!("{text:?} is not an address: write IP and port (\"127.0.0.1:9092\", \"[::]:9092\") or \"off\"")
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
