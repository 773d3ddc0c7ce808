//! The QUIC endpoint: data streams and management calls, told apart by ALPN.
//!
//! Settings are measured (ARCHITECTURE.md, QUIC). 0-RTT is off in the TLS configuration. A client whose address is not proven yet is
//! sent away to prove it (Retry) as soon as many handshakes are open.
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    crypto::rustls::{HandshakeData, QuicServerConfig},
};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::{
    ANONYMOUS, admin,
    connection::{Peer, serve},
    gate::Gate,
};
use crate::{
    config::Network,
    error::StartError,
    limits,
    tls::{self, ALPN_ADMIN, ALPN_KAFKA},
};

/// Opens the endpoint on a socket that is bound already. Must be called within the runtime that will drive it.
pub(super) fn endpoint(
    socket: UdpSocket,
    tls: Arc<rustls::ServerConfig>,
    network: &Network,
) -> Result<Endpoint, StartError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| StartError::Tls(e.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(network)));
    config.max_incoming(network.connections_max.min(1 << 12));
    let endpoint = endpoint_config(network)?;
    Ok(Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))?)
}

/// Room for the largest packet that discovery may find, and its overhead.
pub(crate) fn endpoint_config(network: &Network) -> Result<EndpointConfig, StartError> {
    let mut endpoint = EndpointConfig::default();
    endpoint
        .max_udp_payload_size((network.quic_mtu_max + 100).max(1500))
        .map_err(|e| StartError::Tls(e.to_string()))?;
    Ok(endpoint)
}

/// Windows, streams, silence and packet sizes of every connection.
pub(crate) fn transport(network: &Network) -> TransportConfig {
    let window = u32::try_from(network.quic_window.0).unwrap_or(u32::MAX >> 2);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(network.quic_mtu_max);
    let idle = VarInt::try_from(network.quic_idle_timeout.0).unwrap_or(VarInt::from_u32(30_000));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(network.quic_streams_max.into())
        .max_concurrent_uni_streams(0u32.into())
        .receive_window(window.into())
        .stream_receive_window((window / 2).max(1 << 17).into())
        .send_window(window.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .mtu_discovery_config(Some(discovery));
    transport
}

/// Accepts connections until the node stops.
pub(super) async fn accept(endpoint: Endpoint, gate: Gate) {
    let mut stop = gate.clone();
    let handshakes = Arc::new(AtomicUsize::new(0));
    loop {
        let incoming = tokio::select! {
            biased;
            () = stop.stopping() => return endpoint.set_server_config(None),
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if limits::QUIC_HANDSHAKES_BEFORE_RETRY < handshakes.load(Ordering::Relaxed) && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        let (gate, handshakes) = (gate.clone(), handshakes.clone());
        tokio::spawn(async move {
            let address = incoming.remote_address();
            let Some(_open) = gate.open() else {
                tracing::warn!(%address, "refused a QUIC connection: network.connections-max is reached");
                return incoming.refuse();
            };
            handshakes.fetch_add(1, Ordering::Relaxed);
            let connected = handshake(incoming).await;
            handshakes.fetch_sub(1, Ordering::Relaxed);
            match connected {
                Ok(connection) => streams(connection, address, gate).await,
                Err(error) => tracing::info!(%address, %error, "QUIC handshake failed"),
            }
        });
    }
}

async fn handshake(incoming: Incoming) -> io::Result<Connection> {
    let connected = timeout(limits::HANDSHAKE_TIMEOUT, incoming.accept()?).await;
    Ok(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
}

/// Serves the streams of one connection.
async fn streams(connection: Connection, address: SocketAddr, gate: Gate) {
    let handshake = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    let alpn = handshake.and_then(|data| data.protocol).unwrap_or_default();
    let principal = principal(&connection);
    tracing::debug!(%address, %principal, alpn = %String::from_utf8_lossy(&alpn), "QUIC connection open");
    if alpn == ALPN_KAFKA {
        data_streams(&connection, address, principal, gate).await;
    } else if alpn == ALPN_ADMIN {
        admin_streams(&connection, principal, gate).await;
    } else {
        connection.close(1u32.into(), b"no protocol in common");
    }
    tracing::debug!(%address, "QUIC connection closed");
}

fn principal(connection: &Connection) -> Arc<str> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let name = chain.and_then(|chain| tls::principal(&chain));
    name.map_or_else(|| ANONYMOUS.into(), |name| format!("User:{name}").into())
}

async fn data_streams(connection: &Connection, address: SocketAddr, principal: Arc<str>, gate: Gate) {
    // A QUIC connection lives by its own idle timeout and keep-alives; its streams may be silent as long as it lives.
    let peer = Peer {
        principal,
        host: address.ip().to_string().into(),
        advertised: None,
        idle: Duration::from_secs(86_400),
    };
    let mut stop = gate.clone();
    loop {
        let stream = tokio::select! {
            stream = connection.accept_bi() => stream,
            () = stop.stopping() => { connection.closed().await; return }
        };
        let Ok((to, from)) = stream else { return };
        let (gate, peer) = (gate.clone(), peer.clone());
        tokio::spawn(async move {
            match serve(gate, peer, from, to).await {
                Err(error) if error.is_worth_a_line() => tracing::info!(%address, %error, "QUIC stream closed"),
                Ok(()) | Err(_) => {}
            }
        });
    }
}

async fn admin_streams(connection: &Connection, principal: Arc<str>, gate: Gate) {
    let mut stop = gate.clone();
    loop {
        let stream = tokio::select! {
            stream = connection.accept_bi() => stream,
            () = stop.stopping() => { connection.closed().await; return }
        };
        let Ok((to, from)) = stream else { return };
        tokio::spawn(admin::call(gate.clone(), principal.clone(), from, to));
    }
}
