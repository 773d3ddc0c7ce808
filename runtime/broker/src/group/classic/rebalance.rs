//! From one generation to the next: gathering members, waiting for the slow, electing a leader, dropping the silent.
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use core::mem;
use tidemill_protocol::{api::Response, error_code::ErrorCode};

use super::{Group, Phase, Preparing};
use crate::group::{Alarm, Body, Turn};

impl Turn<'_, '_> {
    /// The group, of which the caller knows that it is classic.
    pub(super) fn classic(&mut self) -> &mut Group {
        match &mut self.seat.body {
            Body::Classic(group) => group,
            Body::Consumer(_) => unreachable!("the caller has looked at the protocol"),
        }
    }

    pub(in crate::group) fn resume_classic(&mut self) {
        let sessions: Vec<(String, i64)> = self
            .classic()
            .members
            .iter()
            .map(|(id, member)| (id.clone(), i64::from(member.session_timeout_ms)))
            .collect();
        for (id, session_timeout_ms) in &sessions {
            self.await_heartbeat(id, *session_timeout_ms);
        }
        if sessions.is_empty() && self.classic().header.phase != Phase::Empty {
            // The last member was dropped, and the generation without it did not become durable any more.
            self.prepare();
        } else if self.classic().header.phase == Phase::Completing {
            self.seat.classic.unsynced = sessions.into_iter().map(|(id, _)| id).collect();
            self.await_syncs();
        }
    }

    pub(in crate::group) fn classic_alarm(&mut self, alarm: &Alarm) {
        match alarm {
            Alarm::Session(member) => self.session_over(member),
            Alarm::Join => self.join_time_over(),
            Alarm::Sync => self.sync_time_over(),
            Alarm::Revocation(_) | Alarm::Retry => {}
        }
    }

    /// A member must be heard within this time.
    pub(super) fn await_heartbeat(&mut self, id: &str, session_timeout_ms: i64) {
        self.timers
            .set(self.name, Alarm::Session(id.into()), self.ctx.now + session_timeout_ms);
    }

    /// A member has been heard.
    pub(super) fn heard(&mut self, id: &str) {
        if let Some(session_timeout_ms) = self
            .classic()
            .members
            .get(id)
            .map(|member| i64::from(member.session_timeout_ms))
        {
            self.await_heartbeat(id, session_timeout_ms);
        }
    }

    /// Something has changed: a new generation is needed, or the one being prepared may be complete now.
    pub(super) fn rebalance_or_complete(&mut self) {
        if self.seat.classic.preparing.is_none() {
            self.prepare()
        } else {
            self.maybe_complete()
        }
    }

    /// Starts to gather members for the next generation.
    pub(super) fn prepare(&mut self) {
        self.timers.cancel(self.name, &Alarm::Sync);
        self.seat.classic.unsynced.clear();
        for (id, requester) in mem::take(&mut self.seat.classic.syncing) {
            // It could not heartbeat while it waited for us.
            self.heard(&id);
            self.refuse_sync(requester, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let rebalance_timeout_ms = self.classic().rebalance_timeout_ms();
        let delay_ms = self.ctx.config.group_initial_rebalance_delay_ms;
        if self.classic().header.phase == Phase::Empty && 0 < delay_ms {
            let remaining_ms = (rebalance_timeout_ms - delay_ms).max(0);
            self.seat.classic.preparing = Some(Preparing::First {
                remaining_ms,
                grown: false,
            });
            self.timers.set(self.name, Alarm::Join, self.ctx.now + delay_ms);
            return;
        }
        self.seat.classic.preparing = Some(Preparing::Next);
        if self.all_joined() {
            self.complete_join();
        } else {
            self.timers
                .set(self.name, Alarm::Join, self.ctx.now + rebalance_timeout_ms);
        }
    }

    /// Ends the gathering if everybody is here; the first generation waits for its time.
    pub(super) fn maybe_complete(&mut self) {
        if matches!(self.seat.classic.preparing, Some(Preparing::Next)) && self.all_joined() {
            self.complete_join();
        }
    }

    fn all_joined(&mut self) -> bool {
        let members = self.classic().members.len();
        self.seat.classic.joining.len() == members && self.seat.classic.pending.is_empty()
    }

    fn join_time_over(&mut self) {
        let delay_ms = self.ctx.config.group_initial_rebalance_delay_ms;
        if let Some(Preparing::First {
            remaining_ms: remaining_ms @ 1..,
            grown: grown @ true,
        }) = &mut self.seat.classic.preparing
        {
            *grown = false;
            let wait_ms = delay_ms.min(*remaining_ms);
            *remaining_ms = (*remaining_ms - delay_ms).max(0);
            self.timers.set(self.name, Alarm::Join, self.ctx.now + wait_ms);
            return;
        }
        if self.seat.classic.preparing.is_some() {
            self.complete_join();
        }
    }

    /// Begins the next generation with those who have joined. Static members that are away stay until their session ends.
    fn complete_join(&mut self) {
        self.timers.cancel(self.name, &Alarm::Join);
        let Body::Classic(group) = &self.seat.body else { return };
        let joining = &self.seat.classic.joining;
        let slow = group
            .members
            .iter()
            .filter(|(id, member)| member.instance.is_none() && !joining.contains_key(*id));
        for id in slow.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.drop_member(&id);
        }
        let first_joined = self.seat.classic.joining.keys().next().cloned();
        let leads = self
            .classic()
            .header
            .leader
            .clone()
            .is_some_and(|leader| self.seat.classic.joining.contains_key(&leader));
        if !leads {
            if first_joined.is_none() && !self.classic().members.is_empty() {
                // Only static members that are away: nobody could lead. Their sessions decide.
                let rebalance_timeout_ms = self.classic().rebalance_timeout_ms();
                self.seat.classic.preparing = Some(Preparing::Next);
                self.timers
                    .set(self.name, Alarm::Join, self.ctx.now + rebalance_timeout_ms.max(1));
                return;
            }
            self.classic().header.leader = first_joined;
        }
        self.begin_generation();
    }

    fn begin_generation(&mut self) {
        self.seat.classic.preparing = None;
        let group = self.classic();
        group.header.generation = group.header.generation.checked_add(1).unwrap_or(1);
        group.header.protocol = group.select_protocol();
        group.header.phase = if group.members.is_empty() {
            Phase::Empty
        } else {
            Phase::Completing
        };
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        let members: Vec<String> = group.members.keys().cloned().collect();
        self.seat.touch();
        for id in mem::take(&mut self.seat.classic.changed).iter().chain(&members) {
            self.seat.touch_member(id);
        }
        for (id, joining) in mem::take(&mut self.seat.classic.joining) {
            self.heard(&id);
            let response = self.joined(&id);
            self.respond(joining.requester, Response::JoinGroup(response));
        }
        if !members.is_empty() {
            self.seat.classic.unsynced = members.into_iter().collect();
            self.await_syncs();
        }
    }

    fn await_syncs(&mut self) {
        let rebalance_timeout_ms = self.classic().rebalance_timeout_ms();
        self.timers
            .set(self.name, Alarm::Sync, self.ctx.now + rebalance_timeout_ms);
    }

    /// Members that never asked for their share are as good as gone.
    fn sync_time_over(&mut self) {
        let unsynced = mem::take(&mut self.seat.classic.unsynced);
        if unsynced.is_empty() || self.seat.classic.preparing.is_some() {
            return;
        }
        for id in unsynced {
            self.drop_member(&id);
        }
        self.prepare();
    }

    fn session_over(&mut self, id: &str) {
        if self.seat.classic.pending.remove(id) {
            self.maybe_complete();
            return;
        }
        let Some(session_timeout_ms) = self
            .classic()
            .members
            .get(id)
            .map(|member| i64::from(member.session_timeout_ms))
        else {
            return;
        };
        let soft = &self.seat.classic;
        let waits = soft.joining.get(id).is_some_and(|joining| !joining.is_new) || soft.syncing.contains_key(id);
        if waits {
            // It cannot heartbeat while it waits for us.
            self.await_heartbeat(id, session_timeout_ms);
            return;
        }
        self.drop_member(id);
        self.rebalance_or_complete();
    }

    /// Takes a member out. Whatever it waits for is answered: if it still lives, it joins again.
    pub(super) fn drop_member(&mut self, id: &str) {
        let group = self.classic();
        if group.members.remove(id).is_some() && group.header.leader.as_deref() == Some(id) {
            group.header.leader = None;
        }
        self.timers.cancel(self.name, &Alarm::Session(id.into()));
        let soft = &mut self.seat.classic;
        soft.changed.insert(id.into());
        soft.unsynced.remove(id);
        let joining = soft.joining.remove(id);
        let syncing = soft.syncing.remove(id);
        if let Some(joining) = joining {
            self.refuse_join(joining.requester, ErrorCode::UNKNOWN_MEMBER_ID, String::new());
        }
        if let Some(requester) = syncing {
            self.refuse_sync(requester, ErrorCode::UNKNOWN_MEMBER_ID);
        }
    }
}
