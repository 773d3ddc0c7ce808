//! Consumer groups: who is a member, who owns what.
use alloc::string::String;
use tidemill_protocol::{api::Request, error_code::ErrorCode};

use crate::{
    context::{ConnectionId, Context, Refusal, RequestContext, Requester},
    effect::{Changes, Row},
    entry::Stamp,
    state::{self, State},
    stored,
    stored::Malformed,
};

stored! {
    /// A durable change of one group.
    #[derive(Clone, Debug, PartialEq)]
    pub enum Change {
        /// Forget a group.
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

/// What is kept of groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durable {}

impl Durable {
    /// Whether this member may commit offsets for the group now. `generation` is a classic generation or a member epoch; -1 with an
    /// empty member id is a consumer outside of group management.
    pub fn check_commit(
        &self,
        _group: &str,
        _member: &str,
        _instance: Option<&str>,
        _generation: i32,
    ) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub(crate) fn load(&mut self, _row: &Row) -> Result<(), Malformed> {
        Ok(())
    }
}

/// Applies a change. May use the rest of the state: `state.delete_offsets(..)`.
pub(crate) fn apply(_state: &mut State, _at: Stamp, _change: &Change, _changes: &mut Changes) -> Outcome {
    Outcome::Done
}

/// What is not kept: deadlines, pending joins and syncs.
#[derive(Debug, Default)]
pub struct Groups {}

impl Groups {
    pub(crate) fn handle_start(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn handle_request(
        &mut self,
        _ctx: &mut Context<'_>,
        _from: Requester,
        _context: &RequestContext,
        _request: Request,
    ) {
    }

    pub(crate) fn handle_outcome(&mut self, _ctx: &mut Context<'_>, waiter: Waiter, _outcome: state::Outcome) {
        match waiter {}
    }

    pub(crate) fn handle_refused(&mut self, _ctx: &mut Context<'_>, waiter: Waiter, _refusal: Refusal) {
        match waiter {}
    }

    pub(crate) fn handle_topics_changed(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn handle_connection_closed(&mut self, _ctx: &mut Context<'_>, _connection: ConnectionId) {}

    pub(crate) fn handle_timeout(&mut self, _ctx: &mut Context<'_>) {}

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        None
    }
}
