//! `tidemill bench idle`: what a client costs that is only there.
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::report::Report;
use super::target::{Target, TargetArgs};
use super::wire::{Connection, Transport, client_endpoint};
use super::{Problem, settings};

/// Handshakes at once.
const AT_ONCE: usize = 32;

/// Connections of one socket: ports are a number of 16 bits.
const PER_SOCKET: usize = 1000;

/// Open many connections that do nothing, and measure the memory that each takes in the daemon.
#[derive(Debug, Args)]
pub(super) struct Idle {
    #[command(flatten)]
    target: TargetArgs,
    /// How many.
    #[arg(long, short = 'n', default_value_t = 10_000)]
    connections: usize,
    /// How long to leave them alone before memory is read.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    rest: u64,
}

/// What is kept open.
enum Open {
    Quic(#[allow(dead_code, reason = "held, not used")] quinn::Connection),
    Stream(#[allow(dead_code, reason = "held, not used")] Box<Connection>),
}

impl Idle {
    pub(super) async fn measure(self) -> Result<Report, Problem> {
        let bound = ("TIDEMILL_NETWORK_CONNECTIONS_MAX", (self.connections + 100).to_string());
        let target = Target::prepare_with(&self.target, vec![bound]).await?;
        let mut report = Report::new(
            "idle",
            settings([target.settings(), vec![("connections", json!(self.connections))]]),
        );
        let before = target.before().await;
        let open = self.open(&target).await?;
        tokio::time::sleep(Duration::from_secs(self.rest)).await;
        let rss_before = before.rss_bytes();
        target.after(before, 0, &mut report).await;
        match (rss_before, &report.daemon) {
            (Some(before), Some(now)) => {
                let grown = now.rss_mib * 1024.0 - before as f64 / 1024.0;
                let each = grown / open.len().max(1) as f64;
                report.more.insert("daemon_kib_each".to_owned(), json!(each));
            }
            _ => report.notes.push("the daemon's memory could not be read".to_owned()),
        }
        Ok(report)
    }

    async fn open(&self, target: &Target) -> Result<Vec<Open>, Problem> {
        if target.dial.transport != Transport::Quic {
            let open = stream::iter(0..self.connections)
                .map(|_| async { Ok::<_, Problem>(Open::Stream(Box::new(target.connect().await?))) });
            return open.buffer_unordered(AT_ONCE).try_collect().await;
        }
        let peer: SocketAddr = tokio::net::lookup_host(&target.address)
            .await?
            .next()
            .ok_or("no such address")?;
        let host = peer.ip().to_string();
        let sockets = self.connections.div_ceil(PER_SOCKET);
        let endpoints: Vec<_> = (0..sockets).map(|_| client_endpoint(peer)).collect::<Result<_, _>>()?;
        let open = stream::iter(0..self.connections).map(|number| {
            let (endpoint, host) = (&endpoints[number / PER_SOCKET], &host);
            async move { Ok::<_, Problem>(Open::Quic(target.dial.quic(endpoint, peer, host).await?)) }
        });
        open.buffer_unordered(AT_ONCE).try_collect().await
    }
}
