//! Modules in the real daemon: the guest examples do their work, share groups with ordinary consumers, and bad actors hurt nobody else.
use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::{
    daemon::{Daemon, until},
    member::{Kind, Member, produce, produce_everywhere, together},
};

/// A guest example's folder.
fn example(name: &str) -> PathBuf {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("guest-examples");
    let built = examples.join("target/wasm32-wasip2/release/route.wasm");
    assert!(
        built.exists(),
        "the guest examples are not built: run `cargo xtask guests`, as `cargo xtask test` does"
    );
    examples.join(name)
}

/// Deploys an example with its manifest changed, and waits until it runs.
pub fn deploy(daemon: &Daemon, name: &str, change: impl Fn(&mut toml::Table)) {
    let path = prepare(daemon, name, change);
    daemon.run(&["module", "deploy", path.to_str().unwrap()]);
}

/// Writes an example's manifest, changed, to where it can be deployed from.
pub fn prepare(daemon: &Daemon, name: &str, change: impl Fn(&mut toml::Table)) -> PathBuf {
    let folder = example(name);
    let mut manifest: toml::Table = fs::read_to_string(folder.join("module.toml")).unwrap().parse().unwrap();
    let component = folder.join(manifest["module"]["component"].as_str().unwrap());
    manifest["module"]
        .as_table_mut()
        .unwrap()
        .insert("component".into(), component.to_string_lossy().into_owned().into());
    change(&mut manifest);
    let path = daemon
        .scratch()
        .join(format!("{}.toml", manifest["module"]["name"].as_str().unwrap()));
    fs::write(&path, manifest.to_string()).unwrap();
    path
}

pub fn status(daemon: &Daemon, module: &str) -> Value {
    serde_json::from_str(&daemon.run(&["module", "status", module, "--json"])).unwrap()
}

/// Waits until every task of a module has read everything there is.
pub fn until_caught_up(daemon: &Daemon, module: &str, records: u64) {
    until(&format!("{module} has caught up"), || {
        status(daemon, module)["counters"]["records_in"].as_u64() >= Some(records)
    });
}

pub fn consume(daemon: &Daemon, topic: &str) -> Vec<Value> {
    let text = daemon.run(&["consume", topic, "--from", "earliest", "--until-end", "--json"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn create(daemon: &Daemon, topics: &[&str], partitions: i32) {
    for topic in topics {
        daemon.run(&["topic", "create", topic, "--partitions", &partitions.to_string()]);
    }
}

#[test]
fn route_forwards_by_key_prefix() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 2);
    deploy(&daemon, "route", |_| {});
    produce(
        &daemon,
        "firehose",
        (0..300).map(|n| format!("{}.{n}", ["orders", "users", "weather"][n % 3])),
    );
    until("everything is routed", || {
        ["team.orders", "team.users", "team.rest"]
            .iter()
            .map(|t| consume(&daemon, t).len())
            .sum::<usize>()
            == 300
    });
    for (topic, prefix) in [
        ("team.orders", "orders."),
        ("team.users", "users."),
        ("team.rest", "weather."),
    ] {
        let records = consume(&daemon, topic);
        assert_eq!(records.len(), 100);
        assert!(
            records.iter().all(|r| r["key"].as_str().unwrap().starts_with(prefix)),
            "{topic}"
        );
    }
}

#[test]
fn redact_masks_and_gives_up_on_what_is_not_json() {
    let daemon = Daemon::start();
    create(&daemon, &["events", "events.redacted", "events.dlq"], 1);
    deploy(&daemon, "redact", |_| {});
    let input = daemon.scratch().join("events.txt");
    fs::write(
        &input,
        "a={\"user\":\"ann@example.org\"}\nb=not json\nc={\"card\":\"4111111111111111\"}\n",
    )
    .unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", "events", "--key-separator", "="])
        .stdin(fs::File::open(&input).unwrap());
    assert!(command.status().unwrap().success());
    until("two are redacted and one is given up", || {
        consume(&daemon, "events.redacted").len() == 2 && consume(&daemon, "events.dlq").len() == 1
    });
    let redacted = consume(&daemon, "events.redacted");
    assert_eq!(redacted[0]["value"], r#"{"user":"***@example.org"}"#);
    assert_eq!(redacted[1]["value"], r#"{"card":"************1111"}"#);
    let dead = &consume(&daemon, "events.dlq")[0];
    assert_eq!(dead["value"], "not json");
    let headers = dead["headers"].to_string();
    for word in ["bad-json", "events", "redact"] {
        assert!(
            headers.contains(word),
            "the dead letter says where it comes from and why: {headers}"
        );
    }
}

#[test]
fn sessionize_keeps_its_state_over_a_crash() {
    let mut daemon = Daemon::start();
    create(&daemon, &["clicks", "sessions", "sessions.dlq"], 2);
    deploy(&daemon, "sessionize", |_| {});
    let click = |daemon: &Daemon, lines: &str| {
        let input = daemon.scratch().join("clicks.txt");
        fs::write(&input, lines).unwrap();
        let mut command = daemon.tidemill();
        command
            .args(["produce", "clicks", "--key-separator", "="])
            .stdin(fs::File::open(&input).unwrap());
        assert!(command.status().unwrap().success());
    };
    click(
        &daemon,
        "ann={\"event\":\"logged in\"}\nbob={\"event\":\"logged in\"}\nann={\"event\":\"opened messages\"}\n",
    );
    until_caught_up(&daemon, "sessionize", 3);
    daemon.kill();
    daemon.restart();
    click(&daemon, "ann={\"event\":\"logged out\"}\n");
    // A record with an empty value is no tombstone; a null value closes the session.
    let mut command = daemon.tidemill();
    let input = daemon.scratch().join("end.txt");
    fs::write(&input, "ann=\n").unwrap();
    command
        .args(["produce", "clicks", "--key-separator", "=", "--null-value", ""])
        .stdin(fs::File::open(&input).unwrap());
    assert!(command.status().unwrap().success());
    until("the session is sent", || consume(&daemon, "sessions").len() == 1);
    let session: Value = serde_json::from_str(consume(&daemon, "sessions")[0]["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        session["events"],
        serde_json::json!(["logged in", "opened messages", "logged out"])
    );
    assert_eq!(session["count"], 3);
}

#[test]
fn twelve_partitions_are_shared_by_three_members_of_a_module() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 12);
    deploy(&daemon, "route", |manifest| {
        manifest["module"]
            .as_table_mut()
            .unwrap()
            .insert("members".into(), 3.into());
    });
    let owners = || {
        let status = status(&daemon, "route");
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let mut owned = std::collections::BTreeMap::<String, usize>::new();
        for task in &tasks {
            *owned.entry(task["member"].to_string()).or_default() += 1;
        }
        owned.into_values().collect::<Vec<_>>()
    };
    until("four partitions each", || owners() == [4, 4, 4]);
    produce_everywhere(&daemon, "firehose", 12, 10, "orders.x");
    until("everything is routed", || consume(&daemon, "team.orders").len() == 120);
}

#[test]
fn a_module_and_a_consumer_share_a_group() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 4);
    deploy(&daemon, "route", |_| {});
    // The module's name is its group; the consumer takes half of the partitions.
    let mut consumer = Member::join(&daemon, Kind::Sdk, "route", "firehose", "consumer");
    let tasks = || {
        let status = status(&daemon, "route");
        status["tasks"].as_array().map_or(0, |tasks| {
            tasks.iter().filter(|task| task["member"].is_string()).count()
        })
    };
    until("two partitions each", || tasks() == 2);
    produce_everywhere(&daemon, "firehose", 4, 25, "orders.first");
    let routed = || -> BTreeSet<String> {
        consume(&daemon, "team.orders")
            .iter()
            .map(|r| r["key"].as_str().unwrap().to_owned())
            .collect()
    };
    until("together they have handled everything", || {
        routed().len() + together([&consumer]).len() == 100
    });
    let by_consumer: BTreeSet<String> = consumer.seen().into_iter().map(|s| s.key).collect();
    assert!(routed().is_disjoint(&by_consumer), "each record by one of them");
    assert_eq!(by_consumer.len(), 50);

    // The consumer dies; the module has all four, from the committed offsets on.
    consumer.kill();
    until("the module has taken over", || tasks() == 4);
    produce_everywhere(&daemon, "firehose", 4, 25, "orders.second");
    until("everything new is routed", || {
        routed().iter().filter(|k| k.starts_with("orders.second")).count() == 100
    });
}

#[test]
fn pause_and_resume_keep_offsets() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 1);
    deploy(&daemon, "route", |_| {});
    produce(&daemon, "firehose", (0..10).map(|n| format!("orders.{n}")));
    until("the first are routed", || consume(&daemon, "team.orders").len() == 10);
    daemon.run(&["module", "pause", "route"]);
    produce(&daemon, "firehose", (10..20).map(|n| format!("orders.{n}")));
    until("it is paused", || status(&daemon, "route")["state"] == "paused");
    assert_eq!(consume(&daemon, "team.orders").len(), 10);
    daemon.run(&["module", "resume", "route"]);
    until("the rest is routed", || consume(&daemon, "team.orders").len() == 20);
    daemon.run(&["module", "delete", "route"]);
    assert!(!daemon.run(&["module", "list"]).contains("route"));
}

#[test]
fn a_clean_stop_is_said_to_the_instances() {
    let mut daemon = Daemon::start();
    create(&daemon, &["wild", "tame", "wild.dlq"], 1);
    deploy(&daemon, "bad-actors", |manifest| {
        let component = manifest["module"].as_table_mut().unwrap().get_mut("component").unwrap();
        *component = component
            .as_str()
            .unwrap()
            .replace("bad_actors.wasm", "probe.wasm")
            .into();
    });
    produce(&daemon, "wild", ["k".to_owned()]);
    until("it has an instance", || consume(&daemon, "tame").len() == 1);
    assert_eq!(daemon.terminate(), Some(0));
    let log = daemon.log();
    assert!(log.contains("on-revoke 0 RevokeReason::Shutdown"), "{log}");
}
