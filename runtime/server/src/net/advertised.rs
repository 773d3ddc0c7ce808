//! What a client is told to connect to, where that depends on the listener it came through.
//!
//! The node knows one address, that of plain TCP and QUIC, which share it. Whoever came through TLS over TCP must come back there.
use tidemill_protocol::api::Response;

/// Host and port for clients of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Advertised {
    /// Puts it into every answer that names brokers.
    pub(super) fn amend(&self, response: &mut Response) {
        match response {
            Response::Metadata(metadata) => metadata
                .brokers
                .iter_mut()
                .for_each(|broker| self.put(&mut broker.host, &mut broker.port)),
            Response::DescribeCluster(cluster) => cluster
                .brokers
                .iter_mut()
                .for_each(|broker| self.put(&mut broker.host, &mut broker.port)),
            Response::FindCoordinator(found) => {
                self.put(&mut found.host, &mut found.port);
                found
                    .coordinators
                    .iter_mut()
                    .for_each(|coordinator| self.put(&mut coordinator.host, &mut coordinator.port));
            }
            _ => {}
        }
    }

    /// A place without a port is no address ("no coordinator") and stays as it is.
    fn put(&self, host: &mut String, port: &mut i32) {
        if 0 < *port {
            host.clone_from(&self.host);
            *port = self.port.into();
        }
    }
}
