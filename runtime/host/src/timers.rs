//! Timers of a task: set and cancelled in the overlay of their bucket, taken out of it when they fire.
use bytes::Bytes;
use tidemill_broker::module::{
    run::{Due, StateReader, TaskKey},
    timer_row::{self, Id},
};
use tidemill_protocol::manifest::Clock;

use crate::{
    limits,
    overlay::{Committed, KeyRange, Overlay, Quota, Refused},
};

/// A timer that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Firing {
    /// By which clock.
    pub(crate) clock: Clock,
    /// Name.
    pub(crate) name: String,
    /// Key.
    pub(crate) key: Vec<u8>,
    /// When it was due.
    pub(crate) at: i64,
    /// What was set with it.
    pub(crate) payload: Bytes,
}

impl Firing {
    fn id(&self) -> Id<'_> {
        Id {
            clock: self.clock,
            name: &self.name,
            key: &self.key,
        }
    }
}

/// The bucket of a task's timers.
pub(crate) fn committed<'a>(reader: &'a dyn StateReader, task: &'a TaskKey) -> Committed<'a> {
    Committed {
        reader,
        task,
        bucket: timer_row::ROWS,
    }
}

/// Sets a timer; one that is set is moved.
pub(crate) fn set(
    timers: &mut Overlay,
    committed: Committed<'_>,
    (id, at): (Id<'_>, i64),
    payload: Vec<u8>,
    quota: &mut Quota,
) -> Result<(), Refused> {
    let row = id.row();
    if let Some(before) = moment(timers.get(committed, &row)) {
        timers.write(committed, id.due_row(before), None, quota)?;
    }
    timers.write(committed, row, Some(Bytes::copy_from_slice(&at.to_be_bytes())), quota)?;
    timers.write(committed, id.due_row(at), Some(payload.into()), quota)
}

/// Takes a timer back; whether it was set.
pub(crate) fn cancel(
    timers: &mut Overlay,
    committed: Committed<'_>,
    id: Id<'_>,
    quota: &mut Quota,
) -> Result<bool, Refused> {
    let row = id.row();
    let Some(at) = moment(timers.get(committed, &row)) else {
        return Ok(false);
    };
    timers.write(committed, row, None, quota)?;
    timers.write(committed, id.due_row(at), None, quota)?;
    Ok(true)
}

/// Timers that are due, in order of time: those of event time up to the watermark, then those of the clock up to now.
pub(crate) fn due(committed: Committed<'_>, watermark: Option<i64>, now: i64, most: usize) -> Vec<Firing> {
    let mut due = Vec::new();
    let mut bytes = 0;
    for (clock, until) in [(Clock::EventTime, watermark), (Clock::WallClock, Some(now))] {
        let Some(until) = until else { continue };
        let (start, end) = timer_row::due(clock, until);
        for (row, payload) in committed.rows(&start, &end, most - due.len()) {
            let Some((id, at)) = timer_row::decode_due(&row) else {
                continue;
            };
            bytes += row.len() + payload.len();
            if limits::TIMER_BYTES_MAX < bytes && !due.is_empty() {
                return due;
            }
            due.push(Firing {
                clock,
                name: id.name.to_owned(),
                key: id.key.to_vec(),
                at,
                payload,
            });
        }
    }
    due
}

/// Removes the timers that fire, before the guest sets others.
pub(crate) fn remove(
    timers: &mut Overlay,
    committed: Committed<'_>,
    firing: &[Firing],
    quota: &mut Quota,
) -> Result<(), Refused> {
    for timer in firing {
        let id = timer.id();
        timers.write(committed, id.row(), None, quota)?;
        timers.write(committed, id.due_row(timer.at), None, quota)?;
    }
    Ok(())
}

/// When the first timer of each clock is due.
pub(crate) fn first_due(timers: &Overlay, committed: Committed<'_>) -> Due {
    let first = |clock| {
        let (start, end) = timer_row::due(clock, i64::MAX);
        let range = KeyRange {
            start,
            end,
            reverse: false,
        };
        let page = timers.scan(committed, &range, 1, 0);
        page.entries
            .first()
            .and_then(|(row, _)| Some(timer_row::decode_due(row)?.1))
    };
    Due {
        event_time: first(Clock::EventTime),
        wall_clock: first(Clock::WallClock),
    }
}

fn moment(row: Option<Bytes>) -> Option<i64> {
    Some(i64::from_be_bytes(row?.as_ref().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tidemill_broker::module::view::ViewId;

    use super::*;

    struct Nothing;

    impl StateReader for Nothing {
        fn get(&self, _: &TaskKey, _: &str, _: &[u8]) -> Option<Bytes> {
            None
        }

        fn scan(&self, _: tidemill_broker::module::run::StateScan<'_>) -> Vec<(Bytes, Bytes)> {
            Vec::new()
        }

        fn look_up(&self, _: ViewId, _: &[u8]) -> Option<Bytes> {
            None
        }

        fn rows(&self, _: &TaskKey, _: &[u8], _: usize) -> Vec<(Bytes, Bytes)> {
            Vec::new()
        }
    }

    #[test]
    fn a_timer_set_again_moves_and_one_cancelled_is_gone() {
        let task = TaskKey {
            module: "m".into(),
            deployment: 1,
            number: 0,
        };
        let committed = committed(&Nothing, &task);
        let mut quota = Quota {
            max: 1 << 20,
            state_max: 1 << 20,
            ..Quota::default()
        };
        let mut timers = Overlay::default();
        let id = |key| Id {
            clock: Clock::EventTime,
            name: "gap",
            key,
        };
        for (key, at) in [(&b"a"[..], 50), (b"b", 40), (b"a", 30), (b"a", 60)] {
            set(&mut timers, committed, (id(key), at), vec![1; 9], &mut quota).unwrap();
        }
        assert_eq!(first_due(&timers, committed).event_time, Some(40));
        assert_eq!(cancel(&mut timers, committed, id(b"b"), &mut quota), Ok(true));
        assert_eq!(cancel(&mut timers, committed, id(b"b"), &mut quota), Ok(false));
        let due = first_due(&timers, committed);
        assert_eq!((due.event_time, due.wall_clock), (Some(60), None));
        assert_eq!(cancel(&mut timers, committed, id(b"a"), &mut quota), Ok(true));
        assert_eq!((first_due(&timers, committed), quota.growth), (Due::default(), 0));
    }
}
