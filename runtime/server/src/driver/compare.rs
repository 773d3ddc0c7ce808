//! Differences for people: both sides as lines, a record a line, and the lines that differ.
//!
//! Only the fields that somebody expects are in the lines, so a fixture says what matters and no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::Value;
use similar::TextDiff;
use tidemill_broker::module::run::dead_letter;
use tidemill_protocol::manifest::{Manifest, Moment};

use super::{
    Output, Record, StateEntry,
    fixture::{Expected, Fixture},
    play::{Played, header},
};

/// Lines around a difference.
const CONTEXT_LINES: usize = 3;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// outputs, state, dead-letters, stopped.
    pub(crate) what: &'static str,
    /// Lines: `-` is missing, `+` was not expected.
    pub(crate) lines: String,
}

/// The fields of one line, in the order in which they are shown.
type Line = BTreeMap<Field, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Task,
    Topic,
    Partition,
    Offset,
    Bucket,
    Key,
    Timestamp,
    Headers,
    Code,
    Reason,
    Value,
}

/// Everything that was left behind, a line each.
pub(crate) fn lines(outputs: &[Output], dead_letters: &[Output], state: &[StateEntry]) -> String {
    let outputs = outputs
        .iter()
        .map(|output| format!("output  {}", show(&output_line(output))));
    let dead_letters = dead_letters
        .iter()
        .map(|letter| format!("dead letter  {}", show(&dead_letter_line(letter))));
    let state = state.iter().map(|entry| format!("state  {}", show(&state_line(entry))));
    outputs
        .chain(dead_letters)
        .chain(state)
        .fold(String::new(), |text, line| text + &line + "\n")
}

/// The lines that differ; `None` when none do.
pub(crate) fn unified(expected: &str, found: &str) -> Option<String> {
    (expected != found).then(|| {
        TextDiff::from_lines(expected, found)
            .unified_diff()
            .context_radius(CONTEXT_LINES)
            .to_string()
    })
}

/// Compares what came of a fixture with what it expects.
pub(crate) fn compare(fixture: &Fixture, manifest: &Manifest, played: &Played) -> Vec<Difference> {
    let expect = &fixture.expect;
    let mut differences = Vec::new();
    let mut lists: Vec<(&'static str, &[Expected], Vec<Line>)> = Vec::new();
    if let Some(expected) = &expect.outputs {
        let lines = played.outputs.iter().map(output_line);
        lists.push(("outputs", expected, lines.collect()));
    }
    if let Some(expected) = &expect.dead_letters {
        let mut letters: Vec<&Output> = played.dead_letters.iter().collect();
        letters.sort_by_key(|letter| place(letter));
        let lines = letters.into_iter().map(dead_letter_line);
        lists.push(("dead-letters", expected, lines.collect()));
    }
    if let Some(expected) = &expect.state {
        lists.push(("state", expected, played.state.iter().map(state_line).collect()));
    }
    for (what, expected, found) in lists {
        let expected: Vec<Line> = expected
            .iter()
            .map(|line| expected_line(line, fixture, what, manifest))
            .collect();
        differences.extend(differ(what, expected, found));
    }
    let (wanted, found) = (expect.stopped.as_deref(), played.stopped.as_deref());
    let is_as_wanted = match (wanted, found) {
        (Some(wanted), Some(found)) => found.contains(wanted),
        (None, None) => true,
        _ => false,
    };
    if !is_as_wanted {
        let say = |state: Option<&str>| {
            state.map_or("the module runs".to_owned(), |why| {
                format!("the module is stopped: {why}")
            })
        };
        let lines = format!("-{}\n+{}\n", say(wanted), say(found));
        differences.push(Difference { what: "stopped", lines });
    }
    differences
}

/// The first difference between a plain run and one in which everything went wrong, as far as nothing may differ: what each task sent
/// to each partition in its order, but for timestamps that the module left to the host, and the state.
pub(crate) fn first_difference(plain: &Played, chaos: &Played) -> Option<String> {
    let lists: [(&str, fn(&Played) -> BTreeMap<String, Vec<String>>); 3] = [
        ("outputs", |played| by_origin(&played.outputs)),
        ("dead letters", |played| by_origin(&played.dead_letters)),
        ("state", |played| {
            let lines = played.state.iter().map(|entry| show(&state_line(entry))).collect();
            BTreeMap::from([("the module".to_owned(), lines)])
        }),
    ];
    for (what, list) in lists {
        let (plain, chaos) = (list(plain), list(chaos));
        let origins: BTreeSet<&String> = plain.keys().chain(chaos.keys()).collect();
        for origin in origins {
            let of = |side: &BTreeMap<String, Vec<String>>| side.get(origin).cloned().unwrap_or_default();
            let (plain, chaos) = (of(&plain), of(&chaos));
            let at = (0..plain.len().max(chaos.len())).find(|at| plain.get(*at) != chaos.get(*at));
            if let Some(at) = at {
                let side = |side: &[String]| side.get(at).map_or("nothing", String::as_str).to_owned();
                let (plain, chaos) = (side(&plain), side(&chaos));
                return Some(format!("{what} of {origin}, number {at}:\n-{plain}\n+{chaos}\n"));
            }
        }
    }
    (plain.stopped.is_some() != chaos.stopped.is_some()).then(|| {
        let say = |played: &Played| played.stopped.clone().unwrap_or("it runs".to_owned());
        format!("whether the module stops:\n-{}\n+{}\n", say(plain), say(chaos))
    })
}

fn by_origin(outputs: &[Output]) -> BTreeMap<String, Vec<String>> {
    let mut origins: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for output in outputs {
        let record = &output.record;
        let mut line = record_line(record);
        line.remove(&Field::Timestamp);
        // How often it was tried, and the words around it, belong to the run.
        let is_of_run =
            |(name, _): &&(String, Option<bytes::Bytes>)| name != dead_letter::ATTEMPT && name != dead_letter::REASON;
        line.insert(Field::Headers, headers(record.headers.iter().filter(is_of_run)));
        let origin = format!("{}/{} by task {}", record.topic, record.partition, output.task);
        origins.entry(origin).or_default().push(show(&line));
    }
    origins
}

/// Both sides with the same fields: those that somebody expects. What one expected line leaves open it takes from its counterpart.
fn differ(what: &'static str, mut expected: Vec<Line>, mut found: Vec<Line>) -> Option<Difference> {
    let fields: BTreeSet<Field> = expected.iter().flat_map(|line| line.keys().copied()).collect();
    if !expected.is_empty() {
        found
            .iter_mut()
            .for_each(|line| line.retain(|field, _| fields.contains(field)));
    }
    // Topics do not wait for each other: the order is that of each.
    let topic = |line: &Line| line.get(&Field::Topic).cloned();
    expected.sort_by_key(topic);
    found.sort_by_key(topic);
    for (wanted, found) in expected.iter_mut().zip(&found) {
        for (field, value) in found {
            wanted.entry(*field).or_insert_with(|| value.clone());
        }
        // A reason is known by a part of it.
        if let (Some(own), Some(theirs)) = (wanted.get(&Field::Reason), found.get(&Field::Reason))
            && theirs.contains(own.as_str())
        {
            wanted.insert(Field::Reason, theirs.clone());
        }
    }
    let text = |lines: &[Line]| lines.iter().fold(String::new(), |text, line| text + &show(line) + "\n");
    let (expected, found) = (text(&expected), text(&found));
    let lines = unified(&expected, &found)?;
    Some(Difference { what, lines })
}

fn show(line: &Line) -> String {
    let mut text = String::new();
    for (field, value) in line {
        let name = format!("{field:?}").to_lowercase();
        let separator = if text.is_empty() { "" } else { "  " };
        // Writing to a string cannot fail.
        let _ = match field {
            Field::Topic | Field::Bucket => write!(text, "{separator}{value}"),
            _ => write!(text, "{separator}{name}={value}"),
        };
    }
    text
}

fn expected_line(expected: &Expected, fixture: &Fixture, what: &str, manifest: &Manifest) -> Line {
    let mut line = Line::new();
    let mut put = |field, value: Option<String>| value.map(|value| line.insert(field, value));
    // Where there is one topic, it goes without saying; where there are several, a line says which.
    put(Field::Topic, expected.topic.clone().filter(|_| what != "state"));
    put(
        Field::Partition,
        expected.partition.map(|partition| partition.to_string()),
    );
    put(Field::Offset, expected.offset.map(|offset| offset.to_string()));
    put(Field::Code, expected.code.clone());
    put(Field::Reason, expected.reason.clone());
    put(Field::Task, expected.task.map(|task| task.to_string()));
    let only_bucket = || {
        manifest
            .state
            .keys()
            .next()
            .filter(|_| manifest.state.len() == 1)
            .cloned()
    };
    if what == "state" {
        put(Field::Bucket, expected.bucket.clone().or_else(only_bucket));
    }
    put(Field::Key, expected.key.as_ref().map(|key| text(key.as_bytes())));
    put(
        Field::Timestamp,
        expected.timestamp.map(|time| moment(time.from(fixture.clock))),
    );
    let pairs = |headers: &BTreeMap<String, String>| {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.clone(), Some(value.clone().into())));
        headers_of(pairs.collect())
    };
    put(Field::Headers, expected.headers.as_ref().map(pairs));
    let value = expected
        .json
        .as_ref()
        .map(|json| content(Some(json.0.to_string().as_bytes())));
    let value = value.or_else(|| expected.value.as_ref().map(|value| content(Some(value.as_bytes()))));
    let value = value.or_else(|| expected.hex.as_ref().map(|hex| content(Some(&hex.0))));
    let value = value.or_else(|| expected.i64.map(|number| content(Some(&number.to_le_bytes()))));
    put(
        Field::Value,
        value.or_else(|| expected.tombstone.then(|| content(None))),
    );
    line
}

fn record_line(record: &Record) -> Line {
    Line::from([
        (Field::Topic, record.topic.clone()),
        (Field::Partition, record.partition.to_string()),
        (Field::Key, record.key.as_deref().map_or("null".to_owned(), text)),
        (Field::Timestamp, moment(record.timestamp)),
        (Field::Headers, headers(record.headers.iter())),
        (Field::Value, content(record.value.as_deref())),
    ])
}

fn output_line(output: &Output) -> Line {
    record_line(&output.record)
}

/// Where a dead letter came from: topic, partition, offset.
fn place(letter: &Output) -> (String, u32, i64) {
    let of = |name| header(letter, name).unwrap_or_default();
    let partition = of(dead_letter::PARTITION).parse().unwrap_or(0);
    let offset = of(dead_letter::OFFSET).parse().unwrap_or(0);
    (of(dead_letter::TOPIC), partition, offset)
}

/// A dead letter by the place that it came from.
fn dead_letter_line(output: &Output) -> Line {
    let mut line = record_line(&output.record);
    line.remove(&Field::Headers);
    let named = [
        (Field::Topic, dead_letter::TOPIC),
        (Field::Partition, dead_letter::PARTITION),
        (Field::Offset, dead_letter::OFFSET),
        (Field::Code, dead_letter::CODE),
        (Field::Reason, dead_letter::REASON),
    ];
    for (field, name) in named {
        line.insert(field, header(output, name).unwrap_or_default());
    }
    line
}

fn state_line(entry: &StateEntry) -> Line {
    Line::from([
        (Field::Task, entry.task.to_string()),
        (Field::Bucket, entry.bucket.clone()),
        (Field::Key, text(&entry.key)),
        (Field::Value, content(Some(&entry.value))),
    ])
}

fn headers<'a>(headers: impl Iterator<Item = &'a (String, Option<bytes::Bytes>)>) -> String {
    headers_of(headers.cloned().collect())
}

fn headers_of(headers: Vec<(String, Option<bytes::Bytes>)>) -> String {
    let shown = headers
        .iter()
        .map(|(name, value)| format!("{name}={}", content(value.as_deref())));
    format!("[{}]", shown.collect::<Vec<_>>().join(" "))
}

fn moment(timestamp: i64) -> String {
    Moment(timestamp).to_string()
}

/// A value: JSON in one form, other text quoted, other bytes in hexadecimal.
pub(crate) fn content(value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return "null".to_owned();
    };
    match serde_json::from_slice::<Value>(value) {
        Ok(json @ (Value::Object(_) | Value::Array(_))) => json.to_string(),
        _ => text(value),
    }
}

/// Text quoted, other bytes in hexadecimal.
pub(crate) fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => format!("{text:?}"),
        _ => bytes
            .iter()
            .fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn output(task: u32, topic: &str, value: &str, timestamp: i64) -> Output {
        let record = Record {
            topic: topic.into(),
            timestamp,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        };
        Output { task, record }
    }

    fn played(outputs: Vec<Output>) -> Played {
        Played {
            records_in: 0,
            outputs,
            dead_letters: Vec::new(),
            state: Vec::new(),
            stopped: None,
            logs: Vec::new(),
            crashes: 0,
        }
    }

    fn differences(expect: &str, outputs: Vec<Output>) -> Vec<Difference> {
        let fixture: Fixture = toml::from_str(&format!("[expect]\n{expect}")).unwrap();
        let manifest = toml::from_str("module = { name = \"m\" }\ninput = [{ topic = \"in\" }]").unwrap();
        compare(&fixture, &manifest, &played(outputs))
    }

    #[test]
    fn only_what_is_expected_is_compared_and_topics_do_not_wait_for_each_other() {
        let outputs = vec![output(0, "b", "{\"n\": 1, \"m\": 2}", 5), output(0, "a", "x", 6)];
        let expect = r#"outputs = [{ topic = "a", value = "x" }, { topic = "b", json = { m = 2, n = 1 } }]"#;
        assert_eq!(differences(expect, outputs.clone()), []);
        let found = differences("outputs = [{ value = \"x\" }]", outputs);
        assert_eq!(found.len(), 1);
        assert!(found[0].lines.contains("value={\"m\":2,\"n\":1}"), "{}", found[0].lines);
    }

    #[test]
    fn a_module_that_stops_unasked_is_a_difference() {
        let fixture: Fixture = toml::from_str("").unwrap();
        let manifest = toml::from_str("module = { name = \"m\" }\ninput = [{ topic = \"in\" }]").unwrap();
        let stopped = Played {
            stopped: Some("fatal: no rate".into()),
            ..played(Vec::new())
        };
        assert_eq!(compare(&fixture, &manifest, &stopped)[0].what, "stopped");
        let wanted: Fixture = toml::from_str("expect = { stopped = \"no rate\" }").unwrap();
        assert_eq!(compare(&wanted, &manifest, &stopped), []);
    }

    #[test]
    fn what_tasks_send_is_compared_task_by_task_in_its_order() {
        let plain = played(vec![
            output(0, "a", "1", 1),
            output(0, "a", "2", 1),
            output(1, "a", "3", 1),
        ]);
        let other_pace = played(vec![
            output(1, "a", "3", 9),
            output(0, "a", "1", 9),
            output(0, "a", "2", 9),
        ]);
        assert_eq!(first_difference(&plain, &other_pace), None);
        let swapped = played(vec![
            output(0, "a", "2", 1),
            output(0, "a", "1", 1),
            output(1, "a", "3", 1),
        ]);
        let difference = first_difference(&plain, &swapped).unwrap();
        assert!(
            difference.starts_with("outputs of a/0 by task 0, number 0:"),
            "{difference}"
        );
        let lost = played(vec![output(0, "a", "1", 1), output(1, "a", "3", 1)]);
        assert!(first_difference(&plain, &lost).unwrap().ends_with("+nothing\n"));
    }
}
