//! Modules: deployments, their tasks as members of consumer groups, and the policy for what goes wrong.
pub mod run;
pub mod state_key;

use alloc::{collections::BTreeSet, string::String};
use tidemill_protocol::{admin, api::Response};

use crate::{
    context::{Context, Refusal},
    effect::{Changes, Found, LogId, ReadAnswer, RequestId, Row},
    entry::Stamp,
    state::{self, State},
    stored,
    stored::Malformed,
};

/// One version of one module, as the host needs to name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Name of the deployment, which is also its consumer group.
    pub module: String,
    /// Version label from the manifest.
    pub label: String,
    /// SHA-256 of the component's bytes: names the artefact in the data directory.
    pub digest: [u8; 32],
}

stored! {
    /// A durable change of one module.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Change {
        /// Forget a module.
        Deleted(String) = 1,
    }
}

/// What a [`Change`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied.
    Done,
}

/// Who waits for a change to be applied.
#[derive(Debug)]
pub enum Waiter {}

/// What is kept of modules, but for their own state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {}

impl Durable {
    pub(crate) fn load(&mut self, _row: &Row) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Applies a change. May use the rest of the state: `state.append(..)`, `state.commit_offsets(..)`.
pub(crate) fn apply(_state: &mut State, _at: Stamp, _change: &Change, _changes: &mut Changes) -> Outcome {
    Outcome::Done
}

/// What is not kept: poll loops, attempts, logs, counters.
#[derive(Debug, Default)]
pub struct Modules {}

impl Modules {
    pub(crate) fn handle_start(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn handle_admin(
        &mut self,
        _ctx: &mut Context<'_>,
        _from: RequestId,
        _principal: &str,
        _call: admin::Call,
    ) {
    }

    pub(crate) fn handle_outcome(&mut self, _ctx: &mut Context<'_>, waiter: Waiter, _outcome: state::Outcome) {
        match waiter {}
    }

    pub(crate) fn handle_refused(&mut self, _ctx: &mut Context<'_>, waiter: Waiter, _refusal: Refusal) {
        match waiter {}
    }

    pub(crate) fn handle_response(&mut self, _ctx: &mut Context<'_>, _call: u64, _response: Response) {}

    pub(crate) fn handle_read(&mut self, _ctx: &mut Context<'_>, _reading: u64, _answer: ReadAnswer) {}

    pub(crate) fn handle_found(&mut self, _ctx: &mut Context<'_>, _reading: u64, _found: Option<Found>) {}

    pub(crate) fn handle_processed(&mut self, _ctx: &mut Context<'_>, _processed: run::Processed) {}

    pub(crate) fn handle_loaded(&mut self, _ctx: &mut Context<'_>, _version: &Version, _result: Result<(), String>) {}

    pub(crate) fn handle_topics_changed(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn handle_appended(&mut self, _ctx: &mut Context<'_>, _logs: &BTreeSet<LogId>) {}

    pub(crate) fn handle_timeout(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        None
    }
}
