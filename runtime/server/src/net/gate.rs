//! The way from the network into the node, with a bound on everything that passes.
//!
//! A request holds its bytes and one place from before it is read until its answer is written. Whoever finds no place waits, which stops
//! the reading of its stream, which stops its client. The channel to the node needs no bound of its own for that reason.
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tidemill_broker::context::ConnectionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    config::Config,
    node::{Compiler, Event, Events},
};

/// Cheap to clone; every stream has one.
#[derive(Clone)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

struct Shared {
    events: Events,
    bytes: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    frame_bytes_max: usize,
    config: Config,
    compiler: Arc<Compiler>,
    connections: AtomicU64,
    open: Arc<AtomicU32>,
    streams: watch::Sender<u32>,
}

/// The right to hold one request. Dropped when its answer has been written.
#[derive(Debug)]
pub(crate) struct Permit {
    _bytes: OwnedSemaphorePermit,
    _request: OwnedSemaphorePermit,
}

/// One stream as the node knows it; dropping it tells the node that it is closed.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    shared: Arc<Shared>,
}

impl Gate {
    pub(crate) fn new(
        config: &Config,
        compiler: Arc<Compiler>,
        events: Events,
        open: Arc<AtomicU32>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let shared = Shared {
            compiler,
            events,
            bytes: Arc::new(Semaphore::new(
                config.network.request_bytes_max.bytes().min(Semaphore::MAX_PERMITS),
            )),
            requests: Arc::new(Semaphore::new(config.network.requests_max)),
            frame_bytes_max: config.network.frame_bytes_max.bytes(),
            config: config.clone(),
            connections: AtomicU64::new(1),
            open,
            streams: watch::channel(0).0,
        };
        Self {
            shared: Arc::new(shared),
            stop,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn compiler(&self) -> Arc<Compiler> {
        Arc::clone(&self.shared.compiler)
    }

    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.shared.frame_bytes_max
    }

    /// Waits for room. `None` when the node stops.
    pub(crate) async fn admit(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes.max(1)).ok()?;
        let request = self.shared.requests.clone().acquire_owned().await.ok()?;
        let bytes = self.shared.bytes.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Permit {
            _bytes: bytes,
            _request: request,
        })
    }

    /// Hands something to the node. After the node is gone nobody answers, which the asker sees by itself.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.shared.events.send(event);
    }

    pub(crate) fn connection(&self) -> Connection {
        let id = ConnectionId(self.shared.connections.fetch_add(1, Ordering::Relaxed));
        self.shared.streams.send_modify(|streams| *streams += 1);
        Connection {
            id,
            shared: self.shared.clone(),
        }
    }

    /// Returns when no stream is served any more.
    pub(crate) async fn quiet(&self) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self.shared.streams.subscribe().wait_for(|streams| *streams == 0).await;
    }

    /// Counts one client connection, or refuses it.
    pub(crate) fn open(&self) -> Option<Open> {
        let count = Open(self.shared.open.clone());
        let before = count.0.fetch_add(1, Ordering::Relaxed);
        // Both transports have their own share of the bound, and one counter is enough to keep to the sum.
        (u64::from(before) < 2 * self.shared.config.network.connections_max as u64).then_some(count)
    }

    /// Returns when the node wants no further requests.
    pub(crate) async fn stopping(&mut self) {
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

/// One open client connection.
pub(crate) struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.shared.events.send(Event::Closed(self.id));
        self.shared.streams.send_modify(|streams| *streams -= 1);
    }
}
