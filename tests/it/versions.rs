//! Versions of a module in the real daemon: upgrades, canaries, rollbacks, rewinding, dead letters after a fix, and kill -9 meanwhile.
use std::{
    collections::BTreeSet,
    fs,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    daemon::{Daemon, PATIENCE, until},
    kill::{PARTITIONS, Random, client, holds, rounds, write},
    member::{produce, produce_everywhere},
    modules::{consume, create, deploy, prepare, status, until_caught_up},
};

/// Gives a manifest another version label.
fn labelled(label: &str) -> impl Fn(&mut toml::Table) {
    move |manifest| {
        let module = manifest["module"].as_table_mut().unwrap();
        module.insert("version".into(), label.into());
    }
}

pub fn history(daemon: &Daemon, module: &str) -> Vec<Value> {
    let text = daemon.run(&["module", "history", module, "--json"]);
    serde_json::from_str(&text).unwrap()
}

fn components(daemon: &Daemon) -> BTreeSet<String> {
    let files = fs::read_dir(daemon.data_dir().join("modules")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.map(|name| name[..64].to_owned()).collect()
}

/// A bad actor that does this when a record says `now`.
fn acting(act: &'static str, label: &'static str) -> impl Fn(&mut toml::Table) {
    move |manifest| {
        labelled(label)(manifest);
        let config = manifest["config"].as_table_mut().unwrap();
        config.insert("act".into(), act.into());
        // A flood of log lines is no mistake, but takes its time.
        let batch = manifest["batch"].as_table_mut().unwrap();
        batch.insert("timeout".into(), "60s".into());
    }
}

#[test]
fn a_shadow_tells_what_another_version_would_have_done_and_changes_nothing() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 1);
    deploy(&daemon, "route", labelled("1.0.0"));
    produce(
        &daemon,
        "firehose",
        ["orders.1", "users.1", "weather.1"].map(String::from),
    );
    until_caught_up(&daemon, "route", 3);
    let shadow = |change: &dyn Fn(&mut toml::Table)| {
        let manifest = prepare(&daemon, "route", change);
        daemon.run(&["module", "deploy", manifest.to_str().unwrap(), "--shadow", "10"])
    };
    let same = shadow(&labelled("1.1.0"));
    assert!(
        same.contains("1 batches, 3 records: 0 batches came out differently"),
        "{same}"
    );
    let other = shadow(&|manifest| {
        labelled("2.0.0")(manifest);
        let config = manifest["config"].as_table_mut().unwrap();
        config.insert("orders".into(), "team.rest".into());
    });
    assert!(other.contains("team.orders: 1 records became 0"), "{other}");
    assert!(other.contains("1 batches came out differently"), "{other}");
    assert_eq!(status(&daemon, "route")["version"], "1.0.0");
    assert_eq!(history(&daemon, "route").len(), 1);
    assert_eq!(consume(&daemon, "team.rest").len(), 1, "nothing was written twice");
    produce(&daemon, "firehose", ["orders.2".to_owned()]);
    until("the version that runs goes on", || {
        consume(&daemon, "team.orders").len() == 2
    });
}

#[test]
fn an_upgrade_loses_nothing_repeats_nothing_and_hardly_pauses() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 4);
    deploy(&daemon, "route", labelled("1.0.0"));
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let mut command = daemon.tidemill();
        command.args(["produce", "firehose", "--key-separator", "="]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    std::io::Write::write_all(&mut input, format!("orders.{count}={count}\n").as_bytes()).unwrap();
                    count += 1;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
            drop(input);
            assert!(child.wait().unwrap().success());
            count
        })
    };
    until("records flow", || {
        status(&daemon, "route")["counters"]["records_in"].as_u64() > Some(100)
    });
    for round in 1..=3 {
        let begun = Instant::now();
        let said = prepare(&daemon, "route", labelled(&format!("1.{round}.0")));
        daemon.run(&["module", "deploy", said.to_str().unwrap()]);
        eprintln!("  upgrade {round}: {:?}", begun.elapsed());
        let status = status(&daemon, "route");
        assert_eq!(status["version"], format!("1.{round}.0"));
        assert!(status["rollout"].is_null(), "{status}");
    }
    daemon.run(&["module", "rollback", "route"]);
    assert_eq!(status(&daemon, "route")["version"], "1.2.0");
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = load.join().unwrap();
    until_caught_up(&daemon, "route", sent);
    let status = status(&daemon, "route");
    assert_eq!(status["counters"]["records_in"].as_u64(), Some(sent), "{status}");
    assert_eq!(
        status["counters"]["failures"], 0,
        "no batch is cut off by an upgrade: {status}"
    );
    assert_eq!(
        status["counters"]["refused"], 0,
        "no batch is refused by an upgrade: {status}"
    );
    let values: Vec<u64> = consume(&daemon, "team.orders")
        .iter()
        .map(|record| record["value"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(values.len() as u64, sent);
    assert_eq!(
        values.iter().collect::<BTreeSet<_>>().len() as u64,
        sent,
        "a record was routed twice"
    );
}

#[test]
fn what_a_version_may_do_anew_is_told_and_versions_are_kept() {
    let daemon = Daemon::start();
    create(&daemon, &["events", "events.redacted", "events.dlq"], 2);
    deploy(&daemon, "redact", labelled("1.0.0"));
    let second = prepare(&daemon, "redact", |manifest| {
        labelled("2.0.0")(manifest);
        let limits = toml::Table::from_iter([("memory".to_owned(), "32MiB".into())]);
        manifest.insert("limits".into(), limits.into());
        let output = toml::Table::from_iter([("topic".to_owned(), "events.copy".into())]);
        manifest["output"].as_array_mut().unwrap().push(output.into());
    });
    let said = daemon.run(&["module", "deploy", second.to_str().unwrap()]);
    assert!(said.contains("+ writes topic events.copy"), "{said}");
    assert!(said.contains("~ limits.memory: 64MiB -> 32MiB"), "{said}");
    let history = history(&daemon, "redact");
    let states: Vec<_> = history
        .iter()
        .map(|version| (version["version"].as_str().unwrap(), version["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("1.0.0", "kept"), ("2.0.0", "running")]);
    let refused = daemon
        .tidemill()
        .args(["module", "rollback", "redact", "--to", "9.9.9"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("tidemill module history redact"));
    daemon.run(&["module", "rollback", "redact", "--to", "1.0.0"]);
    assert_eq!(status(&daemon, "redact")["version"], "1.0.0");
    // Both versions are the same component; it goes when the module does, or at the next start.
    assert_eq!(components(&daemon).len(), 1);
    daemon.run(&["module", "delete", "redact"]);
    assert!(!daemon.run(&["module", "list"]).contains("redact"));
}

#[test]
fn a_version_that_does_badly_on_trial_is_taken_back() {
    let daemon = Daemon::start();
    create(&daemon, &["wild", "tame", "wild.dlq"], 3);
    deploy(&daemon, "bad-actors", acting("log-flood", "1.0.0"));
    let bad = prepare(&daemon, "bad-actors", acting("panic", "2.0.0"));
    let args = [
        "module",
        "deploy",
        bad.to_str().unwrap(),
        "--canary",
        "1",
        "--canary-failures",
        "1",
    ];
    assert!(daemon.run(&args).contains("on trial"));
    assert_eq!(status(&daemon, "bad-actors")["rollout"]["version"], "2.0.0");
    let lines: String = (0..60)
        .map(|n| format!("k{n}={}\n", if n % 5 == 0 { "now" } else { "later" }))
        .collect();
    let file = daemon.scratch().join("wild.txt");
    fs::write(&file, lines).unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", "wild", "--key-separator", "="])
        .stdin(fs::File::open(&file).unwrap());
    assert!(command.status().unwrap().success());
    until("it is taken back", || {
        status(&daemon, "bad-actors")["rollout"].is_null()
    });
    until("the version that runs has done all of it", || {
        consume(&daemon, "tame").len() == 60
    });
    assert_eq!(consume(&daemon, "wild.dlq").len(), 0, "a canary loses nothing");
    let returned = history(&daemon, "bad-actors")[1]["returned"].to_string();
    assert!(returned.contains("failures of the canary"), "{returned}");

    let good = prepare(&daemon, "bad-actors", acting("log-flood", "3.0.0"));
    daemon.run(&["module", "deploy", good.to_str().unwrap(), "--canary", "2"]);
    daemon.run(&["module", "promote", "bad-actors"]);
    assert_eq!(status(&daemon, "bad-actors")["version"], "3.0.0");
}

#[test]
fn dead_letters_are_processed_again_once_after_a_fix() {
    let mut daemon = Daemon::start();
    create(&daemon, &["wild", "tame", "wild.dlq"], 2);
    deploy(&daemon, "bad-actors", acting("panic", "1.0.0"));
    let lines: String = (0..20)
        .map(|n| format!("k{n}={}\n", if n % 4 == 0 { "now" } else { "later" }))
        .collect();
    let file = daemon.scratch().join("wild.txt");
    fs::write(&file, lines).unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", "wild", "--key-separator", "="])
        .stdin(fs::File::open(&file).unwrap());
    assert!(command.status().unwrap().success());
    until("five are given up", || consume(&daemon, "wild.dlq").len() == 5);
    until("the others pass", || consume(&daemon, "tame").len() == 15);
    let letters = daemon.run(&["module", "dead-letters", "bad-actors", "--where", "code=trap", "--json"]);
    assert_eq!(letters.lines().count(), 5);
    let letter: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert_eq!(letter["origin"]["topic"], "wild");
    assert_eq!(letter["origin"]["version"], "1.0.0");
    assert!(
        letter["origin"]["reason"]
            .as_str()
            .unwrap()
            .contains("this record cannot be processed")
    );
    let tail = daemon.run(&["module", "dead-letters", "bad-actors", "--tail", "2"]);
    assert_eq!(tail.matches("trap by 1.0.0").count(), 2, "{tail}");

    // Not mended yet: all fail again, and stay letters.
    let said = daemon.run(&["module", "redrive", "bad-actors"]);
    assert!(said.contains("0 dead letters processed, 5 failed again"), "{said}");
    deploy(&daemon, "bad-actors", acting("log-flood", "1.0.1"));
    let said = daemon.run(&["module", "redrive", "bad-actors", "--dry-run"]);
    assert!(said.contains("5 dead letters would be processed again"), "{said}");
    let said = daemon.run(&["module", "redrive", "bad-actors", "--where", "code=trap"]);
    assert!(said.contains("5 dead letters processed, 0 failed again"), "{said}");
    assert_eq!(consume(&daemon, "tame").len(), 20);
    assert_eq!(consume(&daemon, "wild").len(), 20, "nobody else meets them again");
    daemon.kill();
    daemon.restart();
    until("it runs", || status(&daemon, "bad-actors")["state"] == "running");
    until("its tasks are taken", || {
        let status = status(&daemon, "bad-actors");
        status["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|task| task["member"].is_string())
    });
    let said = daemon.run(&["module", "redrive", "bad-actors"]);
    assert!(
        said.contains("0 dead letters processed, 0 failed again"),
        "each once: {said}"
    );
}

#[test]
fn a_module_is_rewound_to_a_moment() {
    let daemon = Daemon::start();
    create(&daemon, &["firehose", "team.orders", "team.users", "team.rest"], 2);
    deploy(&daemon, "route", |_| {});
    produce_everywhere(&daemon, "firehose", 2, 10, "orders.first");
    until("the first are routed", || consume(&daemon, "team.orders").len() == 20);
    daemon.run(&["module", "rewind", "route", "--to", "earliest"]);
    until("they are routed again", || consume(&daemon, "team.orders").len() == 40);
    daemon.run(&["module", "rewind", "route", "--to", "2001-01-01", "--reset-state"]);
    until("and again", || consume(&daemon, "team.orders").len() == 60);
    produce(&daemon, "firehose", ["orders.x".to_owned()]);
    until("and it goes on", || consume(&daemon, "team.orders").len() == 61);
}

#[tokio::test(flavor = "current_thread")]
async fn kill_nine_during_deploys_and_rollbacks_leaves_one_of_the_versions() {
    let seed = std::env::var("TIDEMILL_KILL_SEED").map_or(0x5645_5253, |text| text.parse().expect("a number"));
    eprintln!("TIDEMILL_KILL_SEED={seed} TIDEMILL_KILL_ROUNDS={}", rounds());
    let mut random = Random(seed);
    let mut daemon = Daemon::start();
    for topic in ["clicks", "sessions", "sessions.dlq"] {
        daemon.run(&["topic", "create", topic, "--partitions", &PARTITIONS.to_string()]);
    }
    deploy(&daemon, "sessionize", labelled("1.0.0"));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(client(&daemon).await, stop.clone()));
    for round in 0..rounds() {
        // What is asked for is cut off by the kill, or not: whatever came of it, it is one of the versions.
        let manifest = prepare(&daemon, "sessionize", labelled(&format!("1.{}.0", round + 1)));
        let path = manifest.to_str().unwrap().to_owned();
        let what: Vec<&str> = match random.below(5) {
            0 => vec!["module", "rollback", "sessionize"],
            1 => vec!["module", "deploy", &path, "--canary", "1"],
            2 => vec!["module", "promote", "sessionize"],
            _ => vec!["module", "deploy", &path],
        };
        let mut command = daemon.tidemill();
        command
            .args(&what)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(20 + random.below(1500))).await;
        daemon.kill();
        let _ = child.kill();
        let _ = child.wait();
        daemon.restart();
        let status = status(&daemon, "sessionize");
        let allowed = [status["number"].as_u64(), status["rollout"]["number"].as_u64(), Some(0)];
        for task in status["tasks"].as_array().unwrap() {
            // A task that is not taken yet may have the version that ran when it was taken last.
            let is_owned = task["member"].is_string();
            assert!(!is_owned || allowed.contains(&task["version"].as_u64()), "{status}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent = tokio::time::timeout(PATIENCE, writer)
        .await
        .expect("the writer ends")
        .unwrap();
    let sessions = holds(&daemon, sent).await;
    until("every rollout but a trial is over", || {
        let rollout = status(&daemon, "sessionize")["rollout"].clone();
        rollout.is_null() || rollout["canary"].is_object()
    });
    eprintln!(
        "  {sent} records, {} sessions, {} kills, {} versions kept",
        sessions.len(),
        rounds(),
        history(&daemon, "sessionize").len()
    );
}
