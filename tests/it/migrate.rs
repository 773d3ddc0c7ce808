//! State that is migrated in the real daemon, a key an entry, with kill -9 meanwhile; and the way back over a migration.
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidemill_client::{Producer, ProducerConfig, Record};

use crate::{
    daemon::{Daemon, until},
    examples::{create, values},
    kill::client,
    modules::{deploy, prepare, status, until_caught_up},
    stories::{PARTITIONS, input, set, tick},
    versions::history,
};

/// Each has a session open when the state is migrated.
const USERS: usize = 3_000;
const MINUTE: i64 = 60_000;

async fn click(producer: &Producer, event: &str, at: i64) {
    let mut deliveries = Vec::new();
    for user in 0..USERS {
        let record = Record::to("clicks")
            .key(format!("user{user}"))
            .value(json!({ "event": event }).to_string())
            .timestamp(at);
        deliveries.push(producer.enqueue(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

/// The second layout, whose migration rewrites one key a chunk: each is an entry.
pub fn compact(daemon: &Daemon, label: &str, max_out_of_order: &str) -> String {
    let manifest = prepare(daemon, "sessionize/compact", |manifest| {
        input(manifest, "clicks", max_out_of_order);
        set(manifest, "module", &[("version", label)]);
        set(manifest, "config", &[("migrate-keys", "1")]);
    });
    manifest.to_str().unwrap().to_owned()
}

/// The layout of the version that runs.
pub fn layout(daemon: &Daemon) -> u64 {
    let versions = history(daemon, "sessionize");
    let running = versions.iter().find(|version| version["state"] == "running").unwrap();
    running["state_version"].as_u64().unwrap()
}

fn is_migrating(daemon: &Daemon) -> bool {
    let status = status(daemon, "sessionize");
    let tasks = status["tasks"].as_array().unwrap();
    tasks.iter().any(|task| task["phase"] == "migrating")
}

/// What is kept of a user.
fn stored(daemon: &Daemon, user: &str) -> String {
    daemon.run(&[
        "module",
        "state",
        "sessionize",
        "--bucket",
        "open",
        "--prefix",
        user,
        "--limit",
        "1",
    ])
}

/// The sessions of users that were sent, by key: how often each.
fn sent(daemon: &Daemon) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for text in values(daemon, "sessions") {
        let session: Value = serde_json::from_str(&text).unwrap();
        let key = session["key"].as_str().unwrap().to_owned();
        if key.starts_with("user") {
            assert_eq!(
                (&session["count"], &session["events"]),
                (&json!(2), &json!(["first", "second"]))
            );
            *sent.entry(key).or_default() += 1;
        }
    }
    sent
}

#[tokio::test(flavor = "current_thread")]
async fn a_migration_survives_kill_nine_and_there_is_a_way_back() {
    let mut daemon = Daemon::start();
    create(&daemon, &["clicks", "sessions", "sessions.dlq"], PARTITIONS as i32);
    deploy(&daemon, "sessionize", |manifest| {
        input(manifest, "clicks", "5m");
        set(manifest, "module", &[("version", "1.0.0")]);
    });
    let client = client(&daemon).await;
    let config = ProducerConfig {
        delivery_timeout: std::time::Duration::from_secs(600),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    click(&producer, "first", 0).await;
    until_caught_up(&daemon, "sessionize", USERS as u64);
    assert!(stored(&daemon, "user7").contains("\"start\""));
    let path = compact(&daemon, "2.0.0", "5m");
    let said = daemon.run(&["module", "deploy", &path, "--no-wait"]);
    assert!(said.contains("layout of the state: 0 -> 1"), "{said}");
    let mut hits = 0;
    for _ in 0..4 {
        until("it is on its way, or done", || {
            is_migrating(&daemon) || layout(&daemon) == 1
        });
        hits += u32::from(is_migrating(&daemon));
        daemon.kill();
        daemon.restart();
    }
    eprintln!("  {hits} of 4 kills while the state was on its way");
    assert!(0 < hits, "no kill met the migration");
    // Whoever produces notices nothing.
    click(&producer, "second", 10 * MINUTE).await;
    until("all of it is migrated", || layout(&daemon) == 1);
    until_caught_up(&daemon, "sessionize", 2 * USERS as u64);
    assert!(
        stored(&daemon, "user7").contains("[[0,600000,2,"),
        "{}",
        stored(&daemon, "user7")
    );
    for delivery in tick(&producer, "clicks", 600 * MINUTE).await {
        delivery.await.unwrap();
    }
    until("every session is sent", || USERS <= sent(&daemon).len());
    assert!(
        sent(&daemon).values().all(|times| *times == 1),
        "a session was sent twice"
    );
    assert_eq!(values(&daemon, "sessions.dlq").len(), 0);

    let refused = daemon
        .tidemill()
        .args(["module", "rollback", "sessionize"])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("--restore-state"), "{why}");
    assert_eq!(layout(&daemon), 1);
    let said = daemon.run(&["module", "rollback", "sessionize", "--restore-state"]);
    assert!(said.contains("outputs since then repeat"), "{said}");
    assert_eq!(layout(&daemon), 0);
    until("what was sent since the migration is sent again", || {
        let sent = sent(&daemon);
        sent.len() == USERS && sent.values().all(|times| *times == 2)
    });
    assert_eq!(status(&daemon, "sessionize")["state"], "running");

    // Forward again; what cannot be migrated is taken back.
    daemon.run(&["module", "deploy", &path]);
    assert_eq!(layout(&daemon), 1);
    let manifest = prepare(&daemon, "sessionize", |manifest| {
        input(manifest, "clicks", "5m");
        set(manifest, "module", &[("version", "3.0.0")]);
    });
    let refused = daemon
        .tidemill()
        .args(["module", "deploy", manifest.to_str().unwrap()])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("cannot be migrated from layout 1 to 0"), "{why}");
    let status = status(&daemon, "sessionize");
    assert_eq!(
        (&status["version"], &status["state"]),
        (&json!("2.0.0"), &json!("running")),
        "{status}"
    );
}
