//! Mobile clients send twice: they lose the answer in a tunnel and send again, from a queue that survived a restart, an hour later.
//! An idempotent producer cannot know that, because the second time is another session; the event's own id does.
//!
//! The first record of an id passes, later ones within the window are left out. Ids are durable state, and commit with the records
//! that passed: after a crash no id is remembered whose record did not pass, and none has passed that is not remembered.
use serde_json::Value;
use tidemill_guest::prelude::*;

/// Bytes of an id. Longer ones are no ids, and state is not the place for them.
const ID_BYTES_MAX: usize = 256;

/// What the manifest's `[config]` says.
struct Settings {
    output: String,
    id: Place,
    /// How long an id is remembered, in event time, milliseconds.
    window_ms: i64,
}

/// Where an event's id is.
enum Place {
    Key,
    Header(String),
    /// A JSON pointer (RFC 6901) into the value.
    Pointer(String),
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        let id = match context::config_or("id", "key".to_owned())? {
            key if key == "key" => Place::Key,
            pointer if pointer.starts_with('/') => Place::Pointer(pointer),
            other => match other.strip_prefix("header:") {
                Some(name) => Place::Header(name.to_owned()),
                None => {
                    return Err(Error::fatal(
                        "[config] id is `key`, `header:NAME`, or a JSON pointer such as `/id`",
                    ));
                }
            },
        };
        Ok(Settings {
            output: context::config_or("output", "events.once".to_owned())?,
            id,
            window_ms: context::config_or("window-ms", 24 * 3_600_000)?,
        })
    }
}

impl Place {
    /// The id of a record, or why it has none.
    fn of(&self, record: &Record) -> Result<Vec<u8>, &'static str> {
        let id = match self {
            Place::Key => record.key().map(<[u8]>::to_vec),
            Place::Header(name) => record
                .headers()
                .into_iter()
                .find(|h| h.name == *name)
                .and_then(|h| h.value),
            Place::Pointer(pointer) => {
                let event: Value =
                    serde_json::from_slice(record.value().unwrap_or_default()).map_err(|_| "the value is not JSON")?;
                match event.pointer(pointer) {
                    Some(Value::String(id)) => Some(id.clone().into_bytes()),
                    Some(Value::Number(id)) => Some(id.to_string().into_bytes()),
                    _ => None,
                }
            }
        };
        match id {
            None => Err("there is none"),
            Some(id) if id.is_empty() => Err("it is empty"),
            Some(id) if ID_BYTES_MAX < id.len() => Err("it is longer than 256 bytes"),
            Some(id) => Ok(id),
        }
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let seen = state::open("seen")?;
    let keys_only;
    // Values do not enter the guest unless the id is in them.
    let looked_at = match settings.id {
        Place::Pointer(_) => batch,
        Place::Key | Place::Header(_) => {
            keys_only = batch.keys_only();
            &keys_only
        }
    };
    let mut first = Vec::with_capacity(batch.len() as usize);
    let mut repeated = 0;
    for record in looked_at {
        let id = match settings.id.of(&record) {
            Ok(id) => id,
            Err(why) => {
                batch.dead_letter(&record, "no-id", &format!("no id in the record: {why}"))?;
                continue;
            }
        };
        let before = seen
            .get(&id)?
            .and_then(|at| Some(i64::from_le_bytes(at.try_into().ok()?)));
        if before.is_some_and(|before| record.timestamp().abs_diff(before) <= settings.window_ms.unsigned_abs()) {
            repeated += 1;
            continue;
        }
        seen.set(&id, &record.timestamp().to_le_bytes())?;
        first.push(record.index());
    }
    batch.forward(&settings.output, &first)?;
    context::count("repeated", repeated);
    Ok(Ack::All)
}

tidemill_guest::module!(process);

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn bench(id: &str) -> Bench {
        Bench::new(process)
            .output("events.once")
            .bucket("seen")
            .config("id", id)
    }

    fn values(bench: &mut Bench, inputs: &[Input]) -> Vec<String> {
        let sent = bench.run(inputs).unwrap().sent;
        sent.into_iter()
            .map(|s| String::from_utf8(s.value.unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn the_first_of_an_id_passes_within_a_batch_and_over_batches() {
        let event = |id: &str, value: &str| Input::new("events").header("event-id", id.as_bytes()).value(value);
        let mut bench = bench("header:event-id");
        assert_eq!(
            values(&mut bench, &[event("1", "a"), event("1", "b"), event("2", "c")]),
            ["a", "c"]
        );
        assert_eq!(values(&mut bench, &[event("2", "d"), event("3", "e")]), ["e"]);
        assert_eq!(bench.counter("repeated"), 2);
    }

    #[test]
    fn after_the_window_an_id_is_new_again() {
        let event = |hour: i64| Input::new("events").key("k").value(hour.to_string()).at(hour * HOUR);
        let mut bench = bench("key");
        assert_eq!(
            values(&mut bench, &[event(0), event(24), event(25), event(26)]),
            ["0", "25"]
        );
        assert_eq!(
            values(&mut bench, &[event(2), event(30)]),
            Vec::<String>::new(),
            "late, or too soon"
        );
    }

    #[test]
    fn an_id_may_be_a_field_of_the_value() {
        let event = |value: &str| Input::new("events").value(value);
        let inputs = [
            event(r#"{"m":{"id":7},"n":1}"#),
            event(r#"{"m":{"id":"7"},"n":2}"#),
            event(r#"{"m":{"id":8},"n":3}"#),
        ];
        assert_eq!(values(&mut bench("/m/id"), &inputs).len(), 2);
    }

    #[test]
    fn a_record_without_an_id_is_given_up() {
        let mut bench = bench("/id");
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(257));
        let inputs = ["{}", r#"{"id":""}"#, "nonsense", &long].map(|value| Input::new("events").value(value));
        let outcome = bench.run(&inputs).unwrap();
        assert_eq!(outcome.dead_letters.len(), 4);
        assert!(outcome.dead_letters.iter().all(|(_, code, _)| code == "no-id"));
        assert_eq!(outcome.sent, []);
    }
}
