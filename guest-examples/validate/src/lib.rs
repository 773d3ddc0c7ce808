//! Bad producers are stopped at the door: records of a topic that anybody may write are checked against a schema, and only what holds
//! it goes on to the topic that everybody reads.
//!
//! What passes is forwarded: its bytes are looked at here, but those that arrive are those that were sent. What does not pass is a dead
//! letter with a code to count by and the place that is wrong; never with the value, which may be a secret.
mod schema;

use schema::Schema;
use tidemill_guest::prelude::*;

fn process(batch: &Batch) -> Result<Ack, Error> {
    let output = context::config_or("output", "orders".to_owned())?;
    let text = context::config("schema").ok_or_else(|| Error::fatal("[config] schema is missing"))?;
    let schema = Schema::parse(&text).map_err(|why| Error::fatal(format!("[config] schema: {why}")))?;
    let mut good = Vec::with_capacity(batch.len() as usize);
    for record in batch {
        // A tombstone has no value to check; it must still delete the key downstream.
        let Some(value) = record.value() else {
            good.push(record.index());
            continue;
        };
        match schema.check_text(value) {
            Ok(()) => good.push(record.index()),
            Err(wrong) => batch.dead_letter(&record, wrong.code, &wrong.to_string())?,
        }
    }
    batch.forward(&output, &good)?;
    context::count("valid", good.len() as u64);
    context::count("refused", u64::from(batch.len()) - good.len() as u64);
    Ok(Ack::All)
}

tidemill_guest::module!(process);

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{Bench, Input};

    use super::*;

    fn bench() -> Bench {
        Bench::new(process).output("orders").config(
            "schema",
            r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "amount": {"minimum": 0}}}"#,
        )
    }

    #[test]
    fn good_records_pass_as_they_are_and_bad_ones_are_given_up_with_a_code() {
        let inputs = [
            r#"{ "id": "a1",  "amount": 3 }"#,
            r#"{"amount": 3}"#,
            r#"{"id": "a2", "amount": -1}"#,
            "not JSON",
        ]
        .map(|value| Input::new("orders.raw").key("k").value(value).header("trace", b"1"));
        let mut bench = bench();
        let outcome = bench.run(&inputs).unwrap();
        assert_eq!(outcome.sent.len(), 1);
        assert_eq!(
            outcome.sent[0].value.as_deref(),
            Some(&br#"{ "id": "a1",  "amount": 3 }"#[..]),
            "byte for byte"
        );
        assert_eq!(outcome.sent[0].headers.len(), 1);
        let codes: Vec<_> = outcome
            .dead_letters
            .iter()
            .map(|(i, code, _)| (*i, code.as_str()))
            .collect();
        assert_eq!(codes, [(1, "missing-field"), (2, "out-of-range"), (3, "bad-json")]);
        assert_eq!((bench.counter("valid"), bench.counter("refused")), (1, 3));
    }

    #[test]
    fn a_reason_names_the_place_and_not_the_value() {
        let secret = Input::new("orders.raw").value(r#"{"id": 4111111111111111}"#);
        let outcome = bench().run(&[secret]).unwrap();
        let (_, _, reason) = &outcome.dead_letters[0];
        assert!(reason.contains("/id") && !reason.contains("4111"), "{reason}");
    }

    #[test]
    fn a_tombstone_passes() {
        let outcome = bench().run(&[Input::new("orders.raw").key("k")]).unwrap();
        assert_eq!((outcome.sent.len(), outcome.dead_letters.len()), (1, 0));
    }

    #[test]
    fn a_schema_that_says_more_than_is_checked_stops_the_module() {
        let mut bench = Bench::new(process)
            .output("orders")
            .config("schema", r#"{"pattern": "^a"}"#);
        let error = bench.run(&[Input::new("orders.raw").value("{}")]).unwrap_err();
        assert!(matches!(error, Error::Fatal(why) if why.contains("pattern")));
    }
}
