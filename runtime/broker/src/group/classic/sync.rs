//! SyncGroup, by which the leader's assignment reaches the members, and Heartbeat.
use alloc::collections::BTreeMap;
use bytes::Bytes;
use core::mem;
use tidemill_protocol::{
    api::{
        Response,
        heartbeat::{HeartbeatRequest, HeartbeatResponse},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse},
    },
    error_code::ErrorCode,
};

use super::Phase;
use crate::{
    context::Requester,
    group::{Alarm, Body, Turn, limits},
};

impl Turn<'_, '_> {
    pub(in crate::group) fn sync(&mut self, from: Requester, request: SyncGroupRequest) {
        if let Err(error) = self.try_sync(from, request) {
            self.refuse_sync(from, error);
        }
    }

    pub(super) fn refuse_sync(&mut self, to: Requester, error_code: ErrorCode) {
        self.respond(
            to,
            Response::SyncGroup(SyncGroupResponse {
                error_code,
                ..SyncGroupResponse::default()
            }),
        );
    }

    fn try_sync(&mut self, from: Requester, request: SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_sync(&request)?;
        if self.seat.classic.preparing.is_some() {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.heard(&request.member_id);
        self.seat.classic.unsynced.remove(&request.member_id);
        if self.seat.classic.unsynced.is_empty() {
            self.timers.cancel(self.name, &Alarm::Sync);
        }
        match self.classic().header.phase {
            Phase::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Phase::Stable => {
                self.answer_sync(from, &request.member_id);
                Ok(())
            }
            Phase::Completing => {
                let is_leader = self.classic().header.leader.as_ref() == Some(&request.member_id);
                if is_leader {
                    self.assign(request.assignments)?;
                }
                if let Some(earlier) = self.seat.classic.syncing.insert(request.member_id, from) {
                    self.refuse_sync(earlier, ErrorCode::REBALANCE_IN_PROGRESS);
                }
                if is_leader {
                    for (id, requester) in mem::take(&mut self.seat.classic.syncing) {
                        self.heard(&id);
                        self.answer_sync(requester, &id);
                    }
                }
                Ok(())
            }
        }
    }

    fn check_sync(&mut self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let Body::Classic(group) = &self.seat.body else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.header.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |said: &Option<_>, is: &Option<_>| said.is_some() && said != is;
        if differs(&request.protocol_type, &group.header.protocol_type)
            || differs(&request.protocol_name, &group.header.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    /// The leader has assigned: the generation is stable as soon as that is kept.
    fn assign(&mut self, assignments: alloc::vec::Vec<SyncGroupRequestAssignment>) -> Result<(), ErrorCode> {
        if assignments
            .iter()
            .any(|given| limits::MEMBER_BYTES_MAX < given.assignment.len())
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let mut given: BTreeMap<_, _> = assignments
            .into_iter()
            .map(|given| (given.member_id, given.assignment))
            .collect();
        let group = self.classic();
        group.header.phase = Phase::Stable;
        let mut members = alloc::vec::Vec::with_capacity(group.members.len());
        for (id, member) in &mut group.members {
            // A member that the leader has forgotten has nothing to do. A copy, because a slice would keep all the shares alive.
            member.assignment = given
                .remove(id)
                .map(|assignment| Bytes::copy_from_slice(&assignment))
                .unwrap_or_default();
            members.push(id.clone());
        }
        self.seat.touch();
        for id in members {
            self.seat.touch_member(&id);
        }
        Ok(())
    }

    fn answer_sync(&mut self, to: Requester, id: &str) {
        let group = self.classic();
        let response = SyncGroupResponse {
            protocol_type: group.header.protocol_type.clone(),
            protocol_name: group.header.protocol.clone(),
            assignment: group
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
            ..SyncGroupResponse::default()
        };
        self.respond(to, Response::SyncGroup(response));
    }

    pub(in crate::group) fn heartbeat(&mut self, from: Requester, request: &HeartbeatRequest) {
        let error_code = self.try_heartbeat(request).err().unwrap_or(ErrorCode::NONE);
        self.respond(
            from,
            Response::Heartbeat(HeartbeatResponse {
                error_code,
                ..HeartbeatResponse::default()
            }),
        );
    }

    fn try_heartbeat(&mut self, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        let Body::Classic(group) = &self.seat.body else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != group.header.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.heard(&request.member_id);
        if self.seat.classic.preparing.is_some() {
            Err(ErrorCode::REBALANCE_IN_PROGRESS)
        } else {
            Ok(())
        }
    }
}
