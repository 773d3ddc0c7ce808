//! How a client is configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::BackoffConfig;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::net::broker::Network;
use crate::net::endpoint::Endpoints;
use crate::net::faults::Faults;
use crate::random::Random;
use crate::tls::{Pem, Tls};

/// Where a daemon listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9092";

const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Collects what a [`Client`] needs, checks it, and connects.
///
/// ```no_run
/// # async fn example() -> tidemill_client::Result<()> {
/// use std::time::Duration;
/// use tidemill_client::Client;
///
/// let client = Client::builder()
///     .bootstrap("broker-1.example:9092,broker-2.example:9092")
///     .ca_file("/etc/tidemill/ca.pem")
///     .identity_files("/etc/tidemill/client.pem", "/etc/tidemill/client.key")
///     .client_id("billing")
///     .request_timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # drop(client); Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    tls: Tls,
    client_id: String,
    connect_timeout: Duration,
    request_timeout: Duration,
    api_timeout: Duration,
    backoff: BackoffConfig,
    seed: Option<u64>,
    faults: Option<Arc<dyn Faults>>,
}

impl Default for ClientBuilder {
    fn default() -> ClientBuilder {
        ClientBuilder::new()
    }
}

impl ClientBuilder {
    /// The defaults: a daemon of this user at [`DEFAULT_ADDRESS`].
    pub fn new() -> ClientBuilder {
        ClientBuilder {
            bootstrap: Vec::new(),
            tls: Tls::default(),
            client_id: "tidemill-client".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            backoff: BackoffConfig::default(),
            seed: None,
            faults: None,
        }
    }

    /// Adds addresses `host:port` to find the cluster by, separated by commas. The other brokers are learned from them.
    #[must_use]
    pub fn bootstrap(mut self, addresses: &str) -> ClientBuilder {
        let addresses = addresses
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty());
        self.bootstrap.extend(addresses.map(str::to_owned));
        self
    }

    /// The PEM file of the certificate authority to trust, instead of the one named by `TIDEMILL_CA` or the user's own.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> ClientBuilder {
        self.tls.ca = Some(Pem::File(path.into()));
        self
    }

    /// The certificate authority to trust, as PEM.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> ClientBuilder {
        self.tls.ca = Some(Pem::Bytes(pem.into()));
        self
    }

    /// PEM files of the client's certificate chain and its key, for brokers that ask who is there (mTLS).
    #[must_use]
    pub fn identity_files(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ClientBuilder {
        self.tls.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// The client's certificate chain and key, as PEM.
    #[must_use]
    pub fn identity_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> ClientBuilder {
        self.tls.identity = Some((Pem::Bytes(certificate.into()), Pem::Bytes(key.into())));
        self
    }

    /// Name shown in the broker's logs and in groups. Default `tidemill-client`; at most 249 bytes.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> ClientBuilder {
        self.client_id = client_id.into();
        self
    }

    /// How long one attempt to connect may take. Default 5 s; 1 ms to 1 h.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may go unanswered before its stream is given up. Default 30 s; 1 ms to 1 h.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.request_timeout = timeout;
        self
    }

    /// How long a call that can be repeated is repeated after retriable errors. Default 60 s; 1 ms to 1 h.
    #[must_use]
    pub fn api_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.api_timeout = timeout;
        self
    }

    /// Waits between attempts.
    #[must_use]
    pub fn backoff(mut self, backoff: BackoffConfig) -> ClientBuilder {
        self.backoff = backoff;
        self
    }

    /// Makes jitter, member ids and random choices repeatable. Two clients of one seed would have the same member ids.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> ClientBuilder {
        self.seed = Some(seed);
        self
    }

    /// Loses messages on purpose, for tests of what then happens.
    #[must_use]
    pub fn faults(mut self, faults: Arc<dyn Faults>) -> ClientBuilder {
        self.faults = Some(faults);
        self
    }

    /// Checks the configuration and connects to the first bootstrap address that answers. Each is tried once: whoever
    /// wants to wait for a broker calls again after [`Error::is_retriable`]. Later losses of the connection are the
    /// client's own to repair.
    pub async fn connect(mut self) -> Result<Client> {
        for (key, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("api_timeout", self.api_timeout),
        ] {
            if timeout < Duration::from_millis(1) || TIMEOUT_MAX < timeout {
                return Err(Error::config(key, format!("{timeout:?} is not between 1 ms and 1 h")));
            }
        }
        if self.client_id.is_empty() || 249 < self.client_id.len() {
            return Err(Error::config("client_id", "it must have 1 to 249 bytes"));
        }
        if self.backoff.max < self.backoff.initial || self.backoff.initial.is_zero() {
            return Err(Error::config("backoff", "initial must be above zero and at most max"));
        }
        if self.bootstrap.is_empty() {
            self.bootstrap.push(DEFAULT_ADDRESS.to_owned());
        }
        let network = Network {
            endpoints: Endpoints::new(&self.tls)?,
            client_id: self.client_id,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
            backoff: self.backoff,
            random: self.seed.map_or_else(Random::from_system, Random::from_seed),
            faults: self.faults,
        };
        Client::start(network, self.bootstrap, self.api_timeout).await
    }
}
