//! The guest examples, one by one, doing in the real daemon what their README promises.
use std::{fs, path::PathBuf, process::Stdio};

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, until},
    modules::{deploy, status, until_caught_up},
    tables::until_built,
};

/// Every record of a topic.
pub fn consume(daemon: &Daemon, topic: &str) -> Vec<Value> {
    let text = daemon.run(&["consume", topic, "--from", "earliest", "--until-end", "--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Their values.
pub fn values(daemon: &Daemon, topic: &str) -> Vec<String> {
    let value = |record: Value| record["value"].as_str().unwrap_or_default().to_owned();
    consume(daemon, topic).into_iter().map(value).collect()
}

/// The value of a header.
pub fn header(record: &Value, name: &str) -> String {
    let headers = record["headers"].as_array().cloned().unwrap_or_default();
    let found = headers.iter().find(|header| header["key"] == name);
    found.unwrap_or_else(|| panic!("no header {name}: {record}"))["value"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

pub fn create(daemon: &Daemon, topics: &[&str], partitions: i32) {
    for topic in topics {
        daemon.run(&["topic", "create", topic, "--partitions", &partitions.to_string()]);
    }
}

/// Produces lines `key=value`.
pub fn produce_lines(daemon: &Daemon, topic: &str, lines: &str, more: &[&str]) {
    let file = daemon.scratch().join(format!("{topic}.txt"));
    fs::write(&file, lines).unwrap();
    let mut command = daemon.tidemill();
    command.args(["produce", topic, "--key-separator", "="]).args(more);
    let input = fs::File::open(&file).unwrap();
    assert!(command.stdin(input).stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn every_example_has_a_valid_manifest_and_a_readme() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("guest-examples");
    let mut found = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(folder.join("module.toml")) else {
            continue;
        };
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let manifest: tidemill_protocol::manifest::Manifest =
            toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(manifest.module.name, name);
        assert!(folder.join("README.md").exists(), "{name} has no README.md");
        found += 1;
    }
    assert!(6 <= found, "only {found} examples were found");
}

#[test]
fn validate_lets_only_pass_what_holds_the_schema() {
    let daemon = Daemon::start();
    create(&daemon, &["orders.raw", "orders", "orders.refused"], 1);
    deploy(&daemon, "validate", |_| {});
    let good = r#"{"id": "1",  "customer": "ann", "amount": 3, "currency": "EUR"}"#;
    produce_lines(
        &daemon,
        "orders.raw",
        &format!(
            "a={good}\nb={{\"id\":\"2\",\"amount\":\"3\"}}\nc=nonsense\nd={{\"id\":\"3\",\"customer\":\"bob\",\"amount\":-1,\"currency\":\"EUR\"}}\n"
        ),
        &[],
    );
    until("one passes and three are refused", || {
        values(&daemon, "orders").len() == 1 && values(&daemon, "orders.refused").len() == 3
    });
    assert_eq!(values(&daemon, "orders"), [good], "byte for byte");
    let refused = consume(&daemon, "orders.refused");
    let said: Vec<_> = refused
        .iter()
        .map(|r| (header(r, "tidemill.code"), header(r, "__dlq.errors.message")))
        .collect();
    let expected = [
        ("missing-field", "/customer is missing"),
        ("bad-json", "is not JSON at line 1 column 2"),
        ("out-of-range", "/amount must be: 0 or more"),
    ];
    assert_eq!(
        said,
        expected.map(|(code, reason)| (code.to_owned(), reason.to_owned()))
    );
    assert_eq!(header(&refused[0], "__dlq.errors.offset"), "1");
    assert_eq!(status(&daemon, "validate")["state"], json!("running"));
}

#[test]
fn dedup_remembers_over_a_crash() {
    let mut daemon = Daemon::start();
    create(&daemon, &["events", "events.once", "events.dlq"], 2);
    deploy(&daemon, "dedup", |_| {});
    let send = |daemon: &Daemon, id: &str, line: &str| {
        produce_lines(daemon, "events", line, &["--header", &format!("event-id={id}")]);
    };
    send(&daemon, "42", "phone-7=paid\n");
    send(&daemon, "43", "phone-7=closed\n");
    until("both pass", || values(&daemon, "events.once").len() == 2);
    daemon.kill();
    daemon.restart();
    send(&daemon, "42", "phone-7=paid\n");
    send(&daemon, "44", "phone-7=opened\n");
    produce_lines(&daemon, "events", "phone-7=without\n", &[]);
    until("the next one passes", || values(&daemon, "events.once").len() == 3);
    until("the one without an id is given up", || {
        values(&daemon, "events.dlq") == ["without"]
    });
    assert_eq!(values(&daemon, "events.once"), ["paid", "closed", "opened"]);
}

#[test]
fn fraud_finds_the_pair_over_a_crash() {
    let mut daemon = Daemon::start();
    create(&daemon, &["payments", "payments.suspicious", "payments.dlq"], 2);
    deploy(&daemon, "fraud", |_| {});
    produce_lines(&daemon, "payments", "card-7={\"id\":\"p1\",\"country\":\"PT\"}\n", &[]);
    until_caught_up(&daemon, "fraud", 1);
    daemon.kill();
    daemon.restart();
    produce_lines(
        &daemon,
        "payments",
        "card-8={\"id\":\"p2\",\"country\":\"PT\"}\ncard-7={\"id\":\"p3\",\"country\":\"BR\"}\n",
        &[],
    );
    until("the pair is told", || values(&daemon, "payments.suspicious").len() == 1);
    let alert: Value = serde_json::from_str(&values(&daemon, "payments.suspicious")[0]).unwrap();
    assert_eq!(
        (&alert["first"]["id"], &alert["second"]["id"]),
        (&json!("p1"), &json!("p3"))
    );
    assert_eq!(alert["card"], "card-7");
}

#[test]
fn enrich_keeps_the_last_fact_of_each_key_over_a_crash() {
    let mut daemon = Daemon::start();
    create(&daemon, &["planes", "flights", "flights.enriched", "flights.dlq"], 3);
    deploy(&daemon, "enrich", |_| {});
    let planes: String = (0..60).map(|n| format!("N{}={{\"seats\":{n}}}\n", n % 30)).collect();
    produce_lines(&daemon, "planes", &planes, &[]);
    until_built(&daemon, "enrich");
    daemon.kill();
    daemon.restart();
    let flights: String = (0..31).map(|n| format!("N{n}={{\"from\":\"EWR\"}}\n")).collect();
    produce_lines(&daemon, "flights", &flights, &[]);
    until("every flight goes on", || {
        values(&daemon, "flights.enriched").len() == 31
    });
    for record in consume(&daemon, "flights.enriched") {
        let flight: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        let n: u64 = record["key"].as_str().unwrap().trim_start_matches('N').parse().unwrap();
        let expected = if n < 30 {
            json!({ "seats": n + 30 })
        } else {
            Value::Null
        };
        assert_eq!(flight["plane"], expected, "the second fact of {record}");
    }
}
