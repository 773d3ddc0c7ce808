//! What can go wrong, and whose fault it is.
use std::io;

/// A failure of storage. Unless [`Error::is_retriable`], the process must stop: recovery is the only second chance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operator's: two daemons, one directory.
    #[error("another tidemill is using this data directory ({0} is locked)")]
    InUse(String),
    /// The operator's: this directory holds something else.
    #[error("{0} does not belong in a Tidemill data directory")]
    Foreign(String),
    /// The operator's: a downgrade.
    #[error("{file} has format {found}, this version reads up to {known}: it was written by a newer Tidemill")]
    Newer {
        /// Which file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The disk's: what was written is not what is there. Nothing is repaired silently.
    #[error("{file} is damaged at byte {position}: {what}. Restore the directory from a backup or a replica")]
    Corrupt {
        /// Which file.
        file: String,
        /// Where in it.
        position: u64,
        /// What was expected.
        what: String,
    },
    /// The operator's: the disk is full. Nothing was written.
    #[error("the disk is full: cannot write {0}")]
    NoSpace(String),
    /// The disk's.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// The system's word.
        source: io::Error,
    },
    /// The disk's, seen by redb.
    #[error("{file}: {source}")]
    Database {
        /// Which file.
        file: String,
        /// redb's word.
        source: Box<redb::Error>,
    },
    /// Ours: a caller broke the contract, and going on would write a lie.
    #[error("broken contract: {0}")]
    Contract(String),
}

impl Error {
    /// True if the same call may succeed later and nothing was written now.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::NoSpace(_))
    }

    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::NoSpace(file.to_owned());
        }
        Self::Io {
            action,
            file: file.to_owned(),
            source,
        }
    }

    pub(crate) fn database(file: &str, source: impl Into<redb::Error>) -> Self {
        match source.into() {
            redb::Error::Io(source) => Self::io("write", file, source),
            source => Self::Database {
                file: file.to_owned(),
                source: Box::new(source),
            },
        }
    }

    pub(crate) fn corrupt(file: &str, position: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            file: file.to_owned(),
            position,
            what: what.into(),
        }
    }
}

/// A full disk and an exhausted quota are the same to a writer.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds the file's name to what redb says.
pub(crate) trait Named<T> {
    fn named(self, file: &str) -> Result<T, Error>;
}

impl<T, E: Into<redb::Error>> Named<T> for Result<T, E> {
    fn named(self, file: &str) -> Result<T, Error> {
        self.map_err(|error| Error::database(file, error))
    }
}
