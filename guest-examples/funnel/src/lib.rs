//! How far do visits come? Tumbling windows of event time over sessions: of each window and group, how many there were, how many events
//! they had, and how many of them took each step of a path, in its order.
//!
//! A window is sent once, when the watermark has passed its end, and forgotten. A session that comes after that is given up on as
//! `late`, so that what was sent never has to be corrected.
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_guest::prelude::*;

/// Name of the timer that closes a window.
const CLOSE: &str = "close";

/// What the manifest's `[config]` says.
struct Settings {
    output: String,
    window_ms: i64,
    /// JSON pointer to what sessions are grouped by; none is one group, "all".
    by: Option<String>,
    /// Labels in the order in which they should happen.
    steps: Vec<String>,
}

/// The numbers of one window and group.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Numbers {
    sessions: u64,
    events: u64,
    /// Sessions that took the first step, the first two, and so on.
    steps: Vec<u64>,
}

/// As it is sent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    /// Event time of its beginning, milliseconds.
    start: i64,
    group: String,
    #[serde(flatten)]
    numbers: Numbers,
}

/// A session as sessionize sends it; other fields may be grouped by.
#[derive(Deserialize)]
struct Session {
    count: u64,
    #[serde(default)]
    events: Vec<String>,
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        let window_ms = context::config_or("window-ms", 24 * 3_600_000)?;
        if window_ms < 1 {
            return Err(Error::fatal("[config] window-ms must be 1 or more"));
        }
        let steps = context::config("steps").unwrap_or_default();
        Ok(Settings {
            output: context::config_or("output", "funnel".to_owned())?,
            window_ms,
            by: context::config("by"),
            steps: steps
                .split('>')
                .map(|step| step.trim().to_owned())
                .filter(|step| !step.is_empty())
                .collect(),
        })
    }

    /// The group of a session.
    fn group(&self, session: &Value) -> String {
        let Some(pointer) = &self.by else {
            return "all".to_owned();
        };
        match session.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "?".to_owned(),
        }
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let windows = state::open("windows")?;
    for record in batch {
        let value: Value = record.json()?;
        let session = Session::deserialize(&value).map_err(|why| record.poison("no-session", why))?;
        let start = record.timestamp().div_euclid(settings.window_ms) * settings.window_ms;
        let end = start.saturating_add(settings.window_ms);
        if context::watermark().is_some_and(|watermark| end <= watermark) {
            batch.dead_letter(&record, "late", "its window is sent already")?;
            continue;
        }
        let key = key(start, &settings.group(&value));
        let mut numbers: Numbers = windows.get_json(&key)?.unwrap_or_default();
        numbers.add(&session, &settings.steps);
        windows.set_json(&key, &numbers)?;
        timers::event_time(CLOSE, start.to_be_bytes(), end)?;
    }
    Ok(Ack::All)
}

fn on_timers(due: &[Timer]) -> Result<(), Error> {
    let settings = Settings::read()?;
    let windows = state::open("windows")?;
    let mut out = Output::to(&settings.output);
    for timer in due {
        for entry in windows.prefix(&timer.key) {
            let (key, value) = entry?;
            let window = Window {
                start: timer.at.saturating_sub(settings.window_ms),
                group: String::from_utf8_lossy(&key[timer.key.len()..]).into_owned(),
                numbers: serde_json::from_slice(&value).map_err(Error::fatal)?,
            };
            let value = serde_json::to_vec(&window).map_err(Error::fatal)?;
            out.push(
                Message::new()
                    .key(Some(window.group.as_bytes()))
                    .value(Some(&value))
                    .timestamp(timer.at - 1),
            );
        }
        let mut end = timer.key.clone();
        end.push(u8::MAX);
        // Groups are UTF-8, which has no byte 0xff.
        windows.delete_range(&timer.key, &end)?;
    }
    context::count("windows", out.len() as u64);
    out.send()
}

tidemill_guest::module!(process, timers = on_timers);

/// Windows of one start stand together, so that one timer finds all its groups.
fn key(start: i64, group: &str) -> Vec<u8> {
    [&start.to_be_bytes()[..], group.as_bytes()].concat()
}

impl Numbers {
    fn add(&mut self, session: &Session, path: &[String]) {
        self.sessions += 1;
        self.events += session.count;
        self.steps.resize(path.len(), 0);
        let mut events = session.events.iter();
        for (step, count) in path.iter().zip(&mut self.steps) {
            // What happens between two steps does not matter, their order does.
            if !events.any(|event| event == step) {
                break;
            }
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    fn bench() -> Bench {
        Bench::new(process)
            .timers(on_timers)
            .max_out_of_order(1_000)
            .output("funnel")
            .bucket("windows")
            .config("steps", "logged in > opened messages > added a song to the playlist")
    }

    fn session(at: i64, events: &[&str]) -> Input {
        let value = serde_json::json!({ "key": "ann", "count": events.len(), "events": events, "country": "DE" });
        Input::new("sessions").key("ann").value(value.to_string()).at(at)
    }

    fn fired(bench: &mut Bench) -> Vec<Window> {
        let sent = bench.fire().unwrap().map(|outcome| outcome.sent).unwrap_or_default();
        sent.iter()
            .map(|s| serde_json::from_slice(s.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn a_window_is_sent_once_when_time_has_passed_it() {
        let mut bench = bench();
        let visits = [
            session(1, &["logged in", "deleted one", "opened messages", "logged out"]),
            session(DAY - 1, &["opened messages", "logged in"]),
            session(5, &["logged in", "opened messages", "added a song to the playlist"]),
            session(DAY, &["logged in"]),
        ];
        bench.run(&visits).unwrap();
        assert_eq!(fired(&mut bench), []);
        bench.watermark(DAY);
        let numbers = Numbers {
            sessions: 3,
            events: 9,
            steps: vec![3, 2, 1],
        };
        assert_eq!(
            fired(&mut bench),
            [Window {
                start: 0,
                group: "all".into(),
                numbers
            }]
        );
        assert_eq!(fired(&mut bench), []);
        let outcome = bench.run(&[session(3, &["logged in"])]).unwrap();
        assert_eq!(outcome.dead_letters.len(), 1, "late");
        bench.watermark(2 * DAY);
        assert_eq!(fired(&mut bench)[0].start, DAY);
        assert_eq!(bench.state("windows", &key(DAY, "all")), None);
    }

    #[test]
    fn groups_are_counted_apart() {
        let mut bench = bench().config("by", "/country").config("steps", "");
        bench.run(&[session(1, &["a"]), session(2, &["a", "b"])]).unwrap();
        bench.run(&[Input::new("sessions").value(r#"{"count": 7}"#)]).unwrap();
        bench.watermark(DAY);
        let groups: Vec<_> = fired(&mut bench)
            .into_iter()
            .map(|w| (w.group, w.numbers.sessions, w.numbers.events))
            .collect();
        assert_eq!(groups, [("?".to_owned(), 1, 7), ("DE".to_owned(), 2, 3)]);
    }

    #[test]
    fn what_is_no_session_is_poison() {
        let error = bench().run(&[Input::new("sessions").value("{}")]).unwrap_err();
        assert!(matches!(error, Error::Poison { code, .. } if code == "no-session"));
    }
}
