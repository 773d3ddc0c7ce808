//! What goes wrong outside of a batch: with the machine, with an artefact, with a component that nobody can run.
use std::{fmt::Write as _, io};

/// Why the host could not do what it was asked. Faults of a guest are no errors: they are the outcome of a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot run compiled code: its fault.
    #[error("the sandbox does not start on this machine: {0}")]
    Engine(String),
    /// No thread to be had: the machine's fault.
    #[error("no thread for the sandbox: {0}")]
    Thread(io::Error),
    /// The disk's fault.
    #[error("artefact {path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The artefact is damaged, or of another version or machine; compile the component again.
    #[error("artefact {path}: {why}")]
    Artefact {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The module author's fault: the component is not one that can run here.
    #[error("{0}")]
    Component(String),
}

impl Error {
    pub(crate) fn engine(error: impl Into<wasmtime::Error>) -> Self {
        Self::Engine(chain(&error.into()))
    }

    pub(crate) fn component(error: impl Into<wasmtime::Error>) -> Self {
        Self::Component(chain(&error.into()))
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{cause}");
    }
    text
}
