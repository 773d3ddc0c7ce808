//! Event time of a task: how far each of its inputs has come by the timestamps of its records, and the watermark that follows.
//!
//! An input is at its largest timestamp, less `max-out-of-order`. The watermark is where the last of the inputs is, and never goes
//! back. An input that is read to its end and had no record for `idle-after` is left out; when all of them are idle, the one that came
//! furthest counts: nothing that is known can still hold the others up. It never runs ahead of the records: without them, time stands
//! still. What is counted is durable with each commit; since when an input is silent is not, and begins anew with each owner.
use alloc::{collections::BTreeMap, vec::Vec};
use tidemill_protocol::{ids::Uuid, manifest::Input};

use crate::stored;

stored! {
    /// What is kept of a task's event time.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct EventTimes {
        /// Records below are late.
        pub watermark: Option<i64>,
        /// The largest timestamp by input topic.
        pub latest: BTreeMap<Uuid, i64>,
    }
}

impl EventTimes {
    /// Takes in what a commit says. Nothing goes back.
    pub(super) fn advance(&mut self, to: &EventTimes) {
        self.watermark = self.watermark.max(to.watermark);
        for (topic, at) in &to.latest {
            let latest = self.latest.entry(*topic).or_insert(*at);
            *latest = (*latest).max(*at);
        }
    }
}

/// One input as the watermark sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its largest timestamp.
    pub(super) latest: Option<i64>,
    /// When it last had a record, or was not yet read to its end.
    pub(super) heard: i64,
    /// `max-out-of-order`.
    pub(super) late_ms: i64,
    /// `idle-after`.
    pub(super) idle_ms: i64,
}

impl Seen {
    /// Nothing yet.
    pub(super) fn new(input: &Input) -> Self {
        let (latest, heard, late_ms, idle_ms) = (None, 0, 0, 0);
        let mut seen = Self {
            latest,
            heard,
            late_ms,
            idle_ms,
        };
        seen.follow(input);
        seen
    }

    /// Takes over what the manifest says, which may be another version's.
    pub(super) fn follow(&mut self, input: &Input) {
        self.late_ms = input.max_out_of_order.unwrap_or_default().as_millis_i64();
        self.idle_ms = input.idle_after().as_millis_i64();
    }

    fn is_idle(&self, now: i64) -> bool {
        self.idle_at() <= now
    }

    /// When it counts as idle if nothing comes.
    pub(super) fn idle_at(&self) -> i64 {
        self.heard.saturating_add(self.idle_ms)
    }

    fn reached(&self) -> Option<i64> {
        Some(self.latest?.saturating_sub(self.late_ms))
    }
}

/// Where the watermark is now, if it was at `before`.
pub(super) fn watermark(before: Option<i64>, inputs: &[Seen], now: i64) -> Option<i64> {
    let busy: Vec<_> = inputs.iter().filter(|input| !input.is_idle(now)).collect();
    let reached = if busy.is_empty() {
        inputs.iter().filter_map(Seen::reached).max()
    } else {
        // One that has had no record yet may still have any.
        let slowest = busy.iter().map(|input| input.reached()).min();
        slowest.flatten()
    };
    before.max(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(latest: Option<i64>, heard: i64) -> Seen {
        Seen {
            latest,
            heard,
            late_ms: 10,
            idle_ms: 100,
        }
    }

    #[test]
    fn the_slowest_input_that_is_not_idle_decides() {
        assert_eq!(watermark(None, &[seen(Some(500), 0)], 50), Some(490));
        assert_eq!(
            watermark(None, &[seen(Some(500), 0), seen(Some(300), 0)], 50),
            Some(290)
        );
        assert_eq!(watermark(None, &[seen(Some(500), 0), seen(None, 0)], 50), None);
        assert_eq!(watermark(None, &[seen(Some(500), 50), seen(None, 0)], 100), Some(490));
        assert_eq!(
            watermark(None, &[seen(Some(500), 0), seen(Some(300), 0)], 100),
            Some(490)
        );
        assert_eq!(watermark(None, &[seen(None, 0)], 100), None);
    }

    #[test]
    fn it_never_goes_back() {
        assert_eq!(watermark(Some(400), &[seen(Some(300), 0)], 0), Some(400));
        assert_eq!(watermark(Some(400), &[seen(None, 0)], 0), Some(400));
    }
}
