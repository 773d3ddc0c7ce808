//! Tables in the real daemon: whole before the first batch, exactly as far as their topics over kill -9, gone with their topics.
use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, until},
    examples::{consume, create, produce_lines},
    kill::{Random, rounds},
    modules::{deploy, prepare, status},
};

const PLANES: u64 = 3000;

/// Waits until the tables of a module have everything that is in their topics.
pub fn until_built(daemon: &Daemon, module: &str) {
    until(&format!("the tables of {module} are up to date"), || {
        let status = status(daemon, module);
        let tables = status["tables"].as_array().unwrap();
        !tables.is_empty() && tables.iter().all(|table| table["behind"] == 0)
    });
}

/// Facts about all planes: in each edition other seats, and every tenth plane, another each time, is forgotten.
fn facts(edition: u64) -> BTreeMap<u64, Option<Value>> {
    let fact = |n: u64| (n % 10 != edition % 10).then(|| json!({ "seats": n * 10 + edition }));
    (0..PLANES).map(|n| (n, fact(n))).collect()
}

fn produce_facts(daemon: &Daemon, edition: u64) {
    let mut lines = String::new();
    for (n, fact) in facts(edition) {
        writeln!(lines, "N{n}={}", fact.unwrap_or_default()).unwrap();
    }
    produce_lines(
        daemon,
        "planes",
        &lines,
        &["--null-value", "null", "--compression", "zstd"],
    );
}

fn produce_flights(daemon: &Daemon, round: u64) {
    let flights: String = (0..PLANES).map(|n| format!("N{n}={{\"round\":{round}}}\n")).collect();
    produce_lines(daemon, "flights", &flights, &[]);
}

/// What flights of a round were told about their planes.
fn told(daemon: &Daemon, round: u64) -> BTreeMap<u64, Option<Value>> {
    let mut told = BTreeMap::new();
    for record in consume(daemon, "flights.enriched") {
        let flight: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        if flight["round"] == round {
            let n = record["key"].as_str().unwrap().trim_start_matches('N').parse().unwrap();
            assert_eq!(told.insert(n, flight.get("plane").cloned()), None, "once: {record}");
        }
    }
    told
}

#[test]
fn a_table_is_what_its_topic_says_over_kills() {
    let mut daemon = Daemon::start();
    daemon.run(&[
        "topic",
        "create",
        "planes",
        "--partitions",
        "3",
        "--config",
        "cleanup.policy=compact",
    ]);
    create(&daemon, &["flights", "flights.enriched", "flights.dlq"], 2);
    produce_facts(&daemon, 0);
    produce_facts(&daemon, 1);
    produce_flights(&daemon, 0);
    let manifest = prepare(&daemon, "enrich", |_| {});
    daemon.run(&["module", "deploy", manifest.to_str().unwrap(), "--no-wait"]);
    daemon.kill();
    daemon.restart();
    until("all flights of the first round go on", || {
        told(&daemon, 0).len() as u64 == PLANES
    });
    assert_eq!(told(&daemon, 0), facts(1), "the first batch has waited for the table");

    let seed = std::env::var("TIDEMILL_KILL_SEED").map_or(0x7461_626c, |text| text.parse().expect("a number"));
    eprintln!("TIDEMILL_KILL_SEED={seed} TIDEMILL_KILL_ROUNDS={}", rounds());
    let mut random = Random(seed);
    for round in 1..=u64::from(rounds()) {
        produce_facts(&daemon, round + 1);
        daemon.kill();
        // Now and then what goes on filling is killed, too.
        for _ in 0..random.below(3) {
            daemon.restart();
            daemon.kill();
        }
        daemon.restart();
        until_built(&daemon, "enrich");
        produce_flights(&daemon, round);
        until("all flights of the round go on", || {
            told(&daemon, round).len() as u64 == PLANES
        });
        assert_eq!(told(&daemon, round), facts(round + 1), "round {round}");
    }

    let place = ["--partition", "0", "--offset", "0", "--records", "20"];
    let replay = ["module", "replay", manifest.to_str().unwrap(), "--no-build"];
    let replayed = daemon.run(&[&replay[..], &place[..]].concat());
    assert!(
        replayed.contains("20 records") && replayed.contains("\"seats\":"),
        "{replayed}"
    );
}

#[test]
fn without_its_topic_a_module_waits_and_says_so() {
    let daemon = Daemon::start();
    create(&daemon, &["flights", "flights.enriched", "flights.dlq"], 1);
    deploy(&daemon, "enrich", |_| {});
    let described = daemon.run(&["topic", "describe", "planes", "--json"]);
    assert!(described.contains("compact"), "created for a table: {described}");
    produce_lines(&daemon, "planes", "N1={\"seats\":4}\n", &[]);
    until_built(&daemon, "enrich");
    let shown = daemon.run(&["module", "status", "enrich"]);
    assert!(shown.contains("table facts of planes: up to date"), "{shown}");

    daemon.run(&["topic", "delete", "planes"]);
    produce_lines(&daemon, "flights", "N1={}\n", &[]);
    until("the module says what it waits for", || {
        let reason = status(&daemon, "enrich")["reason"].as_str().map(str::to_owned);
        reason.is_some_and(|reason| reason.contains("topic \"planes\" does not exist"))
    });
    assert_eq!(status(&daemon, "enrich")["counters"]["records_in"], 0);
    create(&daemon, &["planes"], 2);
    until("it goes on with a table that is empty", || {
        consume(&daemon, "flights.enriched").len() == 1
    });
    assert_eq!(consume(&daemon, "flights.enriched")[0]["value"], "{}");
}
