//! DescribeGroups, ConsumerGroupDescribe, ListGroups, DeleteGroups: groups as administrators see them.
//!
//! A group that only has committed offsets (of consumers that assign by hand) is shown as an empty classic group, as in Kafka.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use tidemill_protocol::{
    api::{
        Response,
        consumer_group_describe::{self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse},
        delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse},
        describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember},
        list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup},
    },
    error_code::ErrorCode,
};

use super::{Body, Change, Groups, Partitions, Seat, Waiter, classic, consumer};
use crate::{
    context::{Context, RequestContext, Requester, Waiter as ProposalWaiter},
    entry::Command,
    topic::Topics,
};

/// From this version on, a group that is not there is an error; before, it is `Dead`.
const NOT_FOUND_SINCE: i16 = 6;

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

/// DeleteGroups calls that wait for their outcomes.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    last: u64,
    calls: BTreeMap<u64, Deletion>,
}

#[derive(Debug)]
struct Deletion {
    requester: Requester,
    results: Vec<DeletableGroupResult>,
    open: usize,
}

impl Groups {
    pub(super) fn describe_groups(
        &self,
        ctx: &Context<'_>,
        context: &RequestContext,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let describe = |group_id: String| match self.seat(&group_id).map(|seat| (seat, &seat.body)) {
            Some((seat, Body::Classic(group))) => describe_classic(group_id, seat, group),
            None if ctx.state.offsets.of_group(&group_id).next().is_some() => DescribedGroup {
                group_id,
                group_state: "Empty".into(),
                ..DescribedGroup::default()
            },
            found => {
                let group_state = "Dead".to_string();
                if context.api_version < NOT_FOUND_SINCE {
                    return DescribedGroup {
                        group_id,
                        group_state,
                        ..DescribedGroup::default()
                    };
                }
                let why = if found.is_some() {
                    "is not a classic group"
                } else {
                    "not found"
                };
                let error_message = Some(format!("Group {group_id} {why}."));
                let error_code = ErrorCode::GROUP_ID_NOT_FOUND;
                DescribedGroup {
                    group_id,
                    group_state,
                    error_code,
                    error_message,
                    ..DescribedGroup::default()
                }
            }
        };
        DescribeGroupsResponse {
            groups: request.groups.into_iter().map(describe).collect(),
            ..DescribeGroupsResponse::default()
        }
    }

    pub(super) fn describe_consumer_groups(
        &self,
        ctx: &Context<'_>,
        request: ConsumerGroupDescribeRequest,
    ) -> ConsumerGroupDescribeResponse {
        let describe = |group_id: String| match self.seat(&group_id).map(|seat| &seat.body) {
            Some(Body::Consumer(group)) => describe_consumer(group_id, group, &ctx.state.topics),
            found => {
                let why = if found.is_some() {
                    "is not a consumer group"
                } else {
                    "not found"
                };
                consumer_group_describe::DescribedGroup {
                    error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                    error_message: Some(format!("Group {group_id} {why}.")),
                    group_id,
                    ..consumer_group_describe::DescribedGroup::default()
                }
            }
        };
        let groups = request.group_ids.into_iter().map(describe).collect();
        ConsumerGroupDescribeResponse {
            groups,
            ..ConsumerGroupDescribeResponse::default()
        }
    }

    pub(super) fn list(&self, ctx: &Context<'_>, request: &ListGroupsRequest) -> ListGroupsResponse {
        let known: BTreeSet<&str> = self
            .seats
            .iter()
            .filter(|(_, seat)| !seat.is_blank())
            .map(|(name, _)| name.as_str())
            .collect();
        let offsets_only = ctx
            .state
            .offsets
            .groups()
            .filter(|name| !known.contains(name))
            .map(|name| ListedGroup {
                group_id: name.into(),
                group_state: "Empty".into(),
                group_type: CLASSIC.into(),
                ..ListedGroup::default()
            });
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let groups = known
            .iter()
            .map(|name| listed(name, &self.seats[*name]))
            .chain(offsets_only)
            .filter(|group| {
                passes(&request.states_filter, &group.group_state) && passes(&request.types_filter, &group.group_type)
            })
            .collect();
        ListGroupsResponse {
            groups,
            ..ListGroupsResponse::default()
        }
    }

    pub(super) fn delete(&mut self, ctx: &mut Context<'_>, requester: Requester, request: DeleteGroupsRequest) {
        self.deletions.last += 1;
        let call = self.deletions.last;
        let mut deletion = Deletion {
            requester,
            results: Vec::new(),
            open: 0,
        };
        for (place, group_id) in request.groups_names.into_iter().enumerate() {
            let mut result = DeletableGroupResult {
                group_id,
                ..DeletableGroupResult::default()
            };
            if self.seats.get(&result.group_id).is_some_and(Seat::is_in_use) {
                result.error_code = ErrorCode::NON_EMPTY_GROUP;
            } else {
                let change = Change::Delete(result.group_id.clone());
                ctx.propose(
                    Command::Group(change),
                    ProposalWaiter::Group(Waiter::Delete(call, place)),
                );
                deletion.open += 1;
            }
            deletion.results.push(result);
        }
        self.deletions.calls.insert(call, deletion);
        self.answer_deletion(ctx, call);
    }

    /// One group of a call is deleted, or not.
    pub(super) fn deleted(&mut self, ctx: &mut Context<'_>, call: u64, place: usize, error_code: ErrorCode) {
        let Some(deletion) = self.deletions.calls.get_mut(&call) else {
            return;
        };
        deletion.open -= 1;
        deletion.results[place].error_code = error_code;
        let name = deletion.results[place].group_id.clone();
        if error_code.is_ok() {
            self.turn(ctx, &name, |turn| turn.seat.forgotten());
        }
        self.answer_deletion(ctx, call);
    }

    fn answer_deletion(&mut self, ctx: &mut Context<'_>, call: u64) {
        if self.deletions.calls.get(&call).is_none_or(|deletion| deletion.open > 0) {
            return;
        }
        if let Some(Deletion { requester, results, .. }) = self.deletions.calls.remove(&call) {
            ctx.respond(
                requester,
                Response::DeleteGroups(DeleteGroupsResponse {
                    results,
                    ..DeleteGroupsResponse::default()
                }),
            );
        }
    }

    fn seat(&self, name: &str) -> Option<&Seat> {
        self.seats.get(name).filter(|seat| !seat.is_blank())
    }
}

fn listed(name: &str, seat: &Seat) -> ListedGroup {
    let (protocol_type, group_state, group_type) = match &seat.body {
        Body::Classic(group) => (
            group.header.protocol_type.as_deref().unwrap_or_default(),
            classic_state(seat, group),
            CLASSIC,
        ),
        Body::Consumer(group) => (CONSUMER, group.state(), CONSUMER),
    };
    ListedGroup {
        group_id: name.into(),
        protocol_type: protocol_type.into(),
        group_state: group_state.into(),
        group_type: group_type.into(),
    }
}

fn classic_state(seat: &Seat, group: &classic::Group) -> &'static str {
    match group.header.phase {
        _ if seat.classic.preparing.is_some() => "PreparingRebalance",
        classic::Phase::Empty => "Empty",
        classic::Phase::Completing => "CompletingRebalance",
        classic::Phase::Stable => "Stable",
    }
}

fn describe_classic(group_id: String, seat: &Seat, group: &classic::Group) -> DescribedGroup {
    let group_state = classic_state(seat, group);
    // Between generations nothing that members have said or been given holds.
    let protocol = group
        .header
        .protocol
        .as_deref()
        .filter(|_| group_state == "Stable")
        .unwrap_or_default();
    let member = |(id, member): (&String, &classic::Member)| {
        let mut described = DescribedGroupMember {
            member_id: id.clone(),
            group_instance_id: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            ..DescribedGroupMember::default()
        };
        if !protocol.is_empty() {
            described.member_metadata = member.metadata(protocol);
            described.member_assignment = member.assignment.clone();
        }
        described
    };
    DescribedGroup {
        group_id,
        group_state: group_state.into(),
        protocol_type: group.header.protocol_type.clone().unwrap_or_default(),
        protocol_data: protocol.into(),
        members: group.members.iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn describe_consumer(
    group_id: String,
    group: &consumer::Group,
    topics: &Topics,
) -> consumer_group_describe::DescribedGroup {
    let member = |(id, member): (&String, &consumer::Member)| consumer_group_describe::Member {
        member_id: id.clone(),
        instance_id: member.instance.clone(),
        rack_id: member.rack.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.topics.clone(),
        subscribed_topic_regex: member.regex.clone(),
        assignment: describe_assignment(&member.assigned, topics),
        target_assignment: describe_assignment(&member.target, topics),
        member_type: 1,
    };
    consumer_group_describe::DescribedGroup {
        group_id,
        group_state: group.state().into(),
        group_epoch: group.header.epoch,
        assignment_epoch: group.header.epoch,
        assignor_name: group.header.assignor.clone(),
        members: group.members.iter().map(member).collect(),
        ..consumer_group_describe::DescribedGroup::default()
    }
}

fn describe_assignment(partitions: &Partitions, topics: &Topics) -> consumer_group_describe::Assignment {
    let topic_partitions = partitions
        .iter()
        .map(|(id, partitions)| consumer_group_describe::TopicPartitions {
            topic_id: *id,
            topic_name: topics.get_by_id(id).map(|topic| topic.name.clone()).unwrap_or_default(),
            partitions: partitions.iter().copied().collect(),
        });
    consumer_group_describe::Assignment {
        topic_partitions: topic_partitions.collect(),
    }
}

/// The answer in place of one whose change will never be kept: ask again.
pub(super) fn unavailable(response: Response) -> Response {
    let error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    match response {
        Response::JoinGroup(response) => Response::JoinGroup(tidemill_protocol::api::join_group::JoinGroupResponse {
            error_code: error,
            member_id: response.member_id,
            ..Default::default()
        }),
        Response::SyncGroup(_) => Response::SyncGroup(tidemill_protocol::api::sync_group::SyncGroupResponse {
            error_code: error,
            ..Default::default()
        }),
        Response::Heartbeat(_) => Response::Heartbeat(tidemill_protocol::api::heartbeat::HeartbeatResponse {
            error_code: error,
            ..Default::default()
        }),
        Response::LeaveGroup(_) => Response::LeaveGroup(tidemill_protocol::api::leave_group::LeaveGroupResponse {
            error_code: error,
            ..Default::default()
        }),
        Response::ConsumerGroupHeartbeat(_) => {
            let response = tidemill_protocol::api::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse {
                error_code: error,
                error_message: Some("The change of the group could not be kept. Try again.".into()),
                ..Default::default()
            };
            Response::ConsumerGroupHeartbeat(response)
        }
        other => other,
    }
}
