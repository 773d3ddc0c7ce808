//! The promises of the assignors, for random members, subscriptions, topics and histories.
#![allow(clippy::unwrap_used)]
use super::*;
use alloc::{format, vec};
use proptest::prelude::*;

fn topic(number: u8) -> Uuid {
    Uuid([number; 16])
}

/// A group as the tests keep it: subscriptions and last targets.
#[derive(Clone, Debug, Default)]
struct Group {
    names: Vec<String>,
    subscriptions: Vec<BTreeSet<Uuid>>,
    targets: Vec<Partitions>,
}

impl Group {
    fn of(subscriptions: &[BTreeSet<Uuid>]) -> Group {
        Group {
            names: (0..subscriptions.len()).map(|index| format!("m{index:03}")).collect(),
            subscriptions: subscriptions.to_vec(),
            targets: vec![Partitions::new(); subscriptions.len()],
        }
    }

    fn assign(&mut self, assignor: Assignor, topics: &BTreeMap<Uuid, i32>) {
        let members: Vec<Subscriber<'_>> = (0..self.names.len())
            .map(|index| Subscriber {
                id: &self.names[index],
                instance: None,
                topics: self.subscriptions[index].clone(),
                current: &self.targets[index],
            })
            .collect();
        self.targets = assignor.assign(&members, topics);
    }

    fn remove(&mut self, index: usize) {
        self.names.remove(index);
        self.subscriptions.remove(index);
        self.targets.remove(index);
    }

    fn loads(&self) -> Vec<usize> {
        self.targets
            .iter()
            .map(|target| target.values().map(BTreeSet::len).sum())
            .collect()
    }

    fn owner(&self, unit: (Uuid, i32)) -> Option<&str> {
        (0..self.names.len())
            .find(|&index| {
                self.targets[index]
                    .get(&unit.0)
                    .is_some_and(|partitions| partitions.contains(&unit.1))
            })
            .map(|index| self.names[index].as_str())
    }

    /// Every partition of a subscribed topic has exactly one owner, who subscribes to it.
    fn check(&self, topics: &BTreeMap<Uuid, i32>) {
        let mut seen = BTreeSet::new();
        for (target, subscription) in self.targets.iter().zip(&self.subscriptions) {
            for (topic, partitions) in target {
                assert!(subscription.contains(topic));
                for partition in partitions {
                    assert!((0..topics[topic]).contains(partition));
                    assert!(seen.insert((*topic, *partition)), "two owners");
                }
            }
        }
        let expected: usize = topics
            .iter()
            .filter(|(topic, _)| {
                self.subscriptions
                    .iter()
                    .any(|subscription| subscription.contains(topic))
            })
            .map(|(_, count)| usize::try_from(*count).unwrap())
            .sum();
        assert_eq!(seen.len(), expected, "everything is assigned");
    }
}

fn spread(loads: &[usize]) -> usize {
    loads.iter().max().copied().unwrap_or(0) - loads.iter().min().copied().unwrap_or(0)
}

fn topics() -> impl Strategy<Value = BTreeMap<Uuid, i32>> {
    prop::collection::vec(1..12i32, 1..6).prop_map(|counts| {
        (0u8..)
            .zip(counts)
            .map(|(number, count)| (topic(number), count))
            .collect()
    })
}

fn subscriptions() -> impl Strategy<Value = Vec<BTreeSet<Uuid>>> {
    prop::collection::vec(prop::collection::btree_set((0u8..6).prop_map(topic), 0..6), 1..8)
}

proptest! {
    #[test]
    fn every_assignor_is_total_and_disjoint(topics in topics(), subscriptions in subscriptions(), again in subscriptions()) {
        for assignor in [Assignor::Uniform, Assignor::Range, Assignor::Task] {
            let mut group = Group::of(&subscriptions);
            group.assign(assignor, &topics);
            group.check(&topics);
            // The same members with other subscriptions, starting from what they had.
            for (index, subscription) in again.iter().enumerate().take(group.names.len()) {
                group.subscriptions[index] = subscription.clone();
            }
            group.assign(assignor, &topics);
            group.check(&topics);
        }
    }

    #[test]
    fn uniform_is_balanced_within_one_for_equal_subscriptions(topics in topics(), members in 1usize..20) {
        let mut group = Group::of(&vec![topics.keys().copied().collect(); members]);
        group.assign(Assignor::Uniform, &topics);
        prop_assert!(spread(&group.loads()) <= 1);
    }

    #[test]
    fn uniform_moves_only_what_a_leaver_had(topics in topics(), members in 2usize..12, leaver in any::<prop::sample::Index>()) {
        let mut group = Group::of(&vec![topics.keys().copied().collect(); members]);
        group.assign(Assignor::Uniform, &topics);
        let before = group.clone();
        group.remove(leaver.index(members));
        group.assign(Assignor::Uniform, &topics);
        group.check(&topics);
        prop_assert!(spread(&group.loads()) <= 1);
        for (name, target) in group.names.iter().zip(&group.targets) {
            let index = before.names.iter().position(|other| other == name).unwrap();
            for (topic, partitions) in &before.targets[index] {
                prop_assert!(partitions.is_subset(&target[topic]), "a survivor keeps all it had");
            }
        }
    }

    #[test]
    fn uniform_moves_only_to_a_joiner(topics in topics(), members in 1usize..12) {
        let mut group = Group::of(&vec![topics.keys().copied().collect(); members]);
        group.assign(Assignor::Uniform, &topics);
        let before = group.clone();
        group.names.push("zzz".into());
        group.subscriptions.push(topics.keys().copied().collect());
        group.targets.push(Partitions::new());
        group.assign(Assignor::Uniform, &topics);
        group.check(&topics);
        prop_assert!(spread(&group.loads()) <= 1);
        for (&topic, &count) in &topics {
            for unit in (0..count).map(|partition| (topic, partition)) {
                let now = group.owner(unit);
                prop_assert!(now == before.owner(unit) || now == Some("zzz"));
            }
        }
    }

    #[test]
    fn no_assignor_moves_anything_without_a_reason(topics in topics(), subscriptions in subscriptions()) {
        for assignor in [Assignor::Uniform, Assignor::Range, Assignor::Task] {
            let mut group = Group::of(&subscriptions);
            group.assign(assignor, &topics);
            let before = group.targets.clone();
            group.assign(assignor, &topics);
            prop_assert_eq!(&before, &group.targets);
        }
    }

    #[test]
    fn range_co_partitions_topics_of_equal_counts(count in 1..12i32, members in 1usize..8) {
        let topics: BTreeMap<Uuid, i32> = (0..3).map(|number| (topic(number), count)).collect();
        let mut group = Group::of(&vec![topics.keys().copied().collect(); members]);
        group.assign(Assignor::Range, &topics);
        for number in 0..count {
            prop_assert_eq!(group.owner((topic(0), number)), group.owner((topic(1), number)));
            prop_assert_eq!(group.owner((topic(0), number)), group.owner((topic(2), number)));
        }
        prop_assert!(spread(&group.targets.iter().map(|target| target.get(&topic(0)).map_or(0, BTreeSet::len)).collect::<Vec<_>>()) <= 1);
    }

    #[test]
    fn a_task_is_never_at_two_members(counts in prop::collection::vec(1..12i32, 1..4), members in 1usize..8) {
        let topics: BTreeMap<Uuid, i32> = (0u8..).zip(counts).map(|(number, count)| (topic(number), count)).collect();
        let mut group = Group::of(&vec![topics.keys().copied().collect(); members]);
        group.assign(Assignor::Task, &topics);
        for number in 0..12 {
            let owners: BTreeSet<_> = topics.keys().filter_map(|&topic| group.owner((topic, number))).collect();
            prop_assert!(owners.len() <= 1);
        }
    }
}

#[test]
fn twelve_partitions_on_three_members_are_four_each_and_six_each_after_one_leaves() {
    let topics = BTreeMap::from([(topic(1), 12)]);
    for assignor in [Assignor::Uniform, Assignor::Range, Assignor::Task] {
        let mut group = Group::of(&vec![BTreeSet::from([topic(1)]); 3]);
        group.assign(assignor, &topics);
        assert_eq!(group.loads(), [4, 4, 4]);
        group.remove(1);
        group.assign(assignor, &topics);
        assert_eq!(group.loads(), [6, 6]);
    }
}

#[test]
fn the_most_named_assignor_wins_and_uniform_is_the_default() {
    let names = |names: &[&str]| names.iter().map(|name| Some(String::from(*name))).collect::<Vec<_>>();
    let elected = |votes: &[Option<String>]| elect(votes.iter().map(Option::as_ref));
    assert_eq!(elected(&[None, None]), Assignor::Uniform);
    assert_eq!(elected(&names(&["range", "uniform", "range"])), Assignor::Range);
    assert_eq!(elected(&names(&["range", "uniform"])), Assignor::Uniform);
    assert_eq!(elected(&names(&["uniform", "uniform", "task"])), Assignor::Task);
}
