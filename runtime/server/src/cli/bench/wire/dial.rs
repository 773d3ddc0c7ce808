//! How a stream to a broker is opened, over each transport.
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TokioRuntime};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::Problem;
use super::Connection;
use crate::config::Config;
use crate::net::{quic, size_buffers};
use crate::tls::ALPN_KAFKA;

/// One attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// A stream of a QUIC connection.
    Quic,
    /// Plain TCP.
    Tcp,
    /// TLS 1.3 over TCP.
    Tls,
}

impl Transport {
    pub(in crate::cli::bench) fn name(self) -> &'static str {
        match self {
            Transport::Quic => "quic",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(in crate::cli::bench) transport: Transport,
    /// PEM file of the authority to trust; plain TCP needs none.
    pub(in crate::cli::bench) ca: Option<PathBuf>,
}

impl Dial {
    /// Connects to `host:port` and negotiates versions. It must be driven on the runtime on which it is called.
    pub(in crate::cli::bench) async fn connect(&self, address: &str) -> Result<Connection, Problem> {
        let opened = timeout(CONNECT_TIMEOUT, self.open(address)).await;
        let opened = opened.map_err(|_| format!("{address} does not answer within {CONNECT_TIMEOUT:?}"))?;
        opened.map_err(|why| format!("cannot connect to {address} over {}: {why}", self.transport.name()).into())
    }

    async fn open(&self, address: &str) -> Result<Connection, Problem> {
        let host = address
            .rsplit_once(':')
            .map_or(address, |(host, _)| host)
            .trim_matches(['[', ']']);
        if self.transport == Transport::Quic {
            return self.open_quic(address, host).await;
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if self.transport == Transport::Tcp {
            return Connection::open(Box::new(stream), None).await;
        }
        let connector = TlsConnector::from(Arc::new(self.tls(&[])?));
        let stream = connector
            .connect(ServerName::try_from(host.to_owned())?, stream)
            .await?;
        Connection::open(Box::new(stream), None).await
    }

    async fn open_quic(&self, address: &str, host: &str) -> Result<Connection, Problem> {
        let peer = tokio::net::lookup_host(address)
            .await?
            .next()
            .ok_or("no such address")?;
        let endpoint = client_endpoint(peer)?;
        let connection = self.quic(&endpoint, peer, host).await?;
        let (send, receive) = connection.open_bi().await?;
        let stream = tokio::io::join(receive, send);
        Connection::open(Box::new(stream), Some((endpoint, connection))).await
    }

    /// A bare connection that speaks Kafka's protocol, for measuring connections themselves.
    pub(in crate::cli::bench) async fn quic(
        &self,
        endpoint: &Endpoint,
        peer: SocketAddr,
        host: &str,
    ) -> Result<quinn::Connection, Problem> {
        let tls = QuicClientConfig::try_from(self.tls(&[ALPN_KAFKA])?)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        let mut transport = quic::transport(&Config::default().network);
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        config.transport_config(Arc::new(transport));
        Ok(endpoint.connect_with(config, peer, host)?.await?)
    }

    fn tls(&self, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, Problem> {
        let path = self
            .ca
            .clone()
            .or_else(|| std::env::var_os(tidemill_client::CA_VARIABLE).map(PathBuf::from))
            .or_else(tidemill_client::default_ca_path)
            .ok_or("name the authority to trust with --ca")?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for certificate in certificates {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// An endpoint on a socket of its own, with the settings that the daemon and the SDK have.
pub(in crate::cli::bench) fn client_endpoint(peer: SocketAddr) -> Result<Endpoint, Problem> {
    let local: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    size_buffers(&socket);
    let config = quic::endpoint_config(&Config::default().network)?;
    Ok(Endpoint::new(config, None, socket, Arc::new(TokioRuntime))?)
}
