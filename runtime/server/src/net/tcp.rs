//! TCP listeners, with and without TLS.
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ANONYMOUS,
    advertised::Advertised,
    connection::{Ended, Peer, serve},
    gate::Gate,
    write::Socket,
};
use crate::{limits, tls};

/// One listener.
pub(super) struct Listener {
    pub(super) socket: std::net::TcpListener,
    /// `None`: plain.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Differs from the node's own for TLS.
    pub(super) advertised: Option<Advertised>,
}

/// Accepts until the node stops; connections go to the threads in turn.
pub(super) async fn accept(listener: Listener, gate: Gate, threads: Vec<Handle>) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.socket)?;
    let tls = listener.tls.map(TlsAcceptor::from);
    let mut stop = gate.clone();
    let mut turn = threads.iter().cycle();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.stopping() => return Ok(()),
            accepted = socket.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the client is gone already: the next accept may succeed, an endless loop would not help.
                tracing::warn!(%error, "cannot accept a TCP connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (gate, tls, advertised) = (gate.clone(), tls.clone(), listener.advertised.clone());
        let Some(thread) = turn.next() else { return Ok(()) };
        let stream = stream.into_std()?;
        thread.spawn(async move {
            let Some(_open) = gate.open() else {
                tracing::warn!(%address, "refused a TCP connection: network.connections-max is reached");
                return;
            };
            match connection(stream, address, gate, tls, advertised).await {
                Err(error) if error.is_worth_a_line() => tracing::info!(%address, %error, "TCP connection closed"),
                Ok(()) | Err(_) => tracing::debug!(%address, "TCP connection closed"),
            }
        });
    }
}

async fn connection(
    stream: std::net::TcpStream,
    address: SocketAddr,
    gate: Gate,
    tls: Option<TlsAcceptor>,
    advertised: Option<Advertised>,
) -> Result<(), Ended> {
    let stream = TcpStream::from_std(stream).map_err(Ended::Accept)?;
    stream.set_nodelay(true).map_err(Ended::Accept)?;
    let idle = gate.config().network.idle_timeout.duration();
    let peer = |principal: Option<String>| Peer {
        principal: principal.map_or_else(|| ANONYMOUS.into(), |name| format!("User:{name}").into()),
        host: address.ip().to_string().into(),
        advertised,
        idle,
    };
    let Some(acceptor) = tls else {
        let (from, to) = stream.into_split();
        return serve(gate, peer(None), from, Socket(to)).await;
    };
    let stream = timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream))
        .await
        .map_err(|_| Ended::Handshake)?
        .map_err(Ended::Accept)?;
    let principal = stream.get_ref().1.peer_certificates().and_then(tls::principal);
    let (from, to) = tokio::io::split(stream);
    serve(gate, peer(principal), from, Socket(to)).await
}
