//! LeaveGroup: members that go, and members that an administrator sends away by their instance ids. Of both protocols.
use alloc::{string::String, vec, vec::Vec};
use tidemill_protocol::{
    api::{
        Response,
        leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse},
    },
    error_code::ErrorCode,
};

use crate::{
    context::{RequestContext, Requester},
    group::{Alarm, Body, Turn},
};

/// From this version on, several members can leave with one request.
const BATCHED_SINCE: i16 = 3;

impl Turn<'_, '_> {
    pub(in crate::group) fn leave(&mut self, from: Requester, context: &RequestContext, request: LeaveGroupRequest) {
        let batched = BATCHED_SINCE <= context.api_version;
        let leaving = if batched {
            request.members
        } else {
            vec![MemberIdentity {
                member_id: request.member_id,
                ..MemberIdentity::default()
            }]
        };
        let before = self.seat.body.members();
        let mut left = false;
        let mut members = Vec::with_capacity(leaving.len());
        for member in leaving {
            let error_code = self.leave_one(&member).err().unwrap_or(ErrorCode::NONE);
            left |= error_code.is_ok();
            members.push(MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code,
            });
        }
        if left {
            match &self.seat.body {
                // Ids that were given out and never used leave no trace.
                Body::Classic(_) if self.seat.body.members() == before => self.maybe_complete(),
                Body::Classic(_) => self.rebalance_or_complete(),
                Body::Consumer(_) => self.membership_changed(),
            }
        }
        let error_code = if batched {
            ErrorCode::NONE
        } else {
            members.first().map_or(ErrorCode::NONE, |member| member.error_code)
        };
        let members = if batched { members } else { Vec::new() };
        self.respond(
            from,
            Response::LeaveGroup(LeaveGroupResponse {
                error_code,
                members,
                ..LeaveGroupResponse::default()
            }),
        );
    }

    fn leave_one(&mut self, leaving: &MemberIdentity) -> Result<(), ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        match &self.seat.body {
            Body::Classic(group) => {
                if leaving.member_id.is_empty() {
                    let id: String = instance
                        .and_then(|instance| group.static_member(instance))
                        .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
                        .into();
                    self.drop_member(&id);
                } else if self.seat.classic.pending.remove(&leaving.member_id) {
                    self.timers
                        .cancel(self.name, &Alarm::Session(leaving.member_id.clone()));
                } else {
                    group.check_member(&leaving.member_id, instance)?;
                    self.drop_member(&leaving.member_id);
                }
            }
            Body::Consumer(group) => {
                let id = match instance.map(|instance| group.static_member(instance)) {
                    Some(None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                    Some(Some(id)) if !leaving.member_id.is_empty() && id != leaving.member_id => {
                        return Err(ErrorCode::FENCED_INSTANCE_ID);
                    }
                    Some(Some(id)) => id.into(),
                    None => leaving.member_id.clone(),
                };
                if !group.members.contains_key(&id) {
                    return Err(ErrorCode::UNKNOWN_MEMBER_ID);
                }
                self.remove_consumer(&id);
            }
        }
        Ok(())
    }
}
