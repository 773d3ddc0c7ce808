//! Deadlines of groups and members: one for each (group, what for), to be set again at will.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A member has been silent for too long.
    Session(String),
    /// A KIP-848 member takes too long to give up partitions.
    Revocation(String),
    /// The members of a classic group have had their time to join.
    Join,
    /// The members of a classic group have had their time to sync.
    Sync,
    /// A proposal was refused: time to try again.
    Retry,
}

/// A wake-up later than this means that it was the node that slept or a clock that jumped, not that everybody fell silent.
const OVERSLEPT_MS: i64 = 5_000;

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    at: BTreeMap<(String, Alarm), i64>,
    queue: BTreeSet<(i64, String, Alarm)>,
}

impl Timers {
    /// Sets a deadline in place of the last one for the same thing.
    pub(super) fn set(&mut self, group: &str, alarm: Alarm, at: i64) {
        self.cancel(group, &alarm);
        self.at.insert((group.into(), alarm.clone()), at);
        self.queue.insert((at, group.into(), alarm));
    }

    /// Forgets a deadline.
    pub(super) fn cancel(&mut self, group: &str, alarm: &Alarm) {
        let key = (group.into(), alarm.clone());
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&(at, key.0, key.1));
        }
    }

    /// Forgets all deadlines of a group.
    pub(super) fn cancel_all(&mut self, group: &str) {
        let first = (String::from(group), Alarm::Session(String::new()));
        let keys: Vec<_> = self
            .at
            .range(first..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.0 == group)
            .collect();
        for (group, alarm) in keys {
            self.cancel(&group, &alarm);
        }
    }

    /// Whether a deadline is set.
    pub(super) fn is_set(&self, group: &str, alarm: &Alarm) -> bool {
        self.at.contains_key(&(group.into(), alarm.clone()))
    }

    /// The earliest.
    pub(super) fn next(&self) -> Option<i64> {
        self.queue.first().map(|(at, _, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn pop_due(&mut self, now: i64) -> Option<(String, Alarm)> {
        if now < self.next()? {
            return None;
        }
        let (_, group, alarm) = self.queue.pop_first()?;
        self.at.remove(&(group.clone(), alarm.clone()));
        Some((group, alarm))
    }

    /// Moves everything by as much as the node overslept, and a little more: members could not be heard meanwhile.
    pub(super) fn forgive_oversleep(&mut self, now: i64) {
        let Some(first) = self.next() else { return };
        let late = now - first;
        if late <= OVERSLEPT_MS {
            return;
        }
        let queue = core::mem::take(&mut self.queue);
        for (at, group, alarm) in queue {
            let at = at + late + OVERSLEPT_MS;
            self.at.insert((group.clone(), alarm.clone()), at);
            self.queue.insert((at, group, alarm));
        }
    }
}
