//! A join with a compacted table: each event gets what is known of the thing that its key names.
//!
//! The facts are a table, which the node makes from their topic: whatever its partitions are, and for every module that asks. An event gets
//! what the table has when it is processed; no event is processed before the table has what was in the topic when the module came.
use serde_json::{Map, Value};
use tidemill_guest::prelude::*;

/// What the manifest's `[config]` says.
struct Settings {
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
            output: needed("output")?,
            into: needed("into")?,
            required: context::config_or("required", false)?,
        })
    }
}

fn process(batch: &Batch) -> Result<Ack, Error> {
    let settings = Settings::read()?;
    let mut out = Output::to(&settings.output);
    let mut unknown = 0;
    // All keys in one call to the host, and the facts in their order.
    let keys: Vec<&[u8]> = batch.iter().filter_map(|record| record.key()).collect();
    let mut facts = tables::get_many("facts", &keys)?.into_iter();
    for record in batch {
        let Some(key) = record.key() else {
            batch.dead_letter(&record, "no-key", "the record has no key")?;
            continue;
        };
        let fact = facts.next().flatten();
        let mut event: Map<String, Value> = record.json()?;
        match fact {
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
            .table("facts")
            .config("output", "flights.enriched")
            .config("into", "plane")
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
    fn an_event_gets_what_the_table_has_for_its_key() {
        let mut bench = bench();
        let known = |seats: u32| serde_json::json!({ "from": "EWR", "plane": { "seats": seats } });
        let bare = serde_json::json!({ "from": "EWR" });
        bench.put_row("facts", "N1", Some(r#"{"seats":55}"#));
        bench.put_row("facts", "N3", Some(r#"{"seats":7}"#));
        let flights = [
            flight("N1"),
            Input::new("flights").value("{}"),
            flight("N2"),
            flight("N3"),
        ];
        assert_eq!(values(&mut bench, &flights), [known(55), bare.clone(), known(7)]);
        assert_eq!(bench.counter("unknown"), 1);
        bench.put_row("facts", "N1", Some(r#"{"seats":182}"#));
        bench.put_row("facts", "N3", None::<&str>);
        let after = [flight("N1"), flight("N3")];
        assert_eq!(values(&mut bench, &after), [known(182), bare], "a tombstone forgets");
    }

    #[test]
    fn a_fact_that_is_not_json_holds_up_its_event() {
        let mut bench = bench();
        bench.put_row("facts", "N1", Some("seats: 55"));
        let Err(Error::Poison { index, code, .. }) = bench.run(&[flight("N2"), flight("N1")]) else {
            panic!("the fact passed");
        };
        assert_eq!((index, code.as_str()), (1, "bad-fact"));
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
