//! Members that come back after a restart, fall silent, are sent away; and members of modules, who are told instead of asking.
use alloc::{string::String, vec::Vec};

use super::{Group, LEFT_STATIC, Phase, reconcile::step, target::Cause};
use crate::group::{Alarm, Body, Turn};

impl Turn<'_, '_> {
    /// The group, of which the caller knows that it is a consumer group.
    pub(in crate::group) fn consumer(&mut self) -> &mut Group {
        match &mut self.seat.body {
            Body::Consumer(group) => group,
            Body::Classic(_) => unreachable!("the caller has looked at the protocol"),
        }
    }

    pub(in crate::group) fn resume_consumer(&mut self) {
        let ids: Vec<String> = self.consumer().members.keys().cloned().collect();
        for id in ids {
            // Modules rejoin when the daemon is up. Those that are gone leave their members behind, which then fall silent.
            self.await_session(&id);
            let epoch = self.consumer().members[&id].epoch;
            self.watch_revocation(&id, epoch);
        }
        self.topics_changed();
    }

    pub(in crate::group) fn topics_changed(&mut self) {
        if !self.consumer().members.is_empty() {
            self.retarget(Cause::Topics);
        }
    }

    pub(in crate::group) fn consumer_alarm(&mut self, alarm: &Alarm) {
        match alarm {
            Alarm::Session(id) => self.send_away(id),
            Alarm::Revocation(id) => {
                if self
                    .consumer()
                    .members
                    .get(id)
                    .is_some_and(|member| member.phase == Phase::Revoking)
                {
                    self.send_away(id);
                }
            }
            Alarm::Join | Alarm::Sync | Alarm::Retry => {}
        }
    }

    /// A member must be heard within the session timeout.
    pub(super) fn await_session(&mut self, id: &str) {
        let at = self.ctx.now + i64::from(self.ctx.config.group_consumer_session_timeout_ms);
        self.timers.set(self.name, Alarm::Session(id.into()), at);
    }

    /// A member that holds up others has its rebalance timeout to give up what it must. A module's member gives up at the end of its
    /// batch, which has a timeout of its own. What it must give up from another epoch on than `before` is more than that of then, so that its
    /// time begins anew.
    pub(super) fn watch_revocation(&mut self, id: &str, before: i32) {
        let alarm = Alarm::Revocation(id.into());
        let Some(member) = self.consumer().members.get(id) else {
            return;
        };
        let (revoking, is_another, timeout_ms) = (
            member.phase == Phase::Revoking && !member.is_module,
            member.epoch != before,
            i64::from(member.rebalance_timeout_ms),
        );
        if !revoking {
            self.timers.cancel(self.name, &alarm);
        } else if is_another || !self.timers.is_set(self.name, &alarm) {
            self.timers.set(self.name, alarm, self.ctx.now + timeout_ms);
        }
    }

    fn send_away(&mut self, id: &str) {
        if self.consumer().members.contains_key(id) {
            self.remove_consumer(id);
            self.membership_changed();
        }
    }

    /// Takes a member out. What it owned is free at once: its commits are refused from here on.
    pub(in crate::group) fn remove_consumer(&mut self, id: &str) {
        self.consumer().members.remove(id);
        self.seat.consumer.told.remove(id);
        self.timers.cancel(self.name, &Alarm::Session(id.into()));
        self.timers.cancel(self.name, &Alarm::Revocation(id.into()));
        self.seat.touch_member(id);
    }

    /// Members have come or gone.
    pub(in crate::group) fn membership_changed(&mut self) {
        self.retarget(Cause::Members);
    }

    /// Members of modules advance without being asked, as far as nothing must be given up, and hear what is new.
    pub(in crate::group) fn settle_modules(&mut self) {
        let epoch = self.consumer().header.epoch;
        let lagging = |group: &Group| -> Vec<String> {
            let modules = group
                .members
                .iter()
                .filter(|(_, member)| member.is_module && member.epoch != LEFT_STATIC);
            modules
                .filter(|(_, member)| !member.is_reconciled(epoch))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in lagging(self.consumer()) {
            let group = self.consumer();
            let next = step(&group.members[&id], epoch, None, &group.owned_by_others(&id));
            if next != group.members[&id] {
                group.members.insert(id.clone(), next);
                self.seat.touch_member(&id);
            }
        }
        let Body::Consumer(group) = &self.seat.body else { return };
        let soft = &self.seat.consumer;
        let is_new = |id: &String| {
            let now = group.members.get(id).map(|member| (member.epoch, &member.assigned));
            now.is_none() || now != soft.told.get(id).map(|(epoch, assigned)| (*epoch, assigned))
        };
        let news: Vec<String> = soft.polls.keys().filter(|id| is_new(id)).cloned().collect();
        for id in news {
            if let Some(requester) = self.seat.consumer.polls.remove(&id) {
                self.tell(requester, &id);
            }
        }
    }
}
