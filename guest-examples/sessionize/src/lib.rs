//! Sessions by key with an inactivity gap in event time.
//!
//! Events of a key that follow each other within the gap are one session. The event that comes after a longer pause closes the
//! session, which is sent on, and opens the next; a tombstone for the key closes it at once. The open session of each key is durable
//! state: it survives restarts and commits with the offsets, so that every event is in exactly one session.
//!
//! An event that is late still joins the open session if it is at most a gap older than its start; an older one would belong to a
//! session that is closed already, and is given up on as `late`.
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_guest::prelude::*;

/// Events listed in a session; later ones are only counted.
const EVENTS_MAX: usize = 1_000;

/// A session, open in state or closed in the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    key: String,
    /// Event time of the earliest and the latest event, milliseconds.
    start: i64,
    end: i64,
    count: u64,
    /// What happened, in order of arrival.
    events: Vec<String>,
}

/// What the manifest's `[config]` says.
struct Settings {
    output: String,
    /// Pause that ends a session, milliseconds.
    gap_ms: i64,
    /// Field of the event that names what happened.
    label: String,
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        Ok(Settings {
            output: context::config_or("output", "sessions".to_owned())?,
            gap_ms: context::config_or("gap-ms", 30 * 60 * 1_000)?,
            label: context::config_or("label", "event".to_owned())?,
        })
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let open = state::open("open")?;
    let mut out = Output::to(&settings.output);
    for record in batch {
        let key = record.key_str()?;
        let current: Option<Session> = open.get_json(key.as_bytes())?;
        let (closed, next) = match record.value() {
            None => (current, None),
            Some(_) => {
                let event: Value = record.json()?;
                let label = event[settings.label.as_str()].as_str().unwrap_or("?").to_owned();
                match step(current, key, record.timestamp(), label, settings.gap_ms) {
                    Some((closed, next)) => (closed, Some(next)),
                    None => {
                        batch.dead_letter(&record, "late", "its session is closed already")?;
                        continue;
                    }
                }
            }
        };
        if let Some(session) = closed {
            out.push_json(Some(key.as_bytes()), &session)?;
        }
        match next {
            Some(session) => open.set_json(key.as_bytes(), &session)?,
            None => open.delete(key.as_bytes())?,
        }
    }
    context::count("sessions", out.len() as u64);
    out.send()?;
    Ok(Ack::All)
}

tidemill_guest::module!(process);

/// One event: the session that it closes, if any, and the one that is open after it. `None` if it comes too late for both.
fn step(open: Option<Session>, key: &str, at: i64, label: String, gap_ms: i64) -> Option<(Option<Session>, Session)> {
    let fresh = |label| Session {
        key: key.to_owned(),
        start: at,
        end: at,
        count: 1,
        events: vec![label],
    };
    match open {
        None => Some((None, fresh(label))),
        Some(session) if session.end.saturating_add(gap_ms) < at => Some((Some(session), fresh(label))),
        Some(session) if at.saturating_add(gap_ms) < session.start => None,
        Some(mut session) => {
            (session.start, session.end) = (session.start.min(at), session.end.max(at));
            session.count += 1;
            if session.events.len() < EVENTS_MAX {
                session.events.push(label);
            }
            Some((None, session))
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
        outcome
            .sent
            .iter()
            .map(|s| serde_json::from_slice(s.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn a_pause_longer_than_the_gap_closes_the_session() {
        let mut bench = bench();
        let first = bench
            .run(&[event("ann", 0, "logged in"), event("ann", 30, "opened messages")])
            .unwrap();
        assert_eq!(first.sent, []);
        let second = bench.run(&[event("ann", 61, "logged in")]).unwrap();
        let visit = &sessions(&second)[0];
        assert_eq!((visit.start, visit.end, visit.count), (0, 30 * MINUTE, 2));
        assert_eq!(visit.events, ["logged in", "opened messages"]);
    }

    #[test]
    fn keys_do_not_mix_and_a_tombstone_closes() {
        let mut bench = bench();
        let inputs = [
            event("ann", 0, "a"),
            event("bob", 1, "b"),
            Input::new("clicks").key("ann"),
        ];
        let closed = sessions(&bench.run(&inputs).unwrap());
        assert_eq!(closed.iter().map(|s| s.key.as_str()).collect::<Vec<_>>(), ["ann"]);
        assert_eq!(bench.state("open", b"ann"), None);
        assert!(bench.state("open", b"bob").is_some());
    }

    #[test]
    fn an_event_out_of_order_joins_the_open_session() {
        let mut bench = bench();
        let inputs = [
            event("ann", 40, "b"),
            event("ann", 20, "a"),
            Input::new("clicks").key("ann"),
        ];
        let closed = &sessions(&bench.run(&inputs).unwrap())[0];
        assert_eq!((closed.start, closed.end, closed.count), (20 * MINUTE, 40 * MINUTE, 2));
    }

    #[test]
    fn an_event_older_than_the_open_session_by_a_gap_is_late() {
        let mut bench = bench();
        let outcome = bench.run(&[event("ann", 100, "b"), event("ann", 10, "a")]).unwrap();
        assert_eq!(
            outcome.dead_letters,
            [(1, "late".to_owned(), "its session is closed already".to_owned())]
        );
    }

    #[test]
    fn a_record_without_a_key_is_poison() {
        let error = bench().run(&[Input::new("clicks").value("{}")]).unwrap_err();
        assert!(matches!(error, Error::Poison { index: 0, code, .. } if code == "no-key"));
    }
}
