//! One broker: its connection, made again with backoff whenever it is needed and gone, and the streams on it.
//!
//! ```text
//! Broker ── Connection ─┬─ control stream      metadata, groups, offsets, admin
//!                       ├─ produce streams     one per partition, shared beyond PRODUCE_STREAMS_MAX
//!                       └─ fetch streams       one per fetch session, owned by their consumers
//! ```
//!
//! A broker that was restarted does not say so: QUIC only finds out by silence. A watcher therefore shortens the silence:
//! when nothing comes back for a second it asks on another socket whether somebody listens there, and whether a new
//! handshake succeeds where the old connection does not; then the old one is closed and everything on it fails over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use quinn::VarInt;
use tidemill_protocol::api::api_versions::ApiVersionsRequest;
use tokio::time::Instant;

use super::endpoint::{Endpoints, Protocol};
use super::faults::Faults;
use super::stream::{Answered, Outgoing, Stream};
use super::wire::{self, Call, Versions};
use crate::backoff::{Backoff, BackoffConfig};
use crate::error::{Error, Reach, Result};
use crate::random::Random;

/// How often the watcher looks at a connection.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// What all brokers of a client share.
pub(crate) struct Network {
    pub(crate) endpoints: Endpoints,
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: BackoffConfig,
    pub(crate) random: Random,
    pub(crate) faults: Option<Arc<dyn Faults>>,
}

/// An established connection whose broker told which API versions it serves.
pub(crate) struct Connection {
    pub(crate) quic: quinn::Connection,
    pub(crate) versions: Versions,
    control: Stream,
    faults: Option<Arc<dyn Faults>>,
    produce: tokio::sync::Mutex<BTreeMap<usize, Stream>>,
}

impl Connection {
    async fn establish(network: &Network, address: &str) -> Result<Connection> {
        let quic = network
            .endpoints
            .connect(Protocol::Data, address, network.connect_timeout)
            .await?;
        let control = Stream::open(&quic, network.faults.clone()).await?;
        let mut connection = Connection {
            quic,
            versions: Versions::before_negotiation(),
            control,
            faults: network.faults.clone(),
            produce: tokio::sync::Mutex::default(),
        };
        let request = ApiVersionsRequest {
            client_software_name: "tidemill-client".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let answer = connection.call(network, &connection.control, request).await?;
        connection.versions = Versions::from_response(&answer)?;
        Ok(connection)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.quic.close_reason().is_none() && !self.control.is_broken()
    }

    /// A new stream on this connection.
    pub(crate) async fn open_stream(&self, timeout: Duration) -> Result<Stream> {
        match tokio::time::timeout(timeout, Stream::open(&self.quic, self.faults.clone())).await {
            Ok(stream) => stream,
            Err(_) => Err(Error::timed_out("opening a stream", timeout, Reach::NotSent)),
        }
    }

    /// Produce stream `slot`, opened when it is missing or broken.
    pub(crate) async fn produce_stream(&self, slot: usize, timeout: Duration) -> Result<Stream> {
        let mut streams = self.produce.lock().await;
        if let Some(stream) = streams.get(&slot)
            && !stream.is_broken()
        {
            return Ok(stream.clone());
        }
        let stream = self.open_stream(timeout).await?;
        streams.insert(slot, stream.clone());
        Ok(stream)
    }

    /// One request and its answer on a stream. No answer within the request timeout gives the stream up, since every
    /// later answer would be stuck behind it.
    async fn call<R: Call>(&self, network: &Network, stream: &Stream, request: R) -> Result<R::Response> {
        let version = self.versions.choose(R::KEY)?;
        let (frame, asked) = wire::request_frame(request, version, &network.client_id)?;
        let answer = stream.send(Outgoing {
            api: R::KEY,
            frame,
            answered: Answered::Yes,
        })?;
        match tokio::time::timeout(network.request_timeout, answer).await {
            Ok(Ok(answer)) => wire::decode_response::<R>(asked, answer?),
            Ok(Err(_)) => Err(Error::disconnected("stream closed", Reach::Unknown)),
            Err(_) => {
                stream.abandon("a request timed out");
                Err(Error::timed_out(
                    format!("{:?}", R::KEY),
                    network.request_timeout,
                    Reach::Unknown,
                ))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.quic.close(VarInt::from_u32(0), b"done");
    }
}

/// A broker by its address.
pub(crate) struct Broker {
    pub(crate) address: String,
    network: Arc<Network>,
    /// Held while connecting, so that there is one attempt at a time.
    connecting: tokio::sync::Mutex<Attempts>,
    current: Mutex<Option<Arc<Connection>>>,
}

struct Attempts {
    backoff: Backoff,
    /// How many attempts have ended, so that a waiter can see one ended while it waited.
    ended: u64,
    not_before: Option<Instant>,
    last_failure: Option<Error>,
}

impl Broker {
    pub(crate) fn new(address: String, network: Arc<Network>) -> Broker {
        let backoff = Backoff::new(network.backoff);
        let attempts = Attempts {
            backoff,
            ended: 0,
            not_before: None,
            last_failure: None,
        };
        Broker {
            address,
            network,
            connecting: tokio::sync::Mutex::new(attempts),
            current: Mutex::new(None),
        }
    }

    /// The live connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Connection>> {
        let current = self.current.lock().expect("no panic while the connection is looked up");
        current.as_ref().filter(|connection| connection.is_alive()).cloned()
    }

    /// The live connection, or a new one: after the backoff of earlier failures, and in one attempt. Whoever waited
    /// through another's failed attempt shares its failure.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let mut attempts = match self.connecting.try_lock() {
            Ok(attempts) => attempts,
            Err(_) => {
                let attempts = self.connecting.lock().await;
                if let Some(connection) = self.live() {
                    return Ok(connection);
                }
                if let Some(failure) = &attempts.last_failure {
                    return Err(failure.clone());
                }
                attempts
            }
        };
        if let Some(not_before) = attempts.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        let result = Connection::establish(&self.network, &self.address).await;
        attempts.ended += 1;
        match result {
            Ok(connection) => {
                attempts.backoff.reset();
                attempts.not_before = None;
                attempts.last_failure = None;
                let connection = Arc::new(connection);
                self.install(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                let wait = attempts.backoff.next_wait(&self.network.random);
                attempts.not_before = Some(Instant::now() + wait);
                attempts.last_failure = Some(failure.clone());
                tracing::debug!(broker = %self.address, %failure, ?wait, "cannot connect");
                Err(failure)
            }
        }
    }

    /// One request on the control stream.
    pub(crate) async fn call<R: Call>(self: &Arc<Self>, request: R) -> Result<R::Response> {
        let connection = self.connection().await?;
        connection.call(&self.network, &connection.control, request).await
    }

    fn install(self: &Arc<Self>, connection: Arc<Connection>) {
        tokio::spawn(watch(Arc::downgrade(self), Arc::downgrade(&connection)));
        *self.current.lock().expect("no panic while the connection is replaced") = Some(connection);
    }
}

/// Closes a connection that went silent while its address is refused or answers a new handshake.
async fn watch(broker: Weak<Broker>, connection: Weak<Connection>) {
    let mut silent_ticks = 0;
    let (mut received, mut sent) = (0, 0);
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let (Some(broker), Some(connection)) = (broker.upgrade(), connection.upgrade()) else {
            return;
        };
        if connection.quic.close_reason().is_some() {
            return;
        }
        let stats = connection.quic.stats();
        let heard = stats.udp_rx.datagrams != received;
        let spoke = stats.udp_tx.datagrams != sent;
        (received, sent) = (stats.udp_rx.datagrams, stats.udp_tx.datagrams);
        silent_ticks = match (heard, spoke) {
            (true, _) => 0,
            (false, true) => silent_ticks + 1,
            (false, false) => silent_ticks,
        };
        if silent_ticks < 2 {
            continue;
        }
        let network = &broker.network;
        let other = network
            .endpoints
            .connect(Protocol::Data, &broker.address, network.connect_timeout)
            .await;
        let still_silent = connection.quic.stats().udp_rx.datagrams == received;
        let gone = match &other {
            Ok(_) => true,
            Err(Error::Unreachable { reason, .. }) => reason.contains("refused"),
            Err(_) => false,
        };
        if gone && still_silent {
            tracing::debug!(broker = %broker.address, "the connection is silent and its broker is not: closing it");
            connection.quic.close(VarInt::from_u32(2), b"silent");
            return;
        }
        silent_ticks = 0;
    }
}
