//! One group in the hands of its coordinator: the working copy, what of it is not kept yet, and the answers that wait for that.
use alloc::{
    collections::{BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};
use core::mem;
use tidemill_protocol::api::Response;

use super::{Alarm, Body, Change, Put, Timers, Waiter, classic, consumer};
use crate::{
    context::{Context, Refusal, Requester, Waiter as ProposalWaiter},
    entry::Command,
};

/// One group.
#[derive(Debug)]
pub(super) struct Seat {
    /// Working copy: what the group will be when everything under way is applied.
    pub(super) body: Body,
    /// Of the classic protocol.
    pub(super) classic: classic::Soft,
    /// Of the consumer protocol.
    pub(super) consumer: consumer::Soft,
    /// Whether the durable state knows the group, or will when the proposal under way is applied.
    kept: bool,
    /// Members that differ from what is kept; `None` when nothing differs, empty when only the header does.
    dirty: Option<BTreeSet<String>>,
    /// Members written by the proposal under way.
    flying: Option<BTreeSet<String>>,
    /// Answers that rest on the proposal under way.
    landing: VecDeque<(Requester, Response)>,
    /// Answers that rest on changes not proposed yet.
    waiting: VecDeque<(Requester, Response)>,
}

impl Seat {
    /// A group that nobody has heard of.
    pub(super) fn new() -> Seat {
        Seat {
            kept: false,
            ..Seat::over(Body::Classic(classic::Group::default()))
        }
    }

    /// A group as it was kept.
    pub(super) fn over(body: Body) -> Seat {
        Seat {
            body,
            classic: classic::Soft::default(),
            consumer: consumer::Soft::default(),
            kept: true,
            dirty: None,
            flying: None,
            landing: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        self.is_blank() && self.landing.is_empty() && self.waiting.is_empty()
    }

    /// A group that only somebody's question has brought up.
    pub(super) fn is_blank(&self) -> bool {
        !self.kept
            && self.dirty.is_none()
            && self.flying.is_none()
            && self.classic.pending.is_empty()
            && self.body.members() == 0
    }

    /// It has members, or somebody is about to be one.
    pub(super) fn is_in_use(&self) -> bool {
        self.body.members() > 0 || !self.classic.pending.is_empty()
    }

    /// Whether the coordinator assigns in this group.
    pub(super) fn assigns(&self) -> bool {
        matches!(self.body, Body::Consumer(_))
    }

    /// The durable state has forgotten the group. What has happened since goes on as a new group.
    pub(super) fn forgotten(&mut self) {
        self.kept = self.flying.is_some();
    }

    /// The header differs from what is kept.
    pub(super) fn touch(&mut self) {
        self.dirty.get_or_insert_default();
    }

    /// A member differs from what is kept.
    pub(super) fn touch_member(&mut self, id: &str) {
        self.dirty.get_or_insert_default().insert(id.into());
    }
}

/// One group, for as long as something happens to it.
pub(super) struct Turn<'a, 'c> {
    pub(super) ctx: &'a mut Context<'c>,
    pub(super) name: &'a str,
    pub(super) seat: &'a mut Seat,
    pub(super) timers: &'a mut Timers,
    /// Number of groups there are.
    pub(super) groups: usize,
}

impl Turn<'_, '_> {
    /// Answers when everything that has happened so far is applied.
    pub(super) fn respond(&mut self, to: Requester, response: Response) {
        self.seat.waiting.push_back((to, response));
    }

    /// After a restart: deadlines as if everybody had just been heard.
    pub(super) fn resume(&mut self) {
        match &self.seat.body {
            Body::Classic(_) => self.resume_classic(),
            Body::Consumer(_) => self.resume_consumer(),
        }
    }

    /// A deadline has passed.
    pub(super) fn alarm(&mut self, alarm: &Alarm) {
        match &self.seat.body {
            Body::Classic(_) => self.classic_alarm(alarm),
            Body::Consumer(_) => self.consumer_alarm(alarm),
        }
    }

    /// The proposal under way is applied.
    pub(super) fn committed(&mut self) {
        self.seat.flying = None;
        for (to, response) in mem::take(&mut self.seat.landing) {
            self.ctx.respond(to, response);
        }
    }

    /// The proposal under way will never be applied. Its changes stay dirty, so that the next turn proposes them again; who waited for
    /// them is told to ask again.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        let flying = self.seat.flying.take().unwrap_or_default();
        self.seat.dirty.get_or_insert_default().extend(flying);
        self.seat.consumer.told.clear();
        let landing = mem::take(&mut self.seat.landing);
        for (to, response) in landing.into_iter().chain(mem::take(&mut self.seat.waiting)) {
            self.ctx.respond(to, super::describe::unavailable(response));
        }
        if refusal != Refusal::Stopping {
            self.timers
                .set(self.name, Alarm::Retry, self.ctx.now + super::limits::RETRY_MS);
        }
    }

    /// Proposes what differs from what is kept, unless a proposal is under way, and lets go of answers that wait for nothing.
    pub(super) fn settle(&mut self) {
        if let Body::Consumer(_) = self.seat.body {
            self.settle_modules();
        }
        let seat = &mut *self.seat;
        let may_propose = seat.flying.is_none() && !self.timers.is_set(self.name, &Alarm::Retry);
        if let Some(dirty) = seat.dirty.take_if(|_| may_propose) {
            let members: Vec<_> = dirty.iter().map(|id| (id.clone(), seat.body.member(id))).collect();
            let put = Put {
                group: self.name.into(),
                header: seat.body.header(),
                members,
            };
            seat.flying = Some(dirty);
            seat.kept = true;
            seat.landing.append(&mut seat.waiting);
            let waiter = ProposalWaiter::Group(Waiter::Put(self.name.into()));
            self.ctx.propose(Command::Group(Change::Put(put)), waiter);
        }
        let seat = &mut *self.seat;
        if seat.dirty.is_some() {
            return;
        }
        if seat.flying.is_some() {
            seat.landing.append(&mut seat.waiting);
            return;
        }
        for (to, response) in mem::take(&mut seat.waiting) {
            self.ctx.respond(to, response);
        }
    }
}
