//! A compiling child that ended before it could say anything: what happened, and what the person who deploys can do about it.
use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use rustix::process::Signal;

/// What the child may take: settings of the operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) timeout: Duration,
    pub(super) memory_bytes: u64,
}

/// How a child ended.
#[derive(Debug)]
pub(super) enum EarlyEnd {
    /// It was given up and killed.
    TimeIsUp,
    /// By itself, or by a bound; with what it wrote to standard error.
    Ended(ExitStatus, String),
}

impl EarlyEnd {
    pub(super) fn explain(&self, bounds: Bounds) -> String {
        let (seconds, mebibytes) = (bounds.timeout.as_secs(), bounds.memory_bytes >> 20);
        let (status, complaint) = match self {
            Self::TimeIsUp => {
                return format!(
                    "the component could not be compiled within {seconds} s and was given up: make it smaller, or raise \
                     `modules.compile-timeout`"
                );
            }
            Self::Ended(status, complaint) => (status, complaint.trim()),
        };
        let signal = status.signal().and_then(Signal::from_named_raw);
        let said = match complaint.lines().next() {
            Some(_) => format!(" It said: {}", complaint.replace('\n', " ")),
            None => String::new(),
        };
        if complaint.contains("panicked at") {
            return format!(
                "the compiler panicked on this component. That is our fault or wasmtime's, and the daemon is unharmed: please report it with \
                 the component. Until then another optimisation level of the guest may avoid it.{said}"
            );
        }
        if complaint.contains("memory") {
            return format!(
                "the compiler needs more than {mebibytes} MiB for this component: make it smaller, or raise `modules.compile-memory`.{said}"
            );
        }
        if signal == Some(Signal::KILL) || signal == Some(Signal::XCPU) {
            return format!(
                "the compiler was killed: by its bound of {seconds} s of processor time a core, or because the machine ran out of memory. Make \
                 the component smaller, raise `modules.compile-timeout`, or lower `modules.compile-memory` to what the machine has"
            );
        }
        format!(
            "the compiler ended with {status} before it was done, and the daemon is unharmed: deploy again, and if it ends so again please \
             report it with the component.{said}"
        )
    }
}
