//! JoinGroup: who may become a member, and what their coming means for the group.
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use bytes::Bytes;
use tidemill_protocol::{
    api::{
        Response,
        join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
    },
    error_code::ErrorCode,
};

use super::{Group, Joining, Member, Phase, Preparing};
use crate::{
    context::{RequestContext, Requester},
    group::{Alarm, Body, Turn, client_id, limits},
};

/// From this version on, a member must come with the id that it was given, so that a lost answer leaves no ghost.
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// From this version on, a leader can be told that everything is assigned already.
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

impl Turn<'_, '_> {
    pub(in crate::group) fn join(&mut self, from: Requester, context: &RequestContext, request: JoinGroupRequest) {
        let member_id = request.member_id.clone();
        if let Err((error_code, member_id)) = self
            .try_join(from, context, request)
            .map_err(|error| error.with(member_id))
        {
            self.respond(
                from,
                Response::JoinGroup(JoinGroupResponse {
                    error_code,
                    member_id,
                    ..JoinGroupResponse::default()
                }),
            );
        }
    }

    fn try_join(
        &mut self,
        from: Requester,
        context: &RequestContext,
        request: JoinGroupRequest,
    ) -> Result<(), Refused> {
        let joiner = self.check_joiner(context, request)?;
        match &self.seat.body {
            Body::Consumer(group) if !group.members.is_empty() => {
                return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL.into());
            }
            Body::Consumer(_) if !joiner.id.is_empty() => return Err(ErrorCode::UNKNOWN_MEMBER_ID.into()),
            Body::Consumer(group) => {
                // An empty group changes its protocol, not its history: generations go on from the epoch.
                let mut classic = Group::default();
                classic.header.generation = group.header.epoch;
                self.seat.body = Body::Classic(classic);
            }
            Body::Classic(_) => {}
        }
        if joiner.id.is_empty() {
            return self.join_new(from, context, joiner);
        }
        self.join_known(from, joiner)
    }

    fn join_new(&mut self, from: Requester, context: &RequestContext, mut joiner: Joiner) -> Result<(), Refused> {
        if self.seat.is_blank() && self.groups > limits::GROUPS_MAX {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into());
        }
        let random = self.ctx.random_uuid();
        let group = self.classic();
        if !group.supports(&joiner.protocol_type, &joiner.member.protocols) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL.into());
        }
        let replaced = joiner
            .member
            .instance
            .as_deref()
            .and_then(|instance| group.static_member(instance))
            .map(String::from);
        joiner.id = format!(
            "{}-{random}",
            joiner.member.instance.as_deref().unwrap_or(&joiner.member.client_id)
        );
        if let Some(old_id) = replaced {
            self.replace_static(from, context, &old_id, joiner);
            return Ok(());
        }
        if group.members.len() + self.seat.classic.pending.len() >= limits::MEMBERS_MAX {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED.into());
        }
        if joiner.member.instance.is_none() && MEMBER_ID_REQUIRED_SINCE <= context.api_version {
            self.seat.classic.pending.insert(joiner.id.clone());
            self.await_heartbeat(&joiner.id, i64::from(joiner.member.session_timeout_ms));
            return Err(Refused {
                error: ErrorCode::MEMBER_ID_REQUIRED,
                id: Some(joiner.id),
            });
        }
        self.add_member(from, joiner);
        Ok(())
    }

    fn join_known(&mut self, from: Requester, joiner: Joiner) -> Result<(), Refused> {
        let group = self.classic();
        if !group.members.is_empty() && !group.supports(&joiner.protocol_type, &joiner.member.protocols) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL.into());
        }
        if self.seat.classic.pending.contains(&joiner.id) && joiner.member.instance.is_none() {
            if !self.classic().supports(&joiner.protocol_type, &joiner.member.protocols) {
                return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL.into());
            }
            self.add_member(from, joiner);
            return Ok(());
        }
        let preparing = self.seat.classic.preparing.is_some();
        let group = self.classic();
        group.check_member(&joiner.id, joiner.member.instance.as_deref())?;
        let is_leader = group.header.leader.as_deref() == Some(&joiner.id);
        let is_changed = group.members[&joiner.id].protocols != joiner.member.protocols;
        let starts = match group.header.phase {
            _ if preparing => true,
            // A leader that joins again wants to assign anew: topics have changed.
            Phase::Stable => is_leader || is_changed,
            Phase::Completing => is_changed,
            Phase::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID.into()),
        };
        if starts {
            self.rejoin(from, joiner);
            self.rebalance_or_complete();
        } else {
            // It may have missed the answer to its join: once more.
            let response = self.joined(&joiner.id);
            self.respond(from, Response::JoinGroup(response));
        }
        Ok(())
    }

    fn add_member(&mut self, from: Requester, joiner: Joiner) {
        let Joiner {
            id,
            protocol_type,
            member,
        } = joiner;
        let first_join_ms = limits::FIRST_JOIN_MS_MAX;
        self.seat.classic.pending.remove(&id);
        if let Some(Preparing::First { grown, .. }) = &mut self.seat.classic.preparing {
            *grown = true;
        }
        let group = self.classic();
        if group.members.is_empty() {
            group.header.protocol_type = Some(protocol_type);
        }
        group.members.insert(id.clone(), member);
        self.await_heartbeat(&id, first_join_ms);
        self.seat.classic.changed.insert(id.clone());
        self.seat.classic.joining.insert(
            id,
            Joining {
                requester: from,
                is_new: true,
            },
        );
        self.rebalance_or_complete();
    }

    /// A member joins the next generation, with what it says now.
    fn rejoin(&mut self, from: Requester, joiner: Joiner) {
        let group = self.classic();
        let member = group
            .members
            .get_mut(&joiner.id)
            .expect("the caller has checked the member");
        let assignment = core::mem::take(&mut member.assignment);
        *member = Member {
            assignment,
            ..joiner.member
        };
        self.seat.classic.changed.insert(joiner.id.clone());
        self.park_join(from, joiner.id);
    }

    fn park_join(&mut self, from: Requester, id: String) {
        let joining = &mut self.seat.classic.joining;
        let is_new = joining.get(&id).is_some_and(|joining| joining.is_new);
        if let Some(earlier) = joining.insert(
            id.clone(),
            Joining {
                requester: from,
                is_new,
            },
        ) {
            // The client has given up on its earlier join.
            self.refuse_join(earlier.requester, ErrorCode::REBALANCE_IN_PROGRESS, id);
        }
    }

    pub(super) fn refuse_join(&mut self, to: Requester, error_code: ErrorCode, member_id: String) {
        self.respond(
            to,
            Response::JoinGroup(JoinGroupResponse {
                error_code,
                member_id,
                ..JoinGroupResponse::default()
            }),
        );
    }

    /// A static member has restarted: it takes its predecessor's place, and nothing moves unless it wants something else. Whoever still
    /// uses the old id is fenced.
    fn replace_static(&mut self, from: Requester, context: &RequestContext, old_id: &str, joiner: Joiner) {
        let old_leader = self.classic().header.leader.clone();
        let Joiner { id, mut member, .. } = joiner;
        let session_timeout_ms = i64::from(member.session_timeout_ms);
        let group = self.classic();
        let old = group
            .members
            .remove(old_id)
            .expect("the caller has found the static member");
        member.assignment = old.assignment;
        group.members.insert(id.clone(), member);
        if old_leader.as_deref() == Some(old_id) {
            group.header.leader = Some(id.clone());
        }
        self.succeed(old_id, &id);
        self.await_heartbeat(&id, session_timeout_ms);
        let preparing = self.seat.classic.preparing.is_some();
        let group = self.classic();
        let (phase, keeps_protocol) = (group.header.phase, group.select_protocol() == group.header.protocol);
        if preparing || phase != Phase::Stable || !keeps_protocol {
            self.park_join(from, id);
            if phase == Phase::Completing && !preparing {
                // The leader may have been told the old id already.
                self.prepare();
            } else {
                self.rebalance_or_complete();
            }
            return;
        }
        for id in core::mem::take(&mut self.seat.classic.changed) {
            self.seat.touch_member(&id);
        }
        let mut response = self.joined(&id);
        if context.api_version < SKIP_ASSIGNMENT_SINCE {
            // An old leader would assign again: it is told that it does not lead.
            response.members.clear();
            response.leader = old_leader.unwrap_or_default();
        } else {
            response.skip_assignment = response.leader == response.member_id;
        }
        self.respond(from, Response::JoinGroup(response));
    }

    /// What parked for a static member's old id is refused, and its place in the group's bookkeeping passes on.
    fn succeed(&mut self, old_id: &str, id: &str) {
        self.timers.cancel(self.name, &Alarm::Session(old_id.into()));
        let soft = &mut self.seat.classic;
        soft.changed.insert(old_id.into());
        soft.changed.insert(id.into());
        if soft.unsynced.remove(old_id) {
            soft.unsynced.insert(id.into());
        }
        let joining = soft.joining.remove(old_id);
        let syncing = soft.syncing.remove(old_id);
        if let Some(joining) = joining {
            self.refuse_join(joining.requester, ErrorCode::FENCED_INSTANCE_ID, old_id.into());
        }
        if let Some(requester) = syncing {
            self.refuse_sync(requester, ErrorCode::FENCED_INSTANCE_ID);
        }
    }

    /// The answer to a member that has joined this generation.
    pub(super) fn joined(&mut self, id: &str) -> JoinGroupResponse {
        let group = self.classic();
        let protocol = group.header.protocol.clone().unwrap_or_default();
        let leader = group.header.leader.clone().unwrap_or_default();
        let member = |(id, member): (&String, &Member)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        let members = if leader == id {
            group.members.iter().map(member).collect()
        } else {
            Vec::new()
        };
        JoinGroupResponse {
            generation_id: group.header.generation,
            protocol_type: group.header.protocol_type.clone(),
            protocol_name: Some(protocol),
            leader,
            member_id: id.into(),
            members,
            ..JoinGroupResponse::default()
        }
    }

    /// Bounds of what a member says.
    fn check_joiner(&self, context: &RequestContext, request: JoinGroupRequest) -> Result<Joiner, Refused> {
        let (shortest, longest) = self.ctx.config.group_session_timeout_ms;
        if self.name.is_empty() || crate::limits::GROUP_ID_BYTES_MAX < self.name.len() {
            return Err(ErrorCode::INVALID_GROUP_ID.into());
        }
        if !(shortest..=longest).contains(&request.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT.into());
        }
        let client_id = client_id(context);
        let protocols: Vec<(String, Bytes)> = request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata))
            .collect();
        let names = [&request.member_id, &request.protocol_type, &client_id]
            .into_iter()
            .chain(&request.group_instance_id);
        let bytes: usize = protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        if names.into_iter().any(|name| limits::NAME_BYTES_MAX < name.len())
            || limits::MEMBER_NAMES_MAX < protocols.len()
            || limits::MEMBER_BYTES_MAX < bytes
            || request.group_instance_id.as_deref() == Some("")
        {
            return Err(ErrorCode::INVALID_REQUEST.into());
        }
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            // Version 0 knows one clock only.
            ..0 => request.session_timeout_ms,
            timeout => timeout.min(limits::REBALANCE_TIMEOUT_MS_MAX),
        };
        let member = Member {
            instance: request.group_instance_id,
            client_id,
            client_host: context.client_host.to_string(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms,
            // A slice of the request would keep all of it alive.
            protocols: protocols
                .into_iter()
                .map(|(name, metadata)| (name, Bytes::copy_from_slice(&metadata)))
                .collect(),
            assignment: Bytes::new(),
        };
        Ok(Joiner {
            id: request.member_id,
            protocol_type: request.protocol_type,
            member,
        })
    }
}

/// A join that is within bounds.
struct Joiner {
    id: String,
    protocol_type: String,
    member: Member,
}

/// Why a join fails, and the member id in the answer if it is not the one that came.
struct Refused {
    error: ErrorCode,
    id: Option<String>,
}

impl Refused {
    fn with(self, id: String) -> (ErrorCode, String) {
        (self.error, self.id.unwrap_or(id))
    }
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Refused { error, id: None }
    }
}
