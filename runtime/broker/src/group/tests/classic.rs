//! Classic clients that join, sync, heartbeat, leave, die and come back; a log that is slow, refuses, or restarts.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use proptest::prelude::*;
use tidemill_protocol::{
    api::{
        Response,
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
    error_code::ErrorCode,
};

use super::sim::{GROUP, Sim};
use crate::group::{Body, classic};

const PARTITIONS: u32 = 7;
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

#[derive(Clone, Debug, PartialEq)]
enum Does {
    /// It is not a member, or must join again.
    Join,
    Joining(u64),
    /// It has joined; what it assigns if it leads.
    Sync(Vec<String>),
    Syncing(u64),
    Heartbeat,
    Heartbeating(u64),
}

/// A client as Kafka's are: eager, so that it owns nothing from the moment it joins again.
struct Client {
    instance: Option<String>,
    id: String,
    generation: i32,
    owned: BTreeSet<u32>,
    does: Does,
    is_alive: bool,
}

impl Client {
    fn new(number: usize) -> Client {
        let instance = (number % 3 == 2).then(|| format!("i{number}"));
        Client {
            instance,
            id: String::new(),
            generation: -1,
            owned: BTreeSet::new(),
            does: Does::Join,
            is_alive: false,
        }
    }

    fn start(&mut self) {
        if !self.is_alive {
            self.is_alive = true;
            self.reset();
        }
    }

    fn reset(&mut self) {
        self.id.clear();
        self.rejoin();
    }

    fn rejoin(&mut self) {
        self.generation = -1;
        self.owned.clear();
        self.does = Does::Join;
    }

    fn act(&mut self, sim: &mut Sim) {
        if !self.is_alive {
            return;
        }
        match core::mem::replace(&mut self.does, Does::Heartbeat) {
            Does::Join => {
                self.owned.clear();
                let protocol = JoinGroupRequestProtocol {
                    name: "range".into(),
                    ..JoinGroupRequestProtocol::default()
                };
                let request = JoinGroupRequest {
                    group_id: GROUP.into(),
                    session_timeout_ms: SESSION_MS,
                    rebalance_timeout_ms: REBALANCE_MS,
                    member_id: self.id.clone(),
                    group_instance_id: self.instance.clone(),
                    protocol_type: "consumer".into(),
                    protocols: vec![protocol],
                    ..JoinGroupRequest::default()
                };
                self.does = Does::Joining(sim.send(false, request));
            }
            Does::Sync(members) => {
                let mut shares: BTreeMap<&String, Vec<String>> = BTreeMap::new();
                for (partition, member) in (0..PARTITIONS).zip(members.iter().cycle()) {
                    shares.entry(member).or_default().push(partition.to_string());
                }
                let assignments = shares.into_iter().map(|(member, share)| SyncGroupRequestAssignment {
                    member_id: member.clone(),
                    assignment: share.join(",").into(),
                });
                let request = SyncGroupRequest {
                    group_id: GROUP.into(),
                    generation_id: self.generation,
                    member_id: self.id.clone(),
                    group_instance_id: self.instance.clone(),
                    assignments: assignments.collect(),
                    ..SyncGroupRequest::default()
                };
                self.does = Does::Syncing(sim.send(false, request));
            }
            Does::Heartbeat => {
                let request = HeartbeatRequest {
                    group_id: GROUP.into(),
                    generation_id: self.generation,
                    member_id: self.id.clone(),
                    group_instance_id: self.instance.clone(),
                };
                self.does = Does::Heartbeating(sim.send(false, request));
            }
            waits => self.does = waits,
        }
    }

    fn listen(&mut self, sim: &mut Sim) {
        let (Does::Joining(id) | Does::Syncing(id) | Does::Heartbeating(id)) = self.does else {
            return;
        };
        let Some(response) = sim.answer(id) else { return };
        let error = match response {
            Response::JoinGroup(response) => self.joined(response),
            Response::SyncGroup(response) => {
                if response.error_code.is_ok() {
                    let share = String::from_utf8(response.assignment.to_vec()).unwrap();
                    self.owned = share
                        .split(',')
                        .filter(|part| !part.is_empty())
                        .map(|part| part.parse().unwrap())
                        .collect();
                    self.does = Does::Heartbeat;
                }
                response.error_code
            }
            Response::Heartbeat(response) => {
                self.does = Does::Heartbeat;
                response.error_code
            }
            response => panic!("unexpected {response:?}"),
        };
        match error {
            ErrorCode::NONE | ErrorCode::MEMBER_ID_REQUIRED => {}
            ErrorCode::UNKNOWN_MEMBER_ID => self.reset(),
            ErrorCode::FENCED_INSTANCE_ID => self.is_alive = false,
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => self.rejoin(),
            ErrorCode::COORDINATOR_NOT_AVAILABLE => self.rejoin(),
            error => panic!("unexpected {error}"),
        }
    }

    fn joined(&mut self, response: JoinGroupResponse) -> ErrorCode {
        match response.error_code {
            ErrorCode::NONE => {
                self.id = response.member_id;
                self.generation = response.generation_id;
                let members = response.members.into_iter().map(|member| member.member_id).collect();
                self.does = Does::Sync(if response.skip_assignment { Vec::new() } else { members });
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = response.member_id;
                self.does = Does::Join;
            }
            _ => {}
        }
        response.error_code
    }

    fn leave(&mut self, sim: &mut Sim) {
        if !self.is_alive {
            return;
        }
        self.is_alive = false;
        if self.instance.is_none() && !self.id.is_empty() {
            let member = MemberIdentity {
                member_id: self.id.clone(),
                ..MemberIdentity::default()
            };
            let request = LeaveGroupRequest {
                group_id: GROUP.into(),
                members: vec![member],
                ..LeaveGroupRequest::default()
            };
            sim.send(false, request);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Leave(usize),
    Die(usize),
    Act(usize),
    Listen(usize),
    Commit(usize),
    Refuse,
    Wait(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0usize..5;
    let step = prop_oneof![
        3 => client.clone().prop_map(Step::Start),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Die),
        14 => client.clone().prop_map(Step::Act),
        14 => client.prop_map(Step::Listen),
        8 => (1usize..4).prop_map(Step::Commit),
        1 => Just(Step::Refuse),
        3 => (1i64..5_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..300)
}

struct World {
    sim: Sim,
    clients: Vec<Client>,
}

impl World {
    fn play(&mut self, step: Step) {
        match step {
            Step::Start(client) => self.clients[client].start(),
            Step::Leave(client) => self.clients[client].leave(&mut self.sim),
            Step::Die(client) => self.clients[client].is_alive = false,
            Step::Act(client) => self.clients[client].act(&mut self.sim),
            Step::Listen(client) => self.clients[client].listen(&mut self.sim),
            Step::Commit(count) => self.sim.commit(count),
            Step::Refuse => self.sim.refuse(),
            Step::Wait(ms) => self.sim.wait(ms),
            Step::Restart => {
                self.sim.restart();
                // Requests under way are lost with their connections, and asked again.
                for client in &mut self.clients {
                    match client.does {
                        Does::Joining(_) | Does::Syncing(_) => client.rejoin(),
                        Does::Heartbeating(_) => client.does = Does::Heartbeat,
                        _ => {}
                    }
                }
            }
        }
    }

    fn group(&self) -> Option<&classic::Group> {
        match &self.sim.state.groups.get(GROUP)?.body {
            Body::Classic(group) => Some(group),
            Body::Consumer(_) => None,
        }
    }

    /// No two clients whose commits would be accepted own the same partition.
    fn check(&self) {
        let mut owned = BTreeSet::new();
        for client in self.clients.iter().filter(|client| 0 < client.generation) {
            let checked =
                self.sim
                    .state
                    .groups
                    .check_commit(GROUP, &client.id, client.instance.as_deref(), client.generation);
            if checked.is_ok() {
                for partition in &client.owned {
                    assert!(owned.insert(*partition), "two clients own {partition}");
                }
            }
        }
    }

    fn quiet(&mut self) {
        for _ in 0..200 {
            for client in &mut self.clients {
                client.act(&mut self.sim);
            }
            self.sim.run(1000);
            for client in &mut self.clients {
                client.listen(&mut self.sim);
            }
            self.check();
        }
        let alive: Vec<&Client> = self.clients.iter().filter(|client| client.is_alive).collect();
        let Some(group) = self.group() else {
            return assert!(alive.is_empty());
        };
        let members: BTreeSet<&str> = group.members.keys().map(String::as_str).collect();
        assert_eq!(
            members,
            alive.iter().map(|client| client.id.as_str()).collect(),
            "the living are the members"
        );
        if alive.is_empty() {
            assert_eq!(group.header.phase, classic::Phase::Empty);
            return;
        }
        assert_eq!(group.header.phase, classic::Phase::Stable);
        for client in &alive {
            assert_eq!(client.generation, group.header.generation);
        }
        let owned: BTreeSet<u32> = alive.iter().flat_map(|client| client.owned.iter().copied()).collect();
        assert_eq!(owned, (0..PARTITIONS).collect(), "everything is assigned");
    }
}

fn world(seed: u64) -> World {
    World {
        sim: Sim::new(seed),
        clients: (0..5).map(Client::new).collect(),
    }
}

proptest! {
    #[test]
    fn a_partition_never_has_two_owners_and_quiet_groups_become_stable(seed in any::<u64>(), steps in steps()) {
        let mut world = world(seed);
        for step in steps {
            world.play(step);
            world.check();
        }
        world.quiet();
    }
}
