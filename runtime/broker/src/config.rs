//! What a node is told about itself at start. Values, not files: the server reads them from wherever it likes.
use alloc::string::String;
use tidemill_protocol::ids::Uuid;

/// Settings of the core.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of the cluster, as clients see it.
    pub cluster_id: String,
    /// This node.
    pub node_id: i32,
    /// Host that clients are told to connect to.
    pub advertised_host: String,
    /// Port that clients are told to connect to, the same number for TCP and QUIC.
    pub advertised_port: u16,
    /// Whether asking for metadata of an unknown topic creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic when nobody says how many.
    pub default_partitions: u32,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of a group waits for more members.
    pub group_initial_rebalance_delay_ms: i64,
    /// Shortest and longest session timeout that a classic member may ask for, milliseconds.
    pub group_session_timeout_ms: (i32, i32),
    /// How often a KIP-848 member must be heard.
    pub group_heartbeat_interval_ms: i32,
    /// How long a silent KIP-848 member stays.
    pub group_consumer_session_timeout_ms: i32,
    /// Source of all randomness of the core: ids of topics and members. The same seed gives the same ids.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster_id: Uuid([0; 16]).to_string(),
            node_id: 1,
            advertised_host: "127.0.0.1".into(),
            advertised_port: 9092,
            auto_create_topics: true,
            default_partitions: 4,
            group_initial_rebalance_delay_ms: 500,
            group_session_timeout_ms: (6_000, 1_800_000),
            group_heartbeat_interval_ms: 5_000,
            group_consumer_session_timeout_ms: 45_000,
            seed: 0,
        }
    }
}

use alloc::string::ToString;
