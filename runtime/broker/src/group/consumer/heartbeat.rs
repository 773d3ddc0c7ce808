//! ConsumerGroupHeartbeat: join with epoch 0, stay, acknowledge what was given up, leave with -1 or, as a static member, for a while
//! with -2.
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::{
    api::{
        Response,
        consumer_group_heartbeat::{
            Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
        },
    },
    error_code::ErrorCode,
};

use super::{
    Group, LEFT_STATIC, Member, Phase,
    reconcile::{is_subset, step, union},
    target::{Cause, pattern},
};
use crate::{
    context::{RequestContext, Requester},
    group::{Alarm, Body, Partitions, Turn, assignor::Assignor, client_id, limits},
};

const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// Why a heartbeat is refused, for the client and for a person.
struct Refused(ErrorCode, String);

fn refuse<T>(error: ErrorCode, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(error, why.into()))
}

impl Turn<'_, '_> {
    pub(in crate::group) fn consumer_heartbeat(
        &mut self,
        from: Requester,
        context: &RequestContext,
        request: ConsumerGroupHeartbeatRequest,
    ) {
        if let Err(Refused(error_code, message)) = self.try_heartbeat_of_consumer(from, context, request) {
            let response = ConsumerGroupHeartbeatResponse {
                error_code,
                error_message: Some(message),
                ..ConsumerGroupHeartbeatResponse::default()
            };
            self.respond(from, Response::ConsumerGroupHeartbeat(response));
        }
    }

    fn try_heartbeat_of_consumer(
        &mut self,
        from: Requester,
        context: &RequestContext,
        mut request: ConsumerGroupHeartbeatRequest,
    ) -> Result<(), Refused> {
        check(self.name, context, &request, from)?;
        self.become_consumer(request.member_epoch)?;
        if request.member_epoch == LEAVE || request.member_epoch == LEFT_STATIC {
            return self.leave_consumer(from, &request);
        }
        if request.member_id.is_empty() {
            request.member_id = self.ctx.random_uuid().to_string();
        }
        let owned = request.topic_partitions.as_ref().map(|owned| partitions(owned));
        let before = self.member_of(from, context, &request, owned.as_ref())?;
        let is_full = request.member_epoch == JOIN
            || (request.rebalance_timeout_ms != -1 && request.subscribed_topic_names.is_some() && owned.is_some());
        let request_joins = request.member_epoch == JOIN;
        let is_behind = request.member_epoch != before.epoch;
        let id = request.member_id.clone();
        self.update_subscription(context, request, &before);
        let epoch = self.consumer().header.epoch;
        let group = self.consumer();
        let member = &group.members[&id];
        if !member.is_reconciled(epoch) {
            let next = step(member, epoch, owned.as_ref(), &group.owned_by_others(&id));
            if next != *member {
                group.members.insert(id.clone(), next);
                self.seat.touch_member(&id);
            }
        }
        self.watch_revocation(&id, before.epoch);
        let member = &self.consumer().members[&id];
        // A member that owns something else than it should may not have heard.
        let is_unheard = owned.as_ref().is_some_and(|owned| *owned != member.assigned);
        let news = is_full || is_behind || is_unheard || member.assigned != before.assigned;
        match from {
            // A module's member has no session: it lives as long as the daemon does.
            Requester::Module(_) => {
                self.timers.cancel(self.name, &Alarm::Session(id.clone()));
                if request_joins {
                    self.seat.consumer.told.remove(&id);
                }
                if let Some(earlier) = self.seat.consumer.polls.insert(id.clone(), from) {
                    self.answer(earlier, &id, true);
                }
            }
            Requester::Connection(_) => {
                self.await_session(&id);
                self.answer(from, &id, news);
            }
        }
        Ok(())
    }

    /// A group without members can change its protocol; one that does not exist begins.
    fn become_consumer(&mut self, member_epoch: i32) -> Result<(), Refused> {
        let generation = match &self.seat.body {
            Body::Consumer(_) => return Ok(()),
            Body::Classic(group) => group.header.generation,
        };
        if self.seat.body.members() > 0 || !self.seat.classic.pending.is_empty() {
            return refuse(
                ErrorCode::GROUP_ID_NOT_FOUND,
                format!("Group {} is not a consumer group.", self.name),
            );
        }
        if member_epoch != JOIN {
            return refuse(
                if self.seat.is_blank() {
                    ErrorCode::GROUP_ID_NOT_FOUND
                } else {
                    ErrorCode::UNKNOWN_MEMBER_ID
                },
                format!("Group {} has no such member.", self.name),
            );
        }
        if self.seat.is_blank() && self.groups > limits::GROUPS_MAX {
            return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE, "There are too many groups.");
        }
        let mut group = Group::default();
        group.header.epoch = generation;
        self.seat.body = Body::Consumer(group);
        self.timers.cancel(self.name, &Alarm::Join);
        self.seat.classic = crate::group::classic::Soft::default();
        Ok(())
    }

    /// The member as it was before this heartbeat, and now in the group under the id of the request.
    fn member_of(
        &mut self,
        from: Requester,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
        owned: Option<&Partitions>,
    ) -> Result<Member, Refused> {
        let joins = request.member_epoch == JOIN;
        let group = self.consumer();
        let id = &request.member_id;
        let namesake = request
            .instance_id
            .as_deref()
            .and_then(|instance| group.static_member(instance))
            .map(String::from);
        if let Some(instance) = &request.instance_id {
            match &namesake {
                None if !joins => {
                    return refuse(
                        ErrorCode::UNKNOWN_MEMBER_ID,
                        format!("Instance id {instance} is unknown."),
                    );
                }
                Some(present) if !joins && present != id => {
                    return refuse(
                        ErrorCode::FENCED_INSTANCE_ID,
                        format!("Instance id {instance} belongs to member {present} now."),
                    );
                }
                Some(present) if present != id && group.members[present].epoch != LEFT_STATIC => {
                    return refuse(
                        ErrorCode::UNRELEASED_INSTANCE_ID,
                        format!("Instance id {instance} is in use by member {present}."),
                    );
                }
                _ => {}
            }
        }
        if let Some(predecessor) = namesake.filter(|present| joins && present != id) {
            let mut member = group
                .members
                .remove(&predecessor)
                .expect("the namesake was found among the members");
            (member.epoch, member.previous_epoch) = (0, 0);
            group.members.insert(id.clone(), member.clone());
            self.timers.cancel(self.name, &Alarm::Session(predecessor.clone()));
            self.seat.touch_member(&predecessor);
            self.seat.touch_member(id);
            return Ok(member);
        }
        let full = limits::MEMBERS_MAX <= group.members.len();
        let Some(member) = group.members.get_mut(id) else {
            if !joins {
                return refuse(
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    format!("Member {id} is not a member of group {}.", self.name),
                );
            }
            if full {
                return refuse(
                    ErrorCode::GROUP_MAX_SIZE_REACHED,
                    format!("Group {} has its {} members.", self.name, limits::MEMBERS_MAX),
                );
            }
            return Ok(new_member(from, context, request));
        };
        if joins {
            // It starts again and says that it owns nothing.
            (member.epoch, member.previous_epoch, member.phase) = (0, 0, Phase::Stable);
            member.assigned.clear();
            member.revoking.clear();
            member.is_module = matches!(from, Requester::Module(_));
            let member = member.clone();
            self.seat.touch_member(id);
            return Ok(member);
        }
        let late = match from {
            // It advances without being asked, maybe several times before it hears of the first: all its calls come in order, and the
            // last one says what it owns, which may be something that it has still to give up.
            Requester::Module(_) => {
                let is_its_own = |part: &Partitions| is_subset(part, &union(&member.assigned, &member.revoking));
                request.member_epoch < member.epoch && owned.is_some_and(is_its_own)
            }
            Requester::Connection(_) => {
                request.member_epoch == member.previous_epoch
                    && owned.is_some_and(|owned| is_subset(owned, &member.assigned))
            }
        };
        if request.member_epoch != member.epoch && !late {
            return refuse(
                ErrorCode::FENCED_MEMBER_EPOCH,
                format!(
                    "Member {id} is at epoch {}, not {}. It must give up all its partitions and join again.",
                    member.epoch, request.member_epoch
                ),
            );
        }
        Ok(member.clone())
    }

    /// Takes over what the member says about itself; a changed subscription changes the targets.
    fn update_subscription(
        &mut self,
        context: &RequestContext,
        request: ConsumerGroupHeartbeatRequest,
        before: &Member,
    ) {
        let mut member = before.clone();
        member.client_id = client_id(context);
        member.client_host = context.client_host.to_string();
        member.instance = request.instance_id.or(member.instance);
        member.rack = request.rack_id.or(member.rack);
        member.assignor = request.server_assignor.or(member.assignor);
        if let Some(names) = request.subscribed_topic_names {
            let names: BTreeSet<String> = names.into_iter().collect();
            member.topics = names.into_iter().collect();
        }
        if let Some(regex) = request.subscribed_topic_regex {
            // An empty pattern ends the subscription by pattern.
            member.regex = Some(regex).filter(|regex| !regex.is_empty());
        }
        if request.rebalance_timeout_ms != -1 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms.clamp(0, limits::REBALANCE_TIMEOUT_MS_MAX);
        }
        let group = self.consumer();
        let present = group.members.get(&request.member_id);
        let changed = present.is_none_or(|present| {
            present.topics != member.topics || present.regex != member.regex || present.assignor != member.assignor
        });
        if present != Some(&member) {
            group.members.insert(request.member_id.clone(), member);
            self.seat.touch_member(&request.member_id);
        }
        if changed {
            self.retarget(Cause::Members);
        }
    }

    fn leave_consumer(&mut self, from: Requester, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refused> {
        let group = self.consumer();
        let id = &request.member_id;
        if let Some(instance) = &request.instance_id {
            match group.static_member(instance) {
                None => {
                    return refuse(
                        ErrorCode::UNKNOWN_MEMBER_ID,
                        format!("Instance id {instance} is unknown."),
                    );
                }
                Some(present) if present != id => {
                    return refuse(
                        ErrorCode::FENCED_INSTANCE_ID,
                        format!("Instance id {instance} belongs to member {present} now."),
                    );
                }
                Some(_) => {}
            }
        }
        let Some(member) = group.members.get_mut(id) else {
            return refuse(
                ErrorCode::UNKNOWN_MEMBER_ID,
                format!("Member {id} is not a member of group {}.", self.name),
            );
        };
        if request.member_epoch == LEFT_STATIC {
            // Its partitions wait for it as long as a session lasts.
            member.epoch = LEFT_STATIC;
            member.phase = Phase::Stable;
            member.revoking.clear();
            self.seat.touch_member(id);
            self.timers.cancel(self.name, &Alarm::Revocation(id.clone()));
        } else {
            self.remove_consumer(id);
            self.membership_changed();
        }
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(id.clone()),
            member_epoch: request.member_epoch,
            ..ConsumerGroupHeartbeatResponse::default()
        };
        self.respond(from, Response::ConsumerGroupHeartbeat(response));
        Ok(())
    }

    /// Answers a heartbeat that has waited.
    pub(super) fn tell(&mut self, to: Requester, id: &str) {
        if self.consumer().members.contains_key(id) {
            self.answer(to, id, true);
            return;
        }
        let response = ConsumerGroupHeartbeatResponse {
            error_code: ErrorCode::UNKNOWN_MEMBER_ID,
            error_message: Some(format!("Member {id} was taken out of group {}.", self.name)),
            ..ConsumerGroupHeartbeatResponse::default()
        };
        self.respond(to, Response::ConsumerGroupHeartbeat(response));
    }

    fn answer(&mut self, to: Requester, id: &str, with_assignment: bool) {
        let heartbeat_interval_ms = self.ctx.config.group_heartbeat_interval_ms;
        let member = &self.consumer().members[id];
        let told = (with_assignment && member.is_module).then(|| (member.epoch, member.assigned.clone()));
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(id.into()),
            member_epoch: member.epoch,
            heartbeat_interval_ms,
            assignment: with_assignment.then(|| assignment(&member.assigned)),
            ..ConsumerGroupHeartbeatResponse::default()
        };
        if let Some(told) = told {
            self.seat.consumer.told.insert(id.into(), told);
        }
        self.respond(to, Response::ConsumerGroupHeartbeat(response));
    }
}

fn new_member(from: Requester, context: &RequestContext, request: &ConsumerGroupHeartbeatRequest) -> Member {
    Member {
        instance: request.instance_id.clone(),
        rack: None,
        client_id: client_id(context),
        client_host: context.client_host.to_string(),
        rebalance_timeout_ms: 0,
        topics: Vec::new(),
        regex: None,
        assignor: None,
        is_module: matches!(from, Requester::Module(_)),
        epoch: 0,
        previous_epoch: 0,
        phase: Phase::Stable,
        assigned: Partitions::new(),
        revoking: Partitions::new(),
        target: Partitions::new(),
    }
}

/// What can be said about a request without looking at the group.
fn check(
    name: &str,
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
    from: Requester,
) -> Result<(), Refused> {
    let invalid = |why: &str| refuse(ErrorCode::INVALID_REQUEST, why);
    let texts = [
        Some(&request.member_id),
        request.instance_id.as_ref(),
        request.rack_id.as_ref(),
    ];
    if name.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if crate::limits::GROUP_ID_BYTES_MAX < name.len() {
        return invalid("GroupId is too long.");
    }
    if request.instance_id.as_deref() == Some("") || request.rack_id.as_deref() == Some("") {
        return invalid("InstanceId and RackId can't be empty.");
    }
    if texts
        .into_iter()
        .flatten()
        .any(|text| limits::NAME_BYTES_MAX < text.len())
        || limits::NAME_BYTES_MAX < client_id(context).len()
    {
        return invalid("MemberId, InstanceId, RackId or client id is too long.");
    }
    let names = request.subscribed_topic_names.as_deref().unwrap_or_default();
    if limits::MEMBER_NAMES_MAX < names.len() || limits::MEMBER_BYTES_MAX < names.iter().map(String::len).sum() {
        return invalid("SubscribedTopicNames is too long.");
    }
    match request.member_epoch {
        JOIN => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid("SubscribedTopicNames or SubscribedTopicRegex must be set in first request.");
            }
            if request.member_id.is_empty() && context.api_version > 0 {
                return invalid("MemberId can't be empty.");
            }
        }
        _ if request.member_id.is_empty() => return invalid("MemberId can't be empty."),
        LEFT_STATIC if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..LEFT_STATIC => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    let regex = request.subscribed_topic_regex.as_deref();
    if let Some(regex) = regex.filter(|regex| !regex.is_empty() && pattern(regex).is_none()) {
        return refuse(
            ErrorCode::INVALID_REGULAR_EXPRESSION,
            format!("SubscribedTopicRegex {regex:?} is not valid, or too large."),
        );
    }
    check_assignor(request, from)
}

fn check_assignor(request: &ConsumerGroupHeartbeatRequest, from: Requester) -> Result<(), Refused> {
    let Some(name) = &request.server_assignor else {
        return Ok(());
    };
    match Assignor::parse(name) {
        Some(assignor) if matches!(from, Requester::Module(_)) || Assignor::PUBLIC.contains(&assignor) => Ok(()),
        _ => {
            let known = Assignor::PUBLIC.map(Assignor::name).join(", ");
            refuse(
                ErrorCode::UNSUPPORTED_ASSIGNOR,
                format!("ServerAssignor {name} is not supported. Supported assignors: {known}."),
            )
        }
    }
}

fn partitions(said: &[TopicPartitions]) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in said {
        partitions.entry(topic.topic_id).or_default().extend(&topic.partitions);
    }
    partitions
}

fn assignment(partitions: &Partitions) -> Assignment {
    let topic = |(topic, partitions): (&_, &BTreeSet<i32>)| TopicPartitions {
        topic_id: *topic,
        partitions: partitions.iter().copied().collect(),
    };
    Assignment {
        topic_partitions: partitions.iter().map(topic).collect(),
    }
}
