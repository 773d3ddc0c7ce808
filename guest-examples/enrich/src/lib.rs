//! A join with a compacted topic: each event gets what is known of the thing that its key names.
//!
//! The facts are an input like the events: partition *n* of both is one task, which keeps the last fact of each key as its state. So an
//! event sees exactly the facts that were read before it, and sees the same ones when the batch is run again after a crash.
use serde_json::{Map, Value};
use tidemill_guest::prelude::*;

/// What the manifest's `[config]` says.
struct Settings {
    facts: String,
    output: String,
    /// Field that the facts are put into.
    into: String,
    /// Whether an event that nothing is known of is given up, instead of passing as it is.
    required: bool,
}

impl Settings {
    fn read() -> Result<Settings, Error> {
        let needed = |key: &str| context::config(key).ok_or_else(|| Error::fatal(format!("[config] {key} is missing")));
        Ok(Settings {
            facts: needed("facts")?,
            output: needed("output")?,
            into: needed("into")?,
            required: context::config_or("required", false)?,
        })
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let facts = state::open("facts")?;
    let mut out = Output::to(&settings.output);
    let mut unknown = 0;
    for record in batch {
        let Some(key) = record.key() else {
            batch.dead_letter(&record, "no-key", "the record has no key")?;
            continue;
        };
        if record.source().topic == settings.facts {
            match record.value() {
                Some(fact) => facts.set(key, fact)?,
                None => facts.delete(key)?,
            }
            continue;
        }
        let mut event: Map<String, Value> = record.json()?;
        match facts.get(key)? {
            Some(fact) => {
                // A fact that is not JSON is told where it is used: the event is not to blame, but it cannot go on.
                let fact = serde_json::from_slice(&fact).map_err(|why| record.poison("bad-fact", why))?;
                event.insert(settings.into.clone(), fact);
            }
            None if settings.required => {
                batch.dead_letter(&record, "unknown", "nothing is known of its key")?;
                continue;
            }
            None => unknown += 1,
        }
        let value = serde_json::to_vec(&event).map_err(Error::fatal)?;
        out.push(
            Message::new()
                .key(Some(key))
                .value(Some(&value))
                .timestamp(record.timestamp()),
        );
    }
    context::count("unknown", unknown);
    out.send()?;
    Ok(Ack::All)
}

tidemill_guest::module!(process);

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    fn bench() -> Bench {
        Bench::new(process)
            .output("flights.enriched")
            .bucket("facts")
            .config("facts", "planes")
            .config("output", "flights.enriched")
            .config("into", "plane")
    }

    fn plane(tail: &str, value: Option<&str>) -> Input {
        let input = Input::new("planes").key(tail);
        value.map_or(input.clone(), |value| input.value(value))
    }

    fn flight(tail: &str) -> Input {
        Input::new("flights").key(tail).value(r#"{"from":"EWR"}"#)
    }

    fn values(bench: &mut Bench, inputs: &[Input]) -> Vec<Value> {
        let sent = bench.run(inputs).unwrap().sent;
        sent.iter()
            .map(|s| serde_json::from_slice(s.value.as_ref().unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn an_event_sees_the_facts_that_were_read_before_it() {
        let mut bench = bench();
        let before = [
            flight("N1"),
            plane("N1", Some(r#"{"seats":55}"#)),
            flight("N1"),
            flight("N2"),
        ];
        let known = serde_json::json!({ "from": "EWR", "plane": { "seats": 55 } });
        let bare = serde_json::json!({ "from": "EWR" });
        assert_eq!(values(&mut bench, &before), [bare.clone(), known, bare.clone()]);
        assert_eq!(bench.counter("unknown"), 2);
        let after = [
            plane("N1", Some(r#"{"seats":182}"#)),
            flight("N1"),
            plane("N1", None),
            flight("N1"),
        ];
        let newer = serde_json::json!({ "from": "EWR", "plane": { "seats": 182 } });
        assert_eq!(values(&mut bench, &after), [newer, bare], "a tombstone forgets");
    }

    #[test]
    fn what_is_unknown_is_given_up_where_facts_are_required() {
        let outcome = bench()
            .config("required", "true")
            .run(&[flight("N9"), Input::new("flights").value("{}")])
            .unwrap();
        let codes: Vec<_> = outcome.dead_letters.iter().map(|(_, code, _)| code.as_str()).collect();
        assert_eq!(codes, ["unknown", "no-key"]);
    }
}
