//! Bytes through quinn on loopback: both ends in this process, a thread with a runtime each, with the daemon's own settings.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, TokioRuntime};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::crew::Crew;
use super::super::payload::Payload;
use super::super::report::{Moved, Report};
use super::super::usage::Process;
use super::super::wire::client_endpoint;
use super::super::{Problem, settings, watch};
use super::Stream;
use crate::clock;
use crate::config::Config;
use crate::net::{quic, size_buffers};

/// Write bytes into QUIC streams and read them.
#[derive(Debug, Args)]
pub(in crate::cli::bench) struct Quic {
    #[command(flatten)]
    stream: Stream,
}

impl Quic {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let stream = self.stream;
        let mut report = Report::new(
            "raw quic",
            settings([vec![
                ("connections", json!(stream.connections)),
                ("write_bytes", json!(stream.write_bytes.0)),
            ]]),
        );
        let (server, client) = configs()?;
        let address = serve(server).await?;
        let mut crew = Crew::hire(1, stream.connections, move |seat| {
            let client = client.clone();
            async move {
                let endpoint = client_endpoint(address)?;
                let connection = endpoint.connect_with(client, address, "localhost")?.await?;
                // Discovery of the largest packet needs traffic and a moment.
                write(&connection, stream, Duration::from_millis(500), 0).await?;
                seat.start().await;
                let bytes = write(&connection, stream, stream.time.duration(), seat.number as u64).await?;
                connection.close(0u32.into(), b"done");
                endpoint.wait_idle().await;
                Ok(bytes)
            }
        })?;
        crew.ready().await?;
        let before = Process::own().usage();
        let (sent, seconds) = watch::run(&mut crew, "sending").await?;
        let bytes: u64 = sent.iter().sum();
        let used = before.zip(Process::own().usage());
        report.client = used.map(|(before, now)| before.until(now, bytes));
        report.moved = Some(Moved::new(bytes / stream.write_bytes.0.max(1), bytes, seconds));
        Ok(report)
    }
}

/// Writes for a while, and waits until the other end has read all of it.
async fn write(connection: &Connection, stream: Stream, time: Duration, seed: u64) -> Result<u64, Problem> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut payload = Payload::new(stream.write_bytes.bytes(), seed);
    let deadline = clock::instant() + time;
    let mut bytes = 0;
    while clock::instant() < deadline {
        let value = payload.next();
        bytes += value.len() as u64;
        send.write_chunk(value).await?;
    }
    send.finish()?;
    let counted = receive.read_to_end(8).await?;
    if counted != bytes.to_be_bytes() {
        return Err("bytes were lost between two ends of one connection".into());
    }
    Ok(bytes)
}

/// Starts the other end on a thread of its own; it ends with the process.
async fn serve(config: ServerConfig) -> Result<SocketAddr, Problem> {
    let (to, bound) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(async {
            let endpoint = match endpoint(config) {
                Ok(endpoint) => endpoint,
                Err(problem) => return drop(to.send(Err(problem))),
            };
            drop(to.send(endpoint.local_addr().map_err(Problem::from)));
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((send, receive)) = connection.accept_bi().await {
                        tokio::spawn(read(send, receive));
                    }
                });
            }
        });
    };
    std::thread::Builder::new().name("raw-server".into()).spawn(run)?;
    bound.await?
}

/// Reads to the end and answers with the number of bytes.
async fn read(mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
    let mut bytes = 0u64;
    while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
        bytes += chunk.bytes.len() as u64;
    }
    // A client that is gone already knows that it failed.
    let _ = send.write_all(&bytes.to_be_bytes()).await;
    let _ = send.finish();
}

fn endpoint(config: ServerConfig) -> Result<Endpoint, Problem> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    size_buffers(&socket);
    let network = Config::default().network;
    let endpoint = quic::endpoint_config(&network)?;
    Ok(Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))?)
}

/// A certificate for this run only.
fn configs() -> Result<(ServerConfig, ClientConfig), Problem> {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = CertificateDer::from(own.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = Arc::new(ring::default_provider());
    let versions = &[&rustls::version::TLS13];
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let transport = Arc::new(quic::transport(&Config::default().network));
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
    server.transport_config(transport.clone());
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    client.transport_config(transport);
    Ok((server, client))
}
