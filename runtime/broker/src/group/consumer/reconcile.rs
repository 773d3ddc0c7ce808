//! One step of a member towards its target, as Kafka's CurrentAssignmentBuilder.
//!
//! ```text
//!              must give up something                        has given it up
//!   Stable ──────────────────────────► Revoking ───────────────────────────────┐
//!     ▲  ▲                                                                     ▼
//!     │  └─────────────── everything of the target is free ──────────── next assignment
//!     └── the rest is free now ── Waiting ◄── others still own some of it ─────┘
//! ```
//!
//! Guaranteed: a partition enters `assigned` only if nobody else has it in `assigned` or `revoking`, and leaves `revoking` only when its
//! owner has said that it does not own it any more. So no partition ever has two owners. While it revokes, a member keeps its epoch:
//! what it commits on the way out is still accepted; afterwards it is at a new epoch, and late commits are stale.
use alloc::collections::BTreeSet;
use tidemill_protocol::ids::Uuid;

use super::{Member, Phase};
use crate::group::Partitions;

/// `owned` is what the member says it owns, `None` when it does not say, and then it may own anything that it was ever given.
pub(super) fn step(member: &Member, epoch: i32, owned: Option<&Partitions>, taken: &BTreeSet<(Uuid, i32)>) -> Member {
    match member.phase {
        Phase::Stable if member.epoch == epoch => member.clone(),
        Phase::Revoking if owns_any(owned, &member.revoking) => member.clone(),
        // Giving up its partitions ends the member's epoch, even if it must give up more before it gets to the group's.
        Phase::Revoking => next(member, member.epoch + 1, epoch, owned, taken),
        Phase::Stable | Phase::Waiting => next(member, member.epoch, epoch, owned, taken),
    }
}

fn next(
    member: &Member,
    own_epoch: i32,
    epoch: i32,
    owned: Option<&Partitions>,
    taken: &BTreeSet<(Uuid, i32)>,
) -> Member {
    let mut next = member.clone();
    next.assigned = intersection(&member.assigned, &member.target);
    next.revoking = difference(&member.assigned, &member.target);
    if owns_any(owned, &next.revoking) {
        next.phase = Phase::Revoking;
        set_epoch(&mut next, own_epoch);
        return next;
    }
    next.revoking.clear();
    next.phase = Phase::Stable;
    for (topic, partitions) in difference(&member.target, &member.assigned) {
        for partition in partitions {
            if taken.contains(&(topic, partition)) {
                next.phase = Phase::Waiting;
            } else {
                next.assigned.entry(topic).or_default().insert(partition);
            }
        }
    }
    set_epoch(&mut next, epoch);
    next
}

fn set_epoch(member: &mut Member, epoch: i32) {
    if member.epoch != epoch {
        member.previous_epoch = member.epoch;
        member.epoch = epoch;
    }
}

fn owns_any(owned: Option<&Partitions>, partitions: &Partitions) -> bool {
    match owned {
        None => !partitions.is_empty(),
        Some(owned) => !intersection(owned, partitions).is_empty(),
    }
}

/// Whether all of `part` is in `whole`.
pub(super) fn is_subset(part: &Partitions, whole: &Partitions) -> bool {
    difference(part, whole).is_empty()
}

/// All of both.
pub(super) fn union(left: &Partitions, right: &Partitions) -> Partitions {
    let mut both = left.clone();
    for (topic, partitions) in right {
        both.entry(*topic).or_default().extend(partitions);
    }
    both
}

fn intersection(left: &Partitions, right: &Partitions) -> Partitions {
    let both = left
        .iter()
        .filter_map(|(topic, partitions)| Some((*topic, partitions & right.get(topic)?)));
    both.filter(|(_, partitions)| !partitions.is_empty()).collect()
}

fn difference(left: &Partitions, right: &Partitions) -> Partitions {
    let none = BTreeSet::new();
    let rest = left
        .iter()
        .map(|(topic, partitions)| (*topic, partitions - right.get(topic).unwrap_or(&none)));
    rest.filter(|(_, partitions)| !partitions.is_empty()).collect()
}
