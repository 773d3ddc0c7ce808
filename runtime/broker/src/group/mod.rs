//! Consumer groups: who is a member, who owns what, by both of Kafka's protocols.
//!
//! The coordinator of a group decides on a working copy and proposes what differs as a [`Change`]; an answer leaves only when every
//! change that it rests on has been applied. One proposal of a group is under way at a time, and what happens meanwhile goes into the
//! next, so that a storm of joins costs few entries. Commits of offsets are checked in `apply`, against the durable copy
//! ([`Durable::check_commit`]): their order with the changes of the group is the order of the log.
//!
//! Guaranteed: in no epoch or generation has a partition two owners; after a restart members and assignments are as they were answered,
//! with fresh deadlines. Long waits are deadlines (`Groups::poll_timeout`), never threads.
//!
//! The coordinator does not know connections: a join whose client has gone away counts until its session ends, as in Kafka.
pub mod assignor;
pub mod classic;
pub mod consumer;
mod describe;
mod durable;
pub mod limits;
mod seat;
#[cfg(test)]
mod tests;
mod timers;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::{
    api::{Request, Response},
    error_code::ErrorCode,
    ids::Uuid,
};

pub(crate) use durable::apply;
pub use durable::{Body, Change, Durable, Group, GroupRow, Header, Member, Outcome, Put};
use seat::{Seat, Turn};
use timers::{Alarm, Timers};

use crate::{
    context::{ConnectionId, Context, Refusal, RequestContext, Requester},
    state,
};

/// Partitions by topic.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Who waits for a change to be applied.
#[derive(Debug)]
pub enum Waiter {
    /// The coordinator of a group, which has written its members.
    Put(String),
    /// A client that deletes groups: the call, and the place of this group in it.
    Delete(u64, usize),
}

/// The coordinator of all groups: what a restart may forget.
#[derive(Debug, Default)]
pub struct Groups {
    seats: BTreeMap<String, Seat>,
    timers: Timers,
    deletions: describe::Deletions,
}

impl Groups {
    pub(crate) fn handle_start(&mut self, ctx: &mut Context<'_>) {
        let state = ctx.state;
        for (name, group) in state.groups.iter() {
            self.seats.insert(name.into(), Seat::over(group.body.clone()));
            self.turn(ctx, name, |turn| turn.resume());
        }
    }

    pub(crate) fn handle_request(
        &mut self,
        ctx: &mut Context<'_>,
        from: Requester,
        context: &RequestContext,
        request: Request,
    ) {
        match request {
            Request::JoinGroup(request) => {
                self.with(ctx, &request.group_id.clone(), |turn| turn.join(from, context, request))
            }
            Request::SyncGroup(request) => self.with(ctx, &request.group_id.clone(), |turn| turn.sync(from, request)),
            Request::Heartbeat(request) => {
                self.with(ctx, &request.group_id.clone(), |turn| turn.heartbeat(from, &request))
            }
            Request::LeaveGroup(request) => self.with(ctx, &request.group_id.clone(), |turn| {
                turn.leave(from, context, request)
            }),
            Request::ConsumerGroupHeartbeat(request) => {
                self.with(ctx, &request.group_id.clone(), |turn| {
                    turn.consumer_heartbeat(from, context, request)
                });
            }
            Request::ConsumerGroupDescribe(request) => {
                let response = self.describe_consumer_groups(ctx, request);
                ctx.respond(from, Response::ConsumerGroupDescribe(response));
            }
            Request::DescribeGroups(request) => {
                let response = self.describe_groups(ctx, context, request);
                ctx.respond(from, Response::DescribeGroups(response));
            }
            Request::ListGroups(request) => {
                let response = self.list(ctx, &request);
                ctx.respond(from, Response::ListGroups(response));
            }
            Request::DeleteGroups(request) => self.delete(ctx, from, request),
            other => ctx.note(alloc::format!(
                "the group coordinator was handed a request of another part: {:?}",
                other.key()
            )),
        }
    }

    pub(crate) fn handle_outcome(&mut self, ctx: &mut Context<'_>, waiter: Waiter, outcome: state::Outcome) {
        match waiter {
            Waiter::Put(name) => self.turn(ctx, &name, |turn| turn.committed()),
            Waiter::Delete(call, place) => {
                let error = match outcome {
                    state::Outcome::Group(Outcome::Refused(error)) => error,
                    _ => ErrorCode::NONE,
                };
                self.deleted(ctx, call, place, error);
            }
        }
    }

    pub(crate) fn handle_refused(&mut self, ctx: &mut Context<'_>, waiter: Waiter, refusal: Refusal) {
        match waiter {
            Waiter::Put(name) => self.turn(ctx, &name, |turn| turn.refused(refusal)),
            Waiter::Delete(call, place) => self.deleted(ctx, call, place, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    /// Topics or partitions came or went: groups that subscribe to them share anew.
    pub(crate) fn handle_topics_changed(&mut self, ctx: &mut Context<'_>) {
        let names: Vec<String> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.assigns())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.turn(ctx, &name, |turn| turn.topics_changed());
        }
    }

    /// Nothing goes with a connection: membership is a matter of sessions.
    pub(crate) fn handle_connection_closed(&mut self, _ctx: &mut Context<'_>, _connection: ConnectionId) {}

    pub(crate) fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        self.timers.forgive_oversleep(ctx.now);
        while let Some((name, alarm)) = self.timers.pop_due(ctx.now) {
            self.turn(ctx, &name, |turn| turn.alarm(&alarm));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        self.timers.next()
    }

    /// One turn of a group for a client, who may be the first to name it.
    fn with(&mut self, ctx: &mut Context<'_>, name: &str, play: impl FnOnce(&mut Turn<'_, '_>)) {
        if !self.seats.contains_key(name) {
            self.seats.insert(name.into(), Seat::new());
        }
        self.turn(ctx, name, play);
    }

    /// One turn of a group: what happened, then what follows from it.
    fn turn(&mut self, ctx: &mut Context<'_>, name: &str, play: impl FnOnce(&mut Turn<'_, '_>)) {
        let groups = self.seats.len();
        let Some(seat) = self.seats.get_mut(name) else { return };
        let mut turn = Turn {
            ctx,
            name,
            seat,
            timers: &mut self.timers,
            groups,
        };
        play(&mut turn);
        turn.settle();
        if seat.is_idle() {
            self.seats.remove(name);
            self.timers.cancel_all(name);
        }
    }
}

/// The client's name for itself, as groups show it.
fn client_id(context: &RequestContext) -> String {
    context.client_id.as_deref().unwrap_or_default().to_string()
}
