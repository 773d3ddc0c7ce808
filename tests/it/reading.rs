//! The reading scenarios: who of a group reads what, seen from outside, by SDK members and by kcat members.
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    daemon::{Daemon, until},
    member::{Kind, Member, by_partition, describe, produce, produce_everywhere, together, until_stable},
};

fn daemon_with(topic: &str, partitions: i32) -> Daemon {
    let daemon = Daemon::start();
    daemon.run(&["topic", "create", topic, "--partitions", &partitions.to_string()]);
    daemon
}

fn keys(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("k{n}"))
}

#[test]
fn one_member_reads_one_partition_in_order() {
    for kind in Kind::here("one_member_reads_one_partition_in_order") {
        let daemon = daemon_with("t", 1);
        produce(&daemon, "t", keys(300));
        let member = Member::join(&daemon, kind, "g", "t", "a");
        until("all is read", || member.seen().len() >= 300);
        let offsets: Vec<i64> = member.seen().iter().map(|s| s.offset).collect();
        assert_eq!(offsets, (0..300).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn one_member_reads_two_partitions_in_turn() {
    for kind in Kind::here("one_member_reads_two_partitions_in_turn") {
        let daemon = daemon_with("t", 2);
        produce_everywhere(&daemon, "t", 2, 100, "first");
        let member = Member::join(&daemon, kind, "g", "t", "a");
        until("both partitions are read", || member.seen().len() >= 200);
        produce_everywhere(&daemon, "t", 2, 50, "second");
        until("both go on", || member.seen().len() >= 300);
        for (partition, offsets) in by_partition(&member.seen()) {
            assert_eq!(offsets, (0..150).collect::<Vec<_>>(), "{kind:?}, partition {partition}");
        }
    }
}

#[test]
fn two_groups_on_one_partition_each_have_their_own_offset() {
    for kind in Kind::here("two_groups_on_one_partition_each_have_their_own_offset") {
        let daemon = daemon_with("t", 1);
        produce(&daemon, "t", keys(100));
        let mut early = Member::join(&daemon, kind, "early", "t", "a");
        until("the first group has read", || early.seen().len() == 100);
        until("it has committed", || committed(&daemon, "early") == [(0, 100)]);
        early.kill();
        produce(&daemon, "t", keys(50));
        let late = Member::join(&daemon, kind, "late", "t", "a");
        until("the second group has read everything", || late.seen().len() == 150);
        until("it has committed", || committed(&daemon, "late") == [(0, 150)]);
        assert_eq!(
            committed(&daemon, "early"),
            [(0, 100)],
            "{kind:?}: nobody moved the first group's offset"
        );
    }
}

/// (partition, offset) of a group, from `group describe`.
fn committed(daemon: &Daemon, group: &str) -> Vec<(i64, i64)> {
    let offsets = describe(daemon, group)["offsets"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    offsets
        .iter()
        .map(|o| (o["partition"].as_i64().unwrap(), o["committed"].as_i64().unwrap_or(-1)))
        .collect()
}

#[test]
fn of_two_members_on_one_partition_one_waits_and_takes_over() {
    for kind in Kind::here("of_two_members_on_one_partition_one_waits_and_takes_over") {
        let daemon = daemon_with("t", 1);
        let mut members = [
            Member::join(&daemon, kind, "g", "t", "a"),
            Member::join(&daemon, kind, "g", "t", "b"),
        ];
        until_stable(&daemon, "g", 2);
        produce(&daemon, "t", keys(100));
        until("one reads", || together(&members).len() == 100);
        until("it has committed", || committed(&daemon, "g") == [(0, 100)]);
        let reader = usize::from(members[0].seen().is_empty());
        let waiter = 1 - reader;
        assert_eq!(members[waiter].seen(), [], "{kind:?}: the other waits");
        members[reader].kill();
        produce(&daemon, "t", keys(100));
        until("the other takes over", || members[waiter].seen().len() == 100);
        let offsets: Vec<i64> = members[waiter].seen().iter().map(|s| s.offset).collect();
        assert_eq!(
            offsets,
            (100..200).collect::<Vec<_>>(),
            "{kind:?}: from the committed offset"
        );
    }
}

#[test]
fn two_members_on_two_partitions_have_one_each() {
    for kind in Kind::here("two_members_on_two_partitions_have_one_each") {
        let daemon = daemon_with("t", 2);
        let members = [
            Member::join(&daemon, kind, "g", "t", "a"),
            Member::join(&daemon, kind, "g", "t", "b"),
        ];
        until_stable(&daemon, "g", 2);
        produce_everywhere(&daemon, "t", 2, 50, "x");
        until("all is read", || together(&members).len() == 100);
        let owned: Vec<BTreeSet<i32>> = members.iter().map(Member::partitions).collect();
        assert!(
            owned.iter().all(|p| p.len() == 1) && owned[0] != owned[1],
            "{kind:?}: {owned:?}"
        );
    }
}

#[test]
fn twelve_partitions_are_shared_by_three_members_and_then_by_two() {
    for kind in Kind::here("twelve_partitions_are_shared_by_three_members_and_then_by_two") {
        let daemon = daemon_with("t", 12);
        let mut members: Vec<Member> = ["a", "b", "c"]
            .map(|name| Member::join(&daemon, kind, "g", "t", name))
            .into_iter()
            .collect();
        until_stable(&daemon, "g", 3);
        produce_everywhere(&daemon, "t", 12, 10, "three");
        until("all is read", || together(&members).len() == 120);
        let owned: Vec<usize> = members.iter().map(|m| m.partitions().len()).collect();
        assert_eq!(owned, [4, 4, 4], "{kind:?}");

        members.remove(0).kill();
        until_stable(&daemon, "g", 2);
        let before: Vec<usize> = members.iter().map(|m| m.seen().len()).collect();
        produce_everywhere(&daemon, "t", 12, 10, "two");
        let fresh = |m: &Member, skip: usize| -> BTreeSet<i32> {
            m.seen()[skip..]
                .iter()
                .filter(|s| s.key.starts_with("two"))
                .map(|s| s.partition)
                .collect()
        };
        until("six partitions each", || {
            members.iter().zip(&before).all(|(m, skip)| fresh(m, *skip).len() == 6)
        });
    }
}

#[test]
fn all_records_of_a_key_are_in_one_partition_in_order_at_one_member() {
    for kind in Kind::here("all_records_of_a_key_are_in_one_partition_in_order_at_one_member") {
        let daemon = daemon_with("t", 6);
        let members = ["a", "b", "c"].map(|name| Member::join(&daemon, kind, "g", "t", name));
        until_stable(&daemon, "g", 3);
        let repeated = (0..600).map(|n| format!("user{}", n % 20));
        produce(&daemon, "t", repeated);
        until("all is read", || together(&members).len() == 600);
        let mut homes: BTreeMap<String, BTreeSet<(usize, i32)>> = BTreeMap::new();
        for (number, member) in members.iter().enumerate() {
            for seen in member.seen() {
                homes.entry(seen.key).or_default().insert((number, seen.partition));
            }
            for (partition, offsets) in by_partition(&member.seen()) {
                assert!(offsets.is_sorted(), "{kind:?}: partition {partition} out of order");
            }
        }
        assert_eq!(homes.len(), 20);
        assert!(homes.values().all(|home| home.len() == 1), "{kind:?}: {homes:?}");
    }
}

#[test]
fn two_groups_on_three_partitions_make_six_offsets() {
    let daemon = daemon_with("t", 3);
    produce_everywhere(&daemon, "t", 3, 5, "x");
    let members = ["one", "two"].map(|group| Member::join(&daemon, Kind::Sdk, group, "t", "a"));
    until("both groups have read", || members.iter().all(|m| m.seen().len() == 15));
    for group in ["one", "two"] {
        until("it has committed", || {
            committed(&daemon, group) == [(0, 5), (1, 5), (2, 5)]
        });
    }
    // The internal topic, read like any other: the newest value of each (group, topic, partition) key.
    let text = daemon.run(&[
        "consume",
        "__consumer_offsets",
        "--from",
        "earliest",
        "--until-end",
        "--json",
    ]);
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let keys: BTreeSet<String> = records.map(|record| record["key"].to_string()).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
}
