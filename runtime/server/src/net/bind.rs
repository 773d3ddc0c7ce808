//! Binds every address before anything else is started, so that a port in use is the first thing that is said.
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use crate::{config::Listen, error::StartError, limits};

/// Bound, not yet served.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(super) tcp: Option<TcpListener>,
    pub(super) tls: Option<TcpListener>,
    pub(super) quic: Option<UdpSocket>,
}

/// Where a node can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Kafka over plain TCP.
    pub tcp: Option<SocketAddr>,
    /// Kafka over TLS over TCP.
    pub tls: Option<SocketAddr>,
    /// Kafka and management over QUIC.
    pub quic: Option<SocketAddr>,
}

impl Addresses {
    /// As people and tools write them.
    pub(crate) fn urls(&self) -> Vec<String> {
        let named = [
            ("kafka+tcp", self.tcp),
            ("kafka+tls", self.tls),
            ("kafka+quic", self.quic),
        ];
        named
            .iter()
            .filter_map(|(scheme, address)| Some(format!("{scheme}://{}", (*address)?)))
            .collect()
    }
}

impl Sockets {
    /// Binds all of them. TCP and QUIC get the same number when both leave it open, because Metadata can name only one.
    pub(crate) fn bind(listen: &Listen) -> Result<(Self, Addresses), StartError> {
        let tls = listen.tls.0.map(|address| tcp(address, "listen.tls")).transpose()?;
        let mut attempts = 0;
        let (tcp, quic) = loop {
            attempts += 1;
            let tcp = listen.tcp.0.map(|address| tcp(address, "listen.tcp")).transpose()?;
            let wanted = listen.quic.0.map(|mut address| {
                let found = tcp.as_ref().and_then(|socket| socket.local_addr().ok());
                if let (0, Some(found)) = (address.port(), found) {
                    address.set_port(found.port());
                }
                address
            });
            match wanted.map(udp).transpose() {
                Ok(quic) => break (tcp, quic),
                Err(_) if is_open(listen) && attempts < limits::SAME_PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        };
        let addresses = Addresses {
            tcp: tcp.as_ref().map(TcpListener::local_addr).transpose()?,
            tls: tls.as_ref().map(TcpListener::local_addr).transpose()?,
            quic: quic.as_ref().map(UdpSocket::local_addr).transpose()?,
        };
        Ok((Self { tcp, tls, quic }, addresses))
    }
}

fn is_open(listen: &Listen) -> bool {
    [listen.tcp, listen.quic]
        .iter()
        .all(|address| address.0.is_some_and(|address| address.port() == 0))
}

fn tcp(address: SocketAddr, key: &'static str) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(|error| refused(address, "TCP", key, error))
}

fn udp(address: SocketAddr) -> Result<UdpSocket, StartError> {
    let bind = || {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        size_buffers(&socket);
        Ok(socket)
    };
    bind().map_err(|error| refused(address, "UDP", "listen.quic", error))
}

/// Asks for large buffers. The system may give less (net.core.rmem_max); that costs throughput, not correctness.
pub(crate) fn size_buffers(socket: &UdpSocket) {
    let options = socket2::SockRef::from(socket);
    let _ = options.set_recv_buffer_size(limits::UDP_BUFFER_BYTES);
    let _ = options.set_send_buffer_size(limits::UDP_BUFFER_BYTES);
}

fn refused(address: SocketAddr, transport: &'static str, key: &'static str, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse {
            address,
            transport,
            key,
        },
        _ => StartError::Listen {
            address,
            transport,
            key,
            error,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Address, Config};

    #[test]
    fn tcp_and_quic_share_a_free_port() {
        let mut listen = Config::default().listen;
        listen.tcp = Address(Some(([127, 0, 0, 1], 0).into()));
        listen.quic = listen.tcp;
        let (_sockets, addresses) = Sockets::bind(&listen).unwrap();
        assert_eq!(addresses.tcp.unwrap().port(), addresses.quic.unwrap().port());
    }

    #[test]
    fn a_port_in_use_is_named_with_its_key() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut listen = Config::default().listen;
        listen.tcp = Address(taken.local_addr().ok());
        listen.quic = Address(None);
        let message = Sockets::bind(&listen).unwrap_err().to_string();
        assert!(
            message.contains("already in use") && message.contains("set listen.tcp"),
            "{message}"
        );
    }
}
