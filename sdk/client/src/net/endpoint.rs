//! QUIC endpoints of a client, and how a connection is opened on them.
//!
//! One socket per address family, bound when first needed. The transport settings are those measured best on loopback
//! and harmless elsewhere: packets up to 6,500 bytes where the path carries them, large windows and socket buffers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::error::{Error, Reach, Result};
use crate::tls::{ALPN_ADMIN, ALPN_DATA, Tls};

const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const MTU_UPPER_BOUND: u16 = 6_500;
const UDP_PAYLOAD_BYTES_MAX: u16 = 6_600;
const KEEP_ALIVE: Duration = Duration::from_millis(2_500);
/// How often it is asked whether anybody listens, while a handshake waits.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const IDLE_MS: u32 = 20_000;

/// Which protocol is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Data,
    Admin,
}

/// The sockets of a client and its two TLS configurations.
pub(crate) struct Endpoints {
    data: ClientConfig,
    admin: ClientConfig,
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
    is_closed: AtomicBool,
}

impl Endpoints {
    pub(crate) fn new(tls: &Tls) -> Result<Endpoints> {
        Ok(Endpoints {
            data: client_config(tls, ALPN_DATA)?,
            admin: client_config(tls, ALPN_ADMIN)?,
            v4: Mutex::new(None),
            v6: Mutex::new(None),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Connects to `host:port`, trying each of its addresses in turn within `timeout`.
    pub(crate) async fn connect(
        &self,
        protocol: Protocol,
        address: &str,
        timeout: Duration,
    ) -> Result<quinn::Connection> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let unreachable = |reason: String| Error::Unreachable {
            addresses: address.to_owned(),
            reason,
        };
        let host = host_of(address).ok_or_else(|| Error::InvalidArgument(format!("{address} is not host:port")))?;
        let attempt = async {
            let addresses = tokio::net::lookup_host(address)
                .await
                .map_err(|e| unreachable(e.to_string()))?;
            let mut last = unreachable("the name has no address".to_owned());
            for socket_address in addresses {
                match self.connect_to(protocol, socket_address, host).await {
                    Ok(connection) => return Ok(connection),
                    Err(reason) => last = unreachable(reason),
                }
            }
            Err(last)
        };
        match tokio::time::timeout(timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(unreachable(format!("no answer within {timeout:?}"))),
        }
    }

    async fn connect_to(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        host: &str,
    ) -> std::result::Result<quinn::Connection, String> {
        let config = match protocol {
            Protocol::Data => self.data.clone(),
            Protocol::Admin => self.admin.clone(),
        };
        let endpoint = self.endpoint(address).map_err(|e| e.to_string())?;
        let connecting = endpoint
            .connect_with(config, address, host)
            .map_err(|e| e.to_string())?;
        tokio::select! {
            connection = connecting => connection.map_err(|e| e.to_string()),
            () = refused(address) => Err("connection refused".to_owned()),
        }
    }

    /// Ends all connections, those that are being made too, and waits until everything said on the sockets, goodbyes too, has left. From now
    /// on there are none: who still leaves a group must not keep whoever waits here.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for slot in [&self.v4, &self.v6] {
            let endpoint = slot.lock().expect("no panic while an endpoint is made").clone();
            if let Some(endpoint) = endpoint {
                endpoint.close(VarInt::from_u32(0), b"done");
                endpoint.wait_idle().await;
            }
        }
    }

    fn endpoint(&self, peer: SocketAddr) -> Result<Endpoint> {
        let (slot, local) = match peer {
            SocketAddr::V4(_) => (&self.v4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (&self.v6, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        let mut slot = slot.lock().expect("no panic while an endpoint is made");
        if let Some(endpoint) = slot.as_ref() {
            return Ok(endpoint.clone());
        }
        let endpoint = bind(SocketAddr::new(local, 0)).map_err(|e| Error::disconnected(e, Reach::NotSent))?;
        Ok(slot.insert(endpoint).clone())
    }
}

fn bind(local: SocketAddr) -> std::io::Result<Endpoint> {
    let socket = UdpSocket::bind(local)?;
    let state = quinn::udp::UdpSocketState::new((&socket).into())?;
    // The system may grant less, or nothing: slower, not wrong.
    let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
        .map_err(std::io::Error::other)?;
    Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
}

fn client_config(tls: &Tls, alpn: &[u8]) -> Result<ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls.client_config(alpn)?).map_err(|e| Error::tls(e.to_string()))?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_UPPER_BOUND);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(4 * WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Only the client opens streams.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// The name to verify: what stands before the last colon, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// Returns once the peer's host says that nobody listens there; never otherwise.
///
/// A QUIC handshake with a closed port otherwise ends only by timeout, because its socket is not told about ICMP. A
/// connected socket is. The byte sent is no QUIC packet, and a listener drops it.
pub(crate) async fn refused(address: SocketAddr) {
    if probe(address).await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn probe(address: SocketAddr) -> Option<()> {
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = tokio::net::UdpSocket::bind(local).await.ok()?;
    socket.connect(address).await.ok()?;
    let is_refused = |result: std::io::Result<usize>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    loop {
        // The refusal of an earlier byte is told at the next call, whichever that is.
        if is_refused(socket.send(&[0]).await) {
            return Some(());
        }
        match tokio::time::timeout(PROBE_INTERVAL, socket.recv(&mut [0; 16])).await {
            Ok(result) => return is_refused(result).then_some(()),
            Err(_) => continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        assert_eq!(host_of("localhost:9092"), Some("localhost"));
        assert_eq!(host_of("[::1]:9092"), Some("::1"));
        assert_eq!(host_of("localhost"), None);
        assert_eq!(host_of(":9092"), None);
        assert_eq!(host_of("localhost:99999"), None);
    }
}
