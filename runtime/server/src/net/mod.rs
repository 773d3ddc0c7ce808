//! Listeners and connections.
//!
//! Each network thread has a current-thread runtime. The first has the QUIC endpoint and all listeners; TCP connections are dealt out to
//! all of them. Frames, decoding and encoding are done here, so that the node's thread sees only what it has to
//! decide about. Nothing here knows topics, groups or storage.
mod admin;
mod advertised;
mod bind;
mod connection;
mod frame;
mod gate;
pub(crate) mod quic;
mod tcp;
mod write;

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
    time::{sleep, timeout},
};

pub use self::bind::Addresses;
pub(crate) use self::{
    bind::{Sockets, size_buffers},
    gate::{Gate, Permit},
};
use crate::{config::Config, error::StartError, node::Event, tls::Configs};

/// Principal of whoever shows no certificate.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// The network threads, and the one of the node's loop if that has one.
pub(crate) struct Network {
    threads: Vec<JoinHandle<()>>,
    close: watch::Sender<bool>,
}

impl Network {
    /// Starts to serve, and runs the node's loop: on the network's thread if there is one only, which saves a record two wake-ups;
    /// otherwise on one of its own.
    pub(crate) fn start(
        config: &Config,
        sockets: Sockets,
        tls: &Configs,
        advertised_host: &str,
        gate: &Gate,
        turn: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, StartError> {
        let (close, closed) = watch::channel(false);
        let runtimes: Result<Vec<Runtime>, _> = (0..config.network.threads)
            .map(|_| Builder::new_current_thread().enable_all().build())
            .collect();
        let runtimes = runtimes?;
        let handles: Vec<Handle> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        listen(config, sockets, tls, advertised_host, gate, &handles, &closed)?;
        let mut threads = Vec::new();
        let mut spawn = |name: String, run: Box<dyn FnOnce() + Send>| -> io::Result<()> {
            threads.push(std::thread::Builder::new().name(name).spawn(run)?);
            Ok(())
        };
        let is_alone = runtimes.len() == 1;
        let mut turn = Some(turn);
        for (number, runtime) in runtimes.into_iter().enumerate() {
            let (mut closed, gate) = (closed.clone(), gate.clone());
            let turn = turn.take_if(|_| is_alone);
            let closing = async move {
                let _ = closed.wait_for(|closed| *closed).await;
                // The endpoint closes its connections in a task of its own; it gets a moment for it.
                sleep(Duration::from_millis(20)).await;
                gate.send(Event::Stop);
            };
            let run = move || match turn {
                Some(turn) => drop(runtime.block_on(async { tokio::join!(turn, closing) })),
                None => runtime.block_on(closing),
            };
            spawn(format!("network-{number}"), Box::new(run))?;
        }
        if let Some(turn) = turn {
            let runtime = Builder::new_current_thread().enable_time().build()?;
            spawn("node".to_owned(), Box::new(move || runtime.block_on(turn)))?;
        }
        Ok(Self { threads, close })
    }

    /// Closes whatever is still open, then ends the node's loop.
    pub(crate) fn close(self) {
        let _ = self.close.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the node panicked");
            }
        }
    }
}

fn listen(
    config: &Config,
    sockets: Sockets,
    tls: &Configs,
    advertised_host: &str,
    gate: &Gate,
    handles: &[Handle],
    closed: &watch::Receiver<bool>,
) -> Result<(), StartError> {
    let Some(first) = handles.first() else { return Ok(()) };
    let _within = first.enter();
    if let Some(socket) = sockets.quic {
        let endpoint = quic::endpoint(socket, tls.quic.clone(), &config.network)?;
        let mut closed = closed.clone();
        first.spawn(quic::accept(endpoint.clone(), gate.clone()));
        first.spawn(async move {
            let _ = closed.wait_for(|closed| *closed).await;
            endpoint.close(0u32.into(), b"the node stops");
            let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        });
    }
    let plain = sockets.tcp.map(|socket| tcp::Listener {
        socket,
        tls: None,
        advertised: None,
    });
    let with_tls = sockets.tls.map(|socket| {
        let port = socket.local_addr().map_or(0, |address: SocketAddr| address.port());
        let advertised = advertised::Advertised {
            host: advertised_host.to_owned(),
            port,
        };
        tcp::Listener {
            socket,
            tls: Some(Arc::clone(&tls.tcp)),
            advertised: Some(advertised),
        }
    });
    for listener in plain.into_iter().chain(with_tls) {
        first.spawn(tcp::accept(listener, gate.clone(), handles.to_vec()));
    }
    Ok(())
}
