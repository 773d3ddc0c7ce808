//! Why a daemon does not start, or stops. One line each, and what to do about it.
use std::{io, net::SocketAddr, path::PathBuf};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),
    /// Another daemon has the data directory.
    #[error("another tidemill (process {pid}) uses the data directory {}; stop it, or give this one its own with --data-dir", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Its process, as far as it is known.
        pid: String,
    },
    /// The data directory holds something that is not ours.
    #[error("the data directory {} holds {name:?}, which is not Tidemill's; give an empty directory with --data-dir, or move it away", path.display())]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// What is in it.
        name: String,
    },
    /// An address is taken.
    #[error("{address} ({transport}) is already in use; stop what listens there, or set {key} to another address")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
        /// `TCP` or `UDP`.
        transport: &'static str,
        /// Its key in the configuration.
        key: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({transport}): {error}; set {key} to another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `TCP` or `UDP`.
        transport: &'static str,
        /// Its key in the configuration.
        key: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Certificates.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file of ours.
    #[error("{}: {error}{}", path.display(), hint(error))]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The log and what is derived from it.
    #[error("{0}")]
    Storage(String),
    /// The Wasm host.
    #[error("the Wasm host does not start: {0}")]
    Host(String),
    /// Threads and runtimes.
    #[error("the system gives no resources: {0}")]
    System(#[from] io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; make room on the disk and start again",
        io::ErrorKind::PermissionDenied => {
            "; make it writable for this user, or give another directory with --data-dir"
        }
        _ => "",
    }
}
