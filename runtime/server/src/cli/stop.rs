//! SIGINT and SIGTERM, for commands that end in good order.
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its making on neither signal ends the process by itself.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The name of the next signal. A wait that is given up loses none.
    pub(super) async fn wanted(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
