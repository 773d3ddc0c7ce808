//! KIP-848 clients and modules' members that come, go, die, come back; topics that grow; a log that is slow, refuses, or restarts.
use alloc::{
    collections::{BTreeSet, VecDeque},
    format,
    string::String,
    vec,
    vec::Vec,
};
use proptest::prelude::*;
use tidemill_protocol::{
    api::{
        Response,
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions},
    },
    error_code::ErrorCode,
    ids::Uuid,
};

use super::sim::{GROUP, Sim};
use crate::group::Partitions;

const TOPICS: [(&str, Uuid); 2] = [("t", Uuid([1; 16])), ("u", Uuid([2; 16]))];

/// A client as the protocol wants it: it acts on an assignment only when the answer says so, and gives up before it takes.
struct Client {
    id: String,
    is_module: bool,
    epoch: i32,
    owned: Partitions,
    /// What it will own when it has given up the rest and said so.
    assigned: Partitions,
    /// Calls that are not answered: one, unless a module's member had something new to say meanwhile.
    waits_for: VecDeque<u64>,
    /// What it said last that it owns.
    told: Partitions,
    is_alive: bool,
    incarnation: u32,
}

impl Client {
    fn new(number: usize) -> Client {
        let is_module = number % 3 == 2;
        let id = format!("m{number}-0");
        Client {
            id,
            is_module,
            epoch: 0,
            owned: Partitions::new(),
            assigned: Partitions::new(),
            waits_for: VecDeque::new(),
            told: Partitions::new(),
            is_alive: false,
            incarnation: 0,
        }
    }

    fn start(&mut self) {
        if self.is_alive {
            return;
        }
        self.is_alive = true;
        self.incarnation += 1;
        // A module's member has the same name in every life of the daemon, a client has a new one.
        if !self.is_module {
            let name: String = self.id.split('-').next().unwrap().into();
            self.id = format!("{name}-{}", self.incarnation);
        }
        self.rejoin();
    }

    fn rejoin(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.assigned.clear();
        self.waits_for.clear();
    }

    /// Sends a heartbeat, unless one is under way. A module's member gives up one task at a time, as their batches end, and says so at once.
    fn beat(&mut self, sim: &mut Sim) {
        if !self.is_alive || !self.is_module && !self.waits_for.is_empty() {
            return;
        }
        // It has given up what is not assigned any more before it says so.
        if self.is_module {
            self.give_one_up();
        } else {
            self.owned = self.assigned.clone();
        }
        if !self.waits_for.is_empty() && (self.epoch == 0 || self.told == self.owned) {
            return;
        }
        self.told = self.owned.clone();
        let owned = self.owned.iter().map(|(topic, partitions)| TopicPartitions {
            topic_id: *topic,
            partitions: partitions.iter().copied().collect(),
        });
        let joins = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| TOPICS.map(|(name, _)| String::from(name)).to_vec()),
            topic_partitions: Some(owned.collect()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.waits_for.push_back(sim.send(self.is_module, request));
    }

    fn give_one_up(&mut self) {
        for (topic, partitions) in &mut self.owned {
            let assigned = self.assigned.get(topic);
            let gone = partitions
                .iter()
                .find(|partition| !assigned.is_some_and(|all| all.contains(partition)));
            if let Some(gone) = gone.copied() {
                partitions.remove(&gone);
                break;
            }
        }
        self.owned.retain(|_, partitions| !partitions.is_empty());
    }

    fn listen(&mut self, sim: &mut Sim) {
        for call in self.waits_for.clone() {
            let Some(Response::ConsumerGroupHeartbeat(response)) = sim.answer(call) else {
                continue;
            };
            self.waits_for.retain(|other| *other != call);
            self.hear(response);
        }
    }

    fn hear(&mut self, response: ConsumerGroupHeartbeatResponse) {
        match response.error_code {
            ErrorCode::NONE => {
                self.epoch = response.member_epoch;
                if let Some(assignment) = response.assignment {
                    self.assigned = assignment
                        .topic_partitions
                        .into_iter()
                        .map(|topic| (topic.topic_id, topic.partitions.into_iter().collect::<BTreeSet<_>>()))
                        .collect();
                    // What is new can be read at once; what is gone is read until the batch at hand is done.
                    for (topic, partitions) in &self.assigned {
                        self.owned.entry(*topic).or_default().extend(partitions);
                    }
                }
            }
            ErrorCode::FENCED_MEMBER_EPOCH if self.is_module => {
                // It may know more than a log that refused an entry, never less than it must.
                let why = response.error_message.unwrap();
                let epochs: Vec<i32> = why
                    .split([' ', ',', '.'])
                    .filter_map(|word| word.parse().ok())
                    .collect();
                assert!(epochs[0] < epochs[1], "{why}");
                self.rejoin();
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.rejoin()
            }
            ErrorCode::COORDINATOR_NOT_AVAILABLE => {}
            error => panic!("unexpected {error}"),
        }
    }

    fn leave(&mut self, sim: &mut Sim) {
        if !self.is_alive {
            return;
        }
        self.is_alive = false;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: self.id.clone(),
            member_epoch: -1,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        sim.send(self.is_module, request);
        self.rejoin();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Leave(usize),
    /// Goes silent. A module's member cannot: it lives in the daemon.
    Die(usize),
    Beat(usize),
    Listen(usize),
    Commit(usize),
    Refuse,
    Wait(i64),
    Grow(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0usize..6;
    let step = prop_oneof![
        3 => client.clone().prop_map(Step::Start),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Die),
        12 => client.clone().prop_map(Step::Beat),
        12 => client.prop_map(Step::Listen),
        8 => (1usize..4).prop_map(Step::Commit),
        1 => Just(Step::Refuse),
        2 => (1i64..20_000).prop_map(Step::Wait),
        1 => (0usize..2).prop_map(Step::Grow),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..300)
}

struct World {
    sim: Sim,
    clients: Vec<Client>,
    counts: [u32; 2],
}

impl World {
    fn play(&mut self, step: Step) {
        match step {
            Step::Start(client) => self.clients[client].start(),
            Step::Leave(client) => self.clients[client].leave(&mut self.sim),
            Step::Die(client) => self.clients[client].is_alive &= self.clients[client].is_module,
            Step::Beat(client) => self.clients[client].beat(&mut self.sim),
            Step::Listen(client) => self.clients[client].listen(&mut self.sim),
            Step::Commit(count) => self.sim.commit(count),
            Step::Refuse => self.sim.refuse(),
            Step::Wait(ms) => self.sim.wait(ms),
            Step::Grow(topic) => {
                self.counts[topic] += 1;
                self.sim.add_partitions(TOPICS[topic].1, self.counts[topic]);
            }
            Step::Restart => {
                self.sim.restart();
                for client in &mut self.clients {
                    client.waits_for.clear();
                    if client.is_module && client.is_alive {
                        client.rejoin();
                    }
                }
            }
        }
    }

    /// No partition has two owners in what is kept, and no two clients whose commits would be accepted own the same partition.
    fn check(&self) {
        let mut kept = BTreeSet::new();
        for member in self.sim.consumer().iter().flat_map(|group| group.members.values()) {
            for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
                for partition in partitions {
                    assert!(
                        kept.insert((*topic, *partition)),
                        "two members are assigned {partition} of {topic}"
                    );
                }
            }
        }
        let mut owned = BTreeSet::new();
        for client in &self.clients {
            if self.sim.may_commit(&client.id, client.epoch).is_err() || client.epoch == 0 {
                continue;
            }
            for (topic, partitions) in &client.owned {
                for partition in partitions {
                    assert!(
                        owned.insert((*topic, *partition)),
                        "two clients own {partition} of {topic}"
                    );
                }
            }
        }
    }

    /// Lets everybody who lives speak until nothing changes, and those who died be forgotten.
    fn quiet(&mut self) {
        let rounds = self.sim.session_ms() / 1000 + 40;
        for _ in 0..rounds {
            for client in &mut self.clients {
                client.beat(&mut self.sim);
            }
            self.sim.run(1000);
            for client in &mut self.clients {
                client.listen(&mut self.sim);
            }
            self.check();
        }
        let total: usize = self.counts.iter().map(|count| *count as usize).sum();
        let alive: Vec<&Client> = self.clients.iter().filter(|client| client.is_alive).collect();
        let Some(group) = self.sim.consumer() else {
            return assert!(alive.is_empty());
        };
        let members: BTreeSet<&str> = group.members.keys().map(String::as_str).collect();
        assert_eq!(
            members,
            alive.iter().map(|client| client.id.as_str()).collect(),
            "the living are the members"
        );
        if alive.is_empty() {
            return;
        }
        assert_eq!(group.state(), "Stable");
        let loads: Vec<usize> = alive
            .iter()
            .map(|client| client.owned.values().map(BTreeSet::len).sum())
            .collect();
        assert_eq!(loads.iter().sum::<usize>(), total, "everything is assigned: {loads:?}");
        assert!(
            loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1,
            "balanced: {loads:?}"
        );
        for client in alive {
            assert_eq!(client.owned.values().map(BTreeSet::len).sum::<usize>(), {
                let member = &group.members[&client.id];
                member.target.values().map(BTreeSet::len).sum::<usize>()
            });
        }
    }
}

fn world(seed: u64) -> World {
    let mut sim = Sim::new(seed);
    let counts = [7, 4];
    for ((name, id), count) in TOPICS.into_iter().zip(counts) {
        sim.create_topic(name, id, count);
    }
    World {
        sim,
        clients: (0..6).map(Client::new).collect(),
        counts,
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

#[test]
fn twelve_partitions_on_three_members_are_four_each_and_six_each_after_one_leaves() {
    let mut sim = Sim::new(1);
    sim.create_topic("t", TOPICS[0].1, 12);
    let mut world = World {
        sim,
        clients: [0, 1, 3].into_iter().map(Client::new).collect(),
        counts: [12, 0],
    };
    let loads = |world: &World| -> Vec<usize> {
        world
            .clients
            .iter()
            .map(|client| client.owned.values().map(BTreeSet::len).sum())
            .collect()
    };
    for client in 0..3 {
        world.play(Step::Start(client));
    }
    world.quiet();
    assert_eq!(loads(&world), vec![4, 4, 4]);
    world.play(Step::Leave(1));
    world.quiet();
    assert_eq!(loads(&world), vec![6, 0, 6]);
    world.play(Step::Die(0));
    world.quiet();
    assert_eq!(loads(&world)[2], 12);
}
