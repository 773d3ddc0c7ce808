//! Commands of consumer groups, and how their responses print.
//!
//! Classic: `join GROUP [MEMBER] [instance=I] [session=MS] [rebalance=MS] [protocols=A/B] [type=T] [says=TEXT] [version=N]`,
//! `sync GROUP MEMBER GENERATION [MEMBER=SHARE...] [version=N]`, `heartbeat GROUP MEMBER GENERATION`,
//! `leave GROUP MEMBER... [version=N]`; each takes `instance=I`.
//! KIP-848: `consume GROUP MEMBER EPOCH [topics=A/B] [regex=R] [owned=TOPIC:0/1,TOPIC:2] [instance=I] [assignor=A] [rebalance=MS]
//! [version=N]`; with epoch 0 it is a whole first request.
//! Both: `check GROUP MEMBER GENERATION [instance=I]` (may it commit?), `members GROUP` (what is kept), `describe-group GROUP... [version=N]`,
//! `describe-consumers GROUP...`, `list-groups [states=A/B] [types=A/B]`, `delete-groups GROUP...`.
//!
//! `rebalance-delay MS` starts a broker that gathers first members for that long.
//!
//! Member ids that the coordinator gave out print as the client's name, with a number from the second on; `none` is no member id.
use std::{cell::RefCell, collections::BTreeMap, error::Error};

use goldenscript::Command;
use tidemill_broker::{
    Broker,
    group::{Body, Partitions},
};
use tidemill_protocol::{
    api::{
        Response,
        consumer_group_describe::{self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse},
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions},
        delete_groups::DeleteGroupsRequest,
        describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse},
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        list_groups::ListGroupsRequest,
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
    ids::Uuid,
};

use crate::{Output, world::World};

/// Bytes of a UUID as it is written.
const UUID_LEN: usize = 22;

#[derive(Default)]
struct Names {
    full: BTreeMap<String, String>,
    short: BTreeMap<String, String>,
    topics: BTreeMap<Uuid, String>,
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

/// A script begins: no member has a name yet.
pub fn forget_names() {
    NAMES.with_borrow_mut(|names| *names = Names::default());
}

/// The member id that a script's name stands for.
pub fn member_id(name: &str) -> String {
    match name {
        "none" => String::new(),
        name => NAMES.with_borrow(|names| names.full.get(name).cloned().unwrap_or_else(|| name.into())),
    }
}

/// The name that a script knows a member id by.
fn name_of(id: &str) -> String {
    if id.is_empty() {
        return "none".into();
    }
    let Some(stem) = id
        .len()
        .checked_sub(UUID_LEN + 1)
        .and_then(|end| id.get(..end).filter(|_| id.as_bytes()[end] == b'-'))
    else {
        return id.into();
    };
    NAMES.with_borrow_mut(|names| {
        if let Some(short) = names.short.get(id) {
            return short.clone();
        }
        let mut short = stem.to_string();
        for number in 2.. {
            if !names.full.contains_key(&short) {
                break;
            }
            short = format!("{stem}{number}");
        }
        names.full.insert(short.clone(), id.into());
        names.short.insert(id.into(), short.clone());
        short
    })
}

pub fn run(world: &mut World, command: &Command) -> Option<Output> {
    let run = match command.name.as_str() {
        "join" => join,
        "sync" => sync,
        "heartbeat" => heartbeat,
        "leave" => leave,
        "consume" => consume,
        "check" => check,
        "members" => members,
        "describe-group" => describe_group,
        "describe-consumers" => describe_consumers,
        "list-groups" => list_groups,
        "delete-groups" => delete_groups,
        "rebalance-delay" => rebalance_delay,
        _ => return None,
    };
    NAMES.with_borrow_mut(|names| {
        names.topics = world
            .broker
            .state()
            .topics
            .iter()
            .map(|topic| (topic.id, topic.name.clone()))
            .collect();
    });
    Some(run(world, command))
}

fn list(text: &str) -> Vec<String> {
    text.split('/')
        .filter(|part| !part.is_empty())
        .map(String::from)
        .collect()
}

fn version(args: &mut goldenscript::ArgumentConsumer<'_>, default: i16) -> Result<i16, Box<dyn Error>> {
    Ok(args.take_key("version").map_or(Ok(default), str::parse)?)
}

fn rebalance_delay(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    world.config.group_initial_rebalance_delay_ms = args.next_pos().ok_or("milliseconds?")?.parse()?;
    args.reject_next()?;
    world.broker = Broker::new(world.config.clone(), world.store.state());
    world.broker.handle_start(world.now);
    Ok(String::new())
}

fn join(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let version = version(&mut args, 9)?;
    let says = args.take_key("says").unwrap_or("t").to_string();
    let protocol = |name| JoinGroupRequestProtocol {
        name,
        metadata: says.clone().into(),
    };
    let request = JoinGroupRequest {
        group_id: args.next_pos().ok_or("group?")?.into(),
        member_id: member_id(args.next_pos().unwrap_or("none")),
        group_instance_id: args.take_key("instance").map(String::from),
        session_timeout_ms: args.take_key("session").map_or(Ok(10_000), str::parse)?,
        rebalance_timeout_ms: args.take_key("rebalance").map_or(Ok(60_000), str::parse)?,
        protocol_type: args.take_key("type").unwrap_or("consumer").into(),
        protocols: list(args.take_key("protocols").unwrap_or("range"))
            .into_iter()
            .map(protocol)
            .collect(),
        ..JoinGroupRequest::default()
    };
    args.reject_next()?;
    world.request(version, request);
    Ok(String::new())
}

fn sync(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let version = version(&mut args, 5)?;
    let mut request = SyncGroupRequest {
        group_id: args.next_pos().ok_or("group?")?.into(),
        member_id: member_id(args.next_pos().ok_or("member?")?),
        generation_id: args.next_pos().ok_or("generation?")?.parse()?,
        group_instance_id: args.take_key("instance").map(String::from),
        ..SyncGroupRequest::default()
    };
    while let Some((member, share)) = args.next_key() {
        request.assignments.push(SyncGroupRequestAssignment {
            member_id: member_id(member),
            assignment: share.to_string().into(),
        });
    }
    args.reject_next()?;
    world.request(version, request);
    Ok(String::new())
}

fn heartbeat(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let request = HeartbeatRequest {
        group_id: args.next_pos().ok_or("group?")?.into(),
        member_id: member_id(args.next_pos().ok_or("member?")?),
        generation_id: args.next_pos().ok_or("generation?")?.parse()?,
        group_instance_id: args.take_key("instance").map(String::from),
    };
    args.reject_next()?;
    world.request(4, request);
    Ok(String::new())
}

fn leave(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let version = version(&mut args, 5)?;
    let instance = args.take_key("instance").map(String::from);
    let mut request = LeaveGroupRequest {
        group_id: args.next_pos().ok_or("group?")?.into(),
        ..LeaveGroupRequest::default()
    };
    while let Some(member) = args.next_pos() {
        request.member_id = member_id(member);
        request.members.push(MemberIdentity {
            member_id: member_id(member),
            group_instance_id: instance.clone(),
            ..MemberIdentity::default()
        });
    }
    args.reject_next()?;
    world.request(version, request);
    Ok(String::new())
}

fn consume(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let version = version(&mut args, 1)?;
    let group_id = args.next_pos().ok_or("group?")?.into();
    let member_id = member_id(args.next_pos().ok_or("member?")?);
    let member_epoch = args.next_pos().ok_or("epoch?")?.parse()?;
    let owned = args.take_key("owned").map(|owned| owned_partitions(world, owned));
    let request = ConsumerGroupHeartbeatRequest {
        group_id,
        member_id,
        member_epoch,
        instance_id: args.take_key("instance").map(String::from),
        rack_id: args.take_key("rack").map(String::from),
        rebalance_timeout_ms: match args.take_key("rebalance") {
            Some(timeout) => timeout.parse()?,
            None if member_epoch == 0 => 60_000,
            None => -1,
        },
        subscribed_topic_names: args.take_key("topics").map(list),
        subscribed_topic_regex: args.take_key("regex").map(String::from),
        server_assignor: args.take_key("assignor").map(String::from),
        topic_partitions: owned.transpose()?.or_else(|| (member_epoch == 0).then(Vec::new)),
    };
    args.reject_next()?;
    world.request(version, request);
    Ok(String::new())
}

fn owned_partitions(world: &World, text: &str) -> Result<Vec<TopicPartitions>, Box<dyn Error>> {
    let mut owned = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (topic, partitions) = part.split_once(':').ok_or("topic:partitions?")?;
        owned.push(TopicPartitions {
            topic_id: world.topic_id(topic),
            partitions: partitions.split('/').map(str::parse).collect::<Result<_, _>>()?,
        });
    }
    Ok(owned)
}

fn check(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let group = args.next_pos().ok_or("group?")?;
    let member = member_id(args.next_pos().ok_or("member?")?);
    let generation = args.next_pos().ok_or("generation?")?.parse()?;
    let checked = world
        .broker
        .state()
        .groups
        .check_commit(group, &member, args.take_key("instance"), generation);
    args.reject_next()?;
    Ok(match checked {
        Ok(()) => "may commit\n".into(),
        Err(error) => format!("{error:?}\n"),
    })
}

fn members(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let name = args.next_pos().ok_or("group?")?;
    args.reject_next()?;
    let Some(group) = world.broker.state().groups.get(name) else {
        return Ok("not kept\n".into());
    };
    let empty = if group.empty_since.is_some() { " empty" } else { "" };
    let mut lines = Vec::new();
    match &group.body {
        Body::Classic(group) => {
            lines.push(format!(
                "classic generation={} {:?}{empty}",
                group.header.generation, group.header.phase
            ));
            for (id, member) in &group.members {
                let share = String::from_utf8_lossy(&member.assignment);
                lines.push(format!("  {} share={share:?}", name_of(id)));
            }
        }
        Body::Consumer(group) => {
            lines.push(format!(
                "consumer epoch={} {}{empty}",
                group.header.epoch, group.header.assignor
            ));
            for (id, member) in &group.members {
                let revoking = match partitions(&member.revoking) {
                    none if none.is_empty() => none,
                    some => format!(" revoking {some}"),
                };
                let (epoch, phase, assigned) = (member.epoch, member.phase, partitions(&member.assigned));
                lines.push(format!(
                    "  {} epoch={epoch} {phase:?} [{assigned}]{revoking}",
                    name_of(id)
                ));
            }
        }
    }
    Ok(lines.join("\n") + "\n")
}

fn describe_group(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let version = version(&mut args, 6)?;
    let mut request = DescribeGroupsRequest::default();
    while let Some(group) = args.next_pos() {
        request.groups.push(group.into());
    }
    args.reject_next()?;
    world.request(version, request);
    Ok(String::new())
}

fn describe_consumers(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let mut request = ConsumerGroupDescribeRequest::default();
    while let Some(group) = args.next_pos() {
        request.group_ids.push(group.into());
    }
    args.reject_next()?;
    world.request(1, request);
    Ok(String::new())
}

fn list_groups(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let request = ListGroupsRequest {
        states_filter: list(args.take_key("states").unwrap_or("")),
        types_filter: list(args.take_key("types").unwrap_or("")),
    };
    args.reject_next()?;
    world.request(5, request);
    Ok(String::new())
}

fn delete_groups(world: &mut World, command: &Command) -> Output {
    let mut args = command.consume_args();
    let mut request = DeleteGroupsRequest::default();
    while let Some(group) = args.next_pos() {
        request.groups_names.push(group.into());
    }
    args.reject_next()?;
    world.request(2, request);
    Ok(String::new())
}

fn partitions(partitions: &Partitions) -> String {
    let topic = |id: &Uuid| NAMES.with_borrow(|names| names.topics.get(id).cloned().unwrap_or_else(|| "gone".into()));
    let mut parts: Vec<String> = partitions
        .iter()
        .map(|(id, partitions)| {
            let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
            format!("{}:{}", topic(id), numbers.join("/"))
        })
        .collect();
    parts.sort();
    parts.join(" ")
}

pub fn show(response: &Response) -> Option<String> {
    Some(match response {
        Response::JoinGroup(response) => show_join(response),
        Response::SyncGroup(response) if !response.error_code.is_ok() => format!("sync {:?}", response.error_code),
        Response::SyncGroup(response) => format!("share {:?}", String::from_utf8_lossy(&response.assignment)),
        Response::Heartbeat(response) => format!("heartbeat {:?}", response.error_code),
        Response::LeaveGroup(response) => {
            let members = response.members.iter().map(|member| {
                let instance = member
                    .group_instance_id
                    .as_ref()
                    .map_or(String::new(), |instance| format!(" ({instance})"));
                format!(" {}{instance}: {:?}", name_of(&member.member_id), member.error_code)
            });
            format!("leave {:?}{}", response.error_code, members.collect::<String>())
        }
        Response::ConsumerGroupHeartbeat(response) => show_consume(response),
        Response::DescribeGroups(response) => show_groups(response),
        Response::ConsumerGroupDescribe(response) => show_consumers(response),
        Response::ListGroups(response) => {
            let groups = response.groups.iter().map(|group| {
                format!(
                    "{} {} {} {:?}",
                    group.group_id, group.group_type, group.group_state, group.protocol_type
                )
            });
            groups.collect::<Vec<_>>().join("\n")
        }
        Response::DeleteGroups(response) => {
            let results = response
                .results
                .iter()
                .map(|result| format!("{} {:?}", result.group_id, result.error_code));
            results.collect::<Vec<_>>().join("\n")
        }
        _ => return None,
    })
}

fn show_join(response: &JoinGroupResponse) -> String {
    let member = name_of(&response.member_id);
    if !response.error_code.is_ok() {
        return format!("join {:?} member={member}", response.error_code);
    }
    let mut text = format!(
        "generation={} member={member} leader={} {}",
        response.generation_id,
        name_of(&response.leader),
        response.protocol_name.as_deref().unwrap_or("null")
    );
    if !response.members.is_empty() {
        let members = response.members.iter().map(|member| {
            format!(
                "{}={}",
                name_of(&member.member_id),
                String::from_utf8_lossy(&member.metadata)
            )
        });
        text += &format!(" members: {}", members.collect::<Vec<_>>().join(" "));
    }
    if response.skip_assignment {
        text += " skip assignment";
    }
    text
}

fn show_consume(response: &ConsumerGroupHeartbeatResponse) -> String {
    if !response.error_code.is_ok() {
        return format!(
            "{:?} {}",
            response.error_code,
            response.error_message.as_deref().unwrap_or("")
        );
    }
    let member = name_of(response.member_id.as_deref().unwrap_or(""));
    let assignment = match &response.assignment {
        None => "as before".into(),
        Some(assignment) => {
            let assigned: Partitions = assignment
                .topic_partitions
                .iter()
                .map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()))
                .collect();
            format!("[{}]", partitions(&assigned))
        }
    };
    format!("{member} epoch={} {assignment}", response.member_epoch)
}

fn show_groups(response: &DescribeGroupsResponse) -> String {
    let mut lines = Vec::new();
    for group in &response.groups {
        let error = match &group.error_message {
            Some(message) => format!(" {:?} {message}", group.error_code),
            None => String::new(),
        };
        lines.push(format!(
            "{} {} {:?} {:?}{error}",
            group.group_id, group.group_state, group.protocol_type, group.protocol_data
        ));
        for member in &group.members {
            lines.push(format!(
                "  {} {} {} says={:?} share={:?}{}",
                name_of(&member.member_id),
                member.client_id,
                member.client_host,
                String::from_utf8_lossy(&member.member_metadata),
                String::from_utf8_lossy(&member.member_assignment),
                member
                    .group_instance_id
                    .as_ref()
                    .map_or(String::new(), |instance| format!(" instance={instance}"))
            ));
        }
    }
    lines.join("\n")
}

fn show_consumers(response: &ConsumerGroupDescribeResponse) -> String {
    let assigned = |assignment: &consumer_group_describe::Assignment| {
        let mut parts: Vec<String> = assignment
            .topic_partitions
            .iter()
            .map(|topic| {
                let numbers: Vec<String> = topic.partitions.iter().map(i32::to_string).collect();
                format!("{}:{}", topic.topic_name, numbers.join("/"))
            })
            .collect();
        parts.sort();
        parts.join(" ")
    };
    let mut lines = Vec::new();
    for group in &response.groups {
        let error = match &group.error_message {
            Some(message) => format!(" {:?} {message}", group.error_code),
            None => String::new(),
        };
        lines.push(format!(
            "{} {} epoch={} {}{error}",
            group.group_id, group.group_state, group.group_epoch, group.assignor_name
        ));
        for member in &group.members {
            lines.push(format!(
                "  {} epoch={} {} topics={} regex={} [{}] target [{}]",
                name_of(&member.member_id),
                member.member_epoch,
                member.client_id,
                member.subscribed_topic_names.join("/"),
                member.subscribed_topic_regex.as_deref().unwrap_or("-"),
                assigned(&member.assignment),
                assigned(&member.target_assignment)
            ));
        }
    }
    lines.join("\n")
}
