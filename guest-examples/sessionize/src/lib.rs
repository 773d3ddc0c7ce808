//! Sessions by key with an inactivity gap in event time.
//!
//! Events of a key that follow each other within the gap are one session. Open sessions are durable state. A session is closed, and sent
//! on, when the watermark says that no event can join it any more: events may come out of order, and two sessions become one when
//! a late event fills the pause between them. A tombstone for the key closes its sessions at once.
//!
//! Without `timed` in the manifest's `[config]` the key's own latest event takes the watermark's place: the event that comes after a
//! longer pause closes the session before it.
//!
//! An event whose session is closed already is given up on as `late`, so that every event is in exactly one session or one dead letter.
mod layout;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_guest::{prelude::*, timers::Clock};

/// Events listed in a session; later ones are only counted.
const EVENTS_MAX: usize = 1_000;
/// Name of the timer that closes a key's sessions.
const CLOSE: &str = "close";

/// Fields that a session has from its first event.
type Carried = BTreeMap<String, Value>;

/// A session that is still open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    /// Event time of the earliest and the latest event, milliseconds.
    start: i64,
    end: i64,
    count: u64,
    /// When, and what, in order of time.
    events: Vec<(i64, String)>,
    #[serde(default, skip_serializing_if = "Carried::is_empty")]
    carried: Carried,
}

/// A session as it is sent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    key: String,
    start: i64,
    end: i64,
    count: u64,
    /// What happened, in order of time.
    events: Vec<String>,
    #[serde(flatten)]
    carried: Carried,
}

/// What the manifest's `[config]` says.
struct Settings {
    output: String,
    /// Pause that ends a session, milliseconds.
    gap_ms: i64,
    /// Field of the event that names what happened.
    label: String,
    /// Fields of a session's first event that the session gets, too.
    carry: Vec<String>,
    /// Whether timers close sessions. The manifest must give event time then.
    timed: bool,
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        Ok(Settings {
            output: context::config_or("output", "sessions".to_owned())?,
            gap_ms: context::config_or("gap-ms", 30 * 60 * 1_000)?,
            label: context::config_or("label", "event".to_owned())?,
            carry: context::config("carry")
                .into_iter()
                .flat_map(|names| names.split(',').map(|n| n.trim().to_owned()).collect::<Vec<_>>())
                .collect(),
            timed: context::config_or("timed", false)?,
        })
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let mut task = Task::open(&settings)?;
    for record in batch {
        let key = record.key_str()?;
        let mut sessions = task.sessions(key)?;
        if record.value().is_none() {
            task.close(key, &mut sessions, i64::MAX)?;
            task.keep(key, &sessions)?;
            continue;
        }
        let event = settings.event(record.timestamp(), &record.json()?);
        let at = record.timestamp();
        let latest = sessions.last().map(|open| open.end.max(at));
        let horizon = if settings.timed { context::watermark() } else { latest };
        let horizon = horizon.unwrap_or(i64::MIN);
        join(&mut sessions, event, settings.gap_ms);
        if !settings.is_open(&sessions, at, horizon) {
            batch.dead_letter(&record, "late", "its session is closed already")?;
            continue;
        }
        task.close(key, &mut sessions, horizon)?;
        task.keep(key, &sessions)?;
    }
    task.finish()
}

fn on_timers(due: &[Timer]) -> Result<(), Error> {
    let settings = Settings::read()?;
    let mut task = Task::open(&settings)?;
    for timer in due {
        let key = std::str::from_utf8(&timer.key).map_err(Error::fatal)?;
        let mut sessions = task.sessions(key)?;
        task.close(
            key,
            &mut sessions,
            context::watermark().unwrap_or(timer.at).max(timer.at),
        )?;
        task.keep(key, &sessions)?;
    }
    task.finish().map(drop)
}

#[cfg(not(feature = "compact"))]
tidemill_guest::module!(process, timers = on_timers);
#[cfg(feature = "compact")]
tidemill_guest::module!(process, timers = on_timers, migrator = layout::Compact);

impl Settings {
    /// A session of one event.
    fn event(&self, at: i64, event: &Value) -> Open {
        let label = event[self.label.as_str()].as_str().unwrap_or("?").to_owned();
        let carry = |name: &String| Some((name.clone(), event.get(name)?.clone()));
        Open {
            start: at,
            end: at,
            count: 1,
            events: vec![(at, label)],
            carried: self.carry.iter().filter_map(carry).collect(),
        }
    }

    /// Whether the session that an event at this time belongs to can still take events.
    fn is_open(&self, sessions: &[Open], at: i64, horizon: i64) -> bool {
        let own = sessions.iter().find(|open| open.start <= at && at <= open.end);
        own.is_some_and(|open| horizon <= open.end.saturating_add(self.gap_ms))
    }
}

/// The task's open sessions, and what one call sends.
struct Task<'s> {
    settings: &'s Settings,
    open: Bucket,
    out: Output,
}

impl Task<'_> {
    fn open(settings: &Settings) -> Result<Task<'_>, Error> {
        Ok(Task {
            settings,
            open: state::open("open")?,
            out: Output::to(&settings.output),
        })
    }

    fn sessions(&self, key: &str) -> Result<Vec<Open>, Error> {
        layout::read(&self.open, key.as_bytes())
    }

    /// Sends the sessions that ended more than a gap before the horizon.
    fn close(&mut self, key: &str, sessions: &mut Vec<Open>, horizon: i64) -> Result<(), Error> {
        let gap_ms = self.settings.gap_ms;
        let closed = sessions
            .iter()
            .take_while(|open| open.end.saturating_add(gap_ms) < horizon)
            .count();
        for open in sessions.drain(..closed) {
            let (start, end, count) = (open.start, open.end, open.count);
            let events = open.events.into_iter().map(|(_, label)| label).collect();
            let session = Session {
                key: key.to_owned(),
                start,
                end,
                count,
                events,
                carried: open.carried,
            };
            let value = serde_json::to_vec(&session).map_err(Error::fatal)?;
            // Downstream, a session happened when it ended.
            self.out.push(
                Message::new()
                    .key(Some(key.as_bytes()))
                    .value(Some(&value))
                    .timestamp(end),
            );
        }
        Ok(())
    }

    /// Writes what is still open, and sets the timer for when the first of it may be closed.
    fn keep(&self, key: &str, sessions: &[Open]) -> Result<(), Error> {
        let Some(first) = sessions.first() else {
            if self.settings.timed {
                timers::cancel(Clock::EventTime, CLOSE, key)?;
            }
            return self.open.delete(key.as_bytes());
        };
        if self.settings.timed {
            timers::event_time(CLOSE, key, first.end.saturating_add(self.settings.gap_ms + 1))?;
        }
        layout::write(&self.open, key.as_bytes(), sessions)
    }

    fn finish(self) -> Result<Ack, Error> {
        context::count("sessions", self.out.len() as u64);
        self.out.send()?;
        Ok(Ack::All)
    }
}

/// Adds an event to the sessions of a key, which are in order of time and more than a gap apart; those that it connects become one.
fn join(sessions: &mut Vec<Open>, event: Open, gap_ms: i64) {
    let at = event.start;
    let first = sessions.partition_point(|open| open.end.saturating_add(gap_ms) < at);
    let near = sessions[first..]
        .iter()
        .take_while(|open| open.start.saturating_sub(gap_ms) <= at);
    let range = first..first + near.count();
    let joined = sessions.drain(range).fold(event, Open::with);
    sessions.insert(first, joined);
}

impl Open {
    /// Two sessions as one. Of events at the same time, those of `earlier` arrived before.
    fn with(self, earlier: Open) -> Open {
        let mut events = earlier.events;
        for (at, label) in self.events {
            let place = events.partition_point(|(before, _)| *before <= at);
            events.insert(place, (at, label));
        }
        events.truncate(EVENTS_MAX);
        Open {
            start: self.start.min(earlier.start),
            end: self.end.max(earlier.end),
            count: self.count + earlier.count,
            events,
            carried: if self.start < earlier.start {
                self.carried
            } else {
                earlier.carried
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input, Outcome};

    use super::*;

    const MINUTE: i64 = 60_000;

    fn bench() -> Bench {
        Bench::new(process)
            .timers(on_timers)
            .max_out_of_order(20 * MINUTE)
            .output("sessions")
            .bucket("open")
            .config("gap-ms", &(30 * MINUTE).to_string())
            .config("timed", "true")
    }

    fn untimed() -> Bench {
        Bench::new(process)
            .output("sessions")
            .bucket("open")
            .config("gap-ms", &(30 * MINUTE).to_string())
    }

    fn event(key: &str, minute: i64, label: &str) -> Input {
        Input::new("clicks")
            .key(key)
            .value(format!(r#"{{"event":"{label}"}}"#))
            .at(minute * MINUTE)
    }

    fn sessions(outcome: &Outcome) -> Vec<Session> {
        let session = |value: &Vec<u8>| serde_json::from_slice(value).unwrap();
        outcome
            .sent
            .iter()
            .map(|s| session(s.value.as_ref().unwrap()))
            .collect()
    }

    fn fired(bench: &mut Bench) -> Vec<Session> {
        bench
            .fire()
            .unwrap()
            .map(|outcome| sessions(&outcome))
            .unwrap_or_default()
    }

    #[test]
    fn a_visit_is_sent_when_time_has_passed_it_and_nothing_else_comes() {
        let mut bench = bench();
        bench
            .run(&[event("ann", 0, "logged in"), event("ann", 30, "opened messages")])
            .unwrap();
        bench.run(&[event("bob", 80, "logged in")]).unwrap();
        assert_eq!(
            fired(&mut bench),
            [],
            "the watermark is at 60, and an event at 60 would still join"
        );
        bench.run(&[event("bob", 81, "opened messages")]).unwrap();
        let closed = fired(&mut bench);
        assert_eq!((closed.len(), closed[0].key.as_str(), closed[0].count), (1, "ann", 2));
        assert_eq!((closed[0].start, closed[0].end), (0, 30 * MINUTE));
        assert_eq!(closed[0].events, ["logged in", "opened messages"]);
        assert_eq!(bench.state("open", b"ann"), None);
    }

    #[test]
    fn events_out_of_order_are_put_in_order_and_connect_sessions() {
        let mut bench = bench();
        bench.run(&[event("ann", 40, "c"), event("ann", 0, "a")]).unwrap();
        bench.run(&[event("ann", 21, "b")]).unwrap();
        bench.watermark(1_000 * MINUTE);
        let closed = fired(&mut bench);
        assert_eq!(
            (closed.len(), closed[0].count),
            (1, 3),
            "the pause of 40 minutes was filled"
        );
        assert_eq!(closed[0].events, ["a", "b", "c"]);
    }

    #[test]
    fn an_event_of_a_closed_session_is_late_and_one_of_an_open_session_is_not() {
        let mut bench = bench();
        bench.run(&[event("bob", 100, "x")]).unwrap();
        let outcome = bench
            .run(&[event("ann", 51, "in time"), event("ann", 10, "late")])
            .unwrap();
        let late = [(1, "late".to_owned(), "its session is closed already".to_owned())];
        assert_eq!(
            outcome.dead_letters, late,
            "the watermark is at 80; the first could still be joined, the second not"
        );
        let outcome = bench.run(&[event("ann", 22, "joins")]).unwrap();
        assert_eq!(outcome.dead_letters, [], "late by itself, but its session is open");
    }

    #[test]
    fn a_tombstone_closes_at_once_and_keys_do_not_mix() {
        let mut bench = bench();
        let inputs = [
            event("ann", 0, "a"),
            event("bob", 1, "b"),
            Input::new("clicks").key("ann"),
        ];
        let closed = sessions(&bench.run(&inputs).unwrap());
        assert_eq!(closed.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["ann"]);
        assert_eq!(bench.state("open", b"ann"), None);
        assert_eq!(bench.timer(Clock::EventTime, CLOSE, "ann"), None);
        assert!(bench.state("open", b"bob").is_some());
    }

    #[test]
    fn without_event_time_the_next_event_closes() {
        let mut bench = untimed();
        assert_eq!(
            bench.run(&[event("ann", 0, "a"), event("ann", 30, "b")]).unwrap().sent,
            []
        );
        let outcome = bench
            .run(&[event("ann", 61, "c"), event("ann", 20, "late"), event("ann", 40, "d")])
            .unwrap();
        let closed = sessions(&outcome);
        assert_eq!((closed.len(), closed[0].count), (1, 2));
        assert_eq!(outcome.dead_letters.len(), 1);
        let rest = sessions(&bench.run(&[Input::new("clicks").key("ann")]).unwrap());
        assert_eq!(
            (rest[0].start, rest[0].count),
            (40 * MINUTE, 2),
            "out of order, but within the gap"
        );
    }

    #[test]
    fn a_session_carries_fields_of_its_first_event() {
        let from = |minute: i64, country: &str| {
            let value = serde_json::json!({ "event": "e", "country": country });
            Input::new("clicks")
                .key("ann")
                .value(value.to_string())
                .at(minute * MINUTE)
        };
        let mut bench = bench().config("carry", "country, device");
        bench.run(&[from(5, "FR"), from(0, "DE"), from(9, "IT")]).unwrap();
        let closed = sessions(&bench.run(&[Input::new("clicks").key("ann")]).unwrap());
        assert_eq!(closed[0].carried, Carried::from([("country".to_owned(), "DE".into())]));
    }

    #[cfg(feature = "compact")]
    #[test]
    fn sessions_of_the_first_layout_go_on_in_the_second() {
        let mut bench = bench().config("migrate-keys", "2");
        let stored = |minute: i64| {
            let at = minute * MINUTE;
            format!(r#"[{{"start":{at},"end":{at},"count":1,"events":[[{at},"first"]],"carried":{{"a":"b"}}}}]"#)
        };
        for n in 0..5 {
            bench.set_state("open", format!("user{n}").as_bytes(), stored(n).as_bytes());
        }
        assert!(bench.migrate::<layout::Compact>(7).is_err());
        assert_eq!(bench.migrate::<layout::Compact>(0), Ok(3));
        let listed = bench.state("open", b"user1").unwrap();
        assert_eq!(listed, br#"[[60000,60000,1,[[60000,"first"]],{"a":"b"}]]"#);
        bench.run(&[event("user4", 6, "second")]).unwrap();
        let closed = sessions(&bench.run(&[Input::new("clicks").key("user4")]).unwrap());
        assert_eq!((closed[0].start, closed[0].count), (4 * MINUTE, 2));
        assert_eq!(closed[0].events, ["first", "second"]);
        assert_eq!(closed[0].carried, Carried::from([("a".to_owned(), "b".into())]));
    }

    #[test]
    fn a_record_without_a_key_is_poison() {
        let error = bench().run(&[Input::new("clicks").value("{}")]).unwrap_err();
        assert!(matches!(error, Error::Poison { index: 0, code, .. } if code == "no-key"));
    }
}
