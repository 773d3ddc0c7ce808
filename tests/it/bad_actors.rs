//! Every bad actor: the daemon lives, other modules go on, and the message names the record, the limit and its key in the manifest.
use std::process::Stdio;

use crate::{
    daemon::{Daemon, until},
    member::produce,
    modules::{deploy, status},
};

/// A daemon with a bad actor and a decent neighbour.
fn stage(act: &str, on_poison: &str) -> Daemon {
    stage_with(act, on_poison, &[])
}

/// The same with other `[limits]`.
fn stage_with(act: &str, on_poison: &str, limits: &[(&str, &str)]) -> Daemon {
    let daemon = Daemon::start();
    for topic in [
        "wild",
        "tame",
        "wild.dlq",
        "firehose",
        "team.orders",
        "team.users",
        "team.rest",
    ] {
        daemon.run(&["topic", "create", topic, "--partitions", "1"]);
    }
    deploy(&daemon, "bad-actors", |manifest| {
        manifest["config"]
            .as_table_mut()
            .unwrap()
            .insert("act".into(), act.into());
        manifest["dead-letter"]
            .as_table_mut()
            .unwrap()
            .insert("on-poison".into(), on_poison.into());
        for (key, value) in limits {
            let table = manifest["limits"].as_table_mut().unwrap();
            table.insert((*key).to_owned(), (*value).into());
        }
    });
    deploy(&daemon, "route", |_| {});
    daemon
}

fn provoke(daemon: &Daemon) {
    // Ten decent records around a bad one, in one batch.
    let input: String = (0..10)
        .map(|n| {
            if n == 6 {
                "k6=now\n".to_owned()
            } else {
                format!("k{n}=later\n")
            }
        })
        .collect();
    let file = daemon.scratch().join("wild.txt");
    std::fs::write(&file, input).unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", "wild", "--key-separator", "="])
        .stdin(std::fs::File::open(&file).unwrap());
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

fn count(daemon: &Daemon, topic: &str) -> usize {
    daemon
        .run(&["consume", topic, "--from", "earliest", "--until-end"])
        .lines()
        .count()
}

/// The neighbour does its work, so the daemon lives and its lanes are free.
fn the_neighbour_goes_on(daemon: &Daemon) {
    produce(daemon, "firehose", (0..20).map(|n| format!("orders.{n}")));
    until("the neighbour has done its work", || count(daemon, "team.orders") == 20);
}

/// An act that ends in the dead-letter topic: nine pass, one is given up, and the message says why.
fn is_isolated(act: &str, words: &[&str]) {
    is_isolated_on(&stage(act, "dead-letter"), act, words);
}

fn is_isolated_on(daemon: &Daemon, act: &str, words: &[&str]) {
    provoke(daemon);
    the_neighbour_goes_on(daemon);
    until("the record is given up and the others pass", || {
        count(daemon, "wild.dlq") == 1 && count(daemon, "tame") == 9
    });
    let dead = daemon.run(&["consume", "wild.dlq", "--from", "earliest", "--until-end", "--json"]);
    let logs = daemon.run(&["module", "logs", "bad-actors"]);
    let told = format!("{dead}\n{logs}\n{}", status(daemon, "bad-actors"));
    assert!(
        dead.contains("\"now\""),
        "the record itself is in the dead-letter topic: {dead}"
    );
    for word in words {
        assert!(told.contains(word), "{act}: nothing names {word:?} in\n{told}");
    }
}

#[test]
fn an_endless_loop_is_stopped() {
    is_isolated("endless-loop", &["batch.timeout", "wild"]);
}

#[test]
fn a_memory_bomb_is_stopped() {
    is_isolated("memory-bomb", &["limits.memory", "wild"]);
}

#[test]
fn deep_recursion_is_stopped() {
    is_isolated("deep-recursion", &["stack", "wild"]);
}

#[test]
fn huge_output_is_refused() {
    let daemon = stage("huge-output", "dead-letter");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("the module is paused or the record given up", || {
        status(&daemon, "bad-actors")["state"] != "running" || count(&daemon, "wild.dlq") == 1
    });
    let told = format!(
        "{}{}",
        status(&daemon, "bad-actors"),
        daemon.run(&["module", "logs", "bad-actors"])
    );
    assert!(told.contains("limits.output-bytes"), "{told}");
}

#[test]
fn a_panic_names_the_record_and_is_isolated() {
    is_isolated("panic", &["this record cannot be processed", "wild"]);
}

#[test]
fn a_poisonous_record_is_given_up_with_its_code() {
    is_isolated("poison", &["bad-record", "says so itself"]);
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    let daemon = stage("log-flood", "dead-letter");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("all records pass", || count(&daemon, "tame") == 10);
    let lines = daemon.run(&["module", "logs", "bad-actors"]);
    assert!(lines.lines().count() < 500, "{} lines", lines.lines().count());
    assert!(lines.contains("log-lines-per-second"), "{lines}");
}

#[test]
fn a_long_line_is_cut() {
    let daemon = stage("long-log-line", "dead-letter");
    provoke(&daemon);
    until("all records pass", || count(&daemon, "tame") == 10);
    let lines = daemon.run(&["module", "logs", "bad-actors"]);
    let longest = lines.lines().map(str::len).max();
    assert!((4_000..5_000).contains(&longest.unwrap_or(0)), "{longest:?} characters");
}

#[test]
fn a_spinner_that_ends_in_time_passes_and_is_charged() {
    let daemon = stage("spin", "dead-letter");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("all records pass", || count(&daemon, "tame") == 10);
    let usage = status(&daemon, "bad-actors")["usage"].clone();
    assert!(usage["cpu_us"].as_u64() > Some(0), "{usage}");
    let shown = daemon.run(&["module", "status", "bad-actors"]);
    assert!(
        shown.contains("of processor time") && shown.contains("cpu ms"),
        "{shown}"
    );
}

/// An act that needs the operator: the module pauses, offsets are kept, and `status` says what to change.
fn pauses(act: &str, words: &[&str]) {
    pauses_on(&stage(act, "dead-letter"), act, words);
}

fn pauses_on(daemon: &Daemon, act: &str, words: &[&str]) {
    provoke(daemon);
    the_neighbour_goes_on(daemon);
    until("the module pauses", || {
        status(daemon, "bad-actors")["state"] == "paused" || status(daemon, "bad-actors")["state"] == "failed"
    });
    assert_eq!(count(daemon, "tame"), 0, "nothing of the batch was committed");
    let told = status(daemon, "bad-actors").to_string();
    for word in words.iter().chain(&["record wild-0@6"]) {
        assert!(told.contains(word), "{act}: status does not name {word:?}: {told}");
    }
}

#[test]
fn an_undeclared_topic_pauses_the_module() {
    pauses("undeclared-topic", &["somebody-elses", "[[output]]"]);
}

#[test]
fn an_undeclared_bucket_pauses_the_module() {
    pauses("undeclared-bucket", &["somebody-elses", "[state."]);
}

#[test]
fn fatal_pauses_the_module() {
    pauses("fatal", &["the module wants to stop"]);
}

#[test]
fn a_flood_of_host_calls_is_stopped() {
    is_isolated("host-call-flood", &["batch.timeout", "wild"]);
}

#[test]
fn a_handle_bomb_is_stopped() {
    is_isolated("handle-bomb", &["1024 resource handles", "wild"]);
}

#[test]
fn a_huge_call_to_the_host_is_stopped() {
    let daemon = stage_with("huge-call", "dead-letter", &[("memory", "128MiB")]);
    is_isolated_on(&daemon, "huge-call", &["bytes in one call to the host", "wild"]);
}

#[test]
fn a_table_bomb_is_stopped() {
    let daemon = stage("none", "dead-letter");
    daemon.run(&["module", "delete", "bad-actors"]);
    deploy(&daemon, "bad-actors", |manifest| {
        let module = manifest["module"].as_table_mut().unwrap();
        let component = module["component"].as_str().unwrap().to_owned();
        let bomb = component.replace("../target/wasm32-wasip2/release/bad_actors.wasm", "table-bomb.wasm");
        module.insert("component".into(), bomb.into());
    });
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("every record is given up", || count(&daemon, "wild.dlq") == 10);
    let told = daemon.run(&["consume", "wild.dlq", "--from", "earliest", "--until-end", "--json"]);
    assert!(told.contains("elements was asked for, the most is 100000"), "{told}");
}

#[test]
fn exit_is_a_trap() {
    is_isolated("exit", &["exit", "wild"]);
}

#[test]
fn a_nonsense_ack_is_a_trap() {
    let daemon = stage("nonsense-ack", "dead-letter");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("everything is given up, because every batch ends so", || {
        count(&daemon, "wild.dlq") == 10
    });
    assert!(
        daemon
            .run(&["module", "logs", "bad-actors"])
            .contains("ack.first(1000000)")
    );
}

#[test]
fn there_are_no_files_no_network_and_no_environment() {
    for (act, code) in [
        ("files", "no-files"),
        ("network", "no-network"),
        ("environment", "no-environment"),
    ] {
        is_isolated(act, &[code, "wild"]);
    }
}

#[test]
fn a_sleeper_holds_up_nobody() {
    let daemon = stage("sleep", "dead-letter");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("all records pass", || count(&daemon, "tame") == 10);
}

#[test]
fn an_undeclared_metric_is_told_and_costs_nothing_else() {
    let daemon = stage("undeclared-metric", "dead-letter");
    provoke(&daemon);
    until("all records pass", || count(&daemon, "tame") == 10);
    let told = daemon.run(&["module", "logs", "bad-actors"]);
    assert!(
        told.contains("somebody-elses") && told.contains("metrics.counters"),
        "{told}"
    );
}

#[test]
fn a_huge_record_pauses_the_module() {
    let daemon = stage_with("huge-record", "dead-letter", &[("output-bytes", "4MiB")]);
    pauses_on(&daemon, "huge-record", &["max.message.bytes"]);
}

#[test]
fn more_state_than_a_batch_may_write_pauses_the_module() {
    pauses("state-quota", &["limits.state-write-bytes"]);
}

#[test]
fn more_state_than_a_task_may_have_pauses_the_module() {
    let limits = [("state-write-bytes", "8MiB"), ("state-bytes", "1MiB")];
    let daemon = stage_with("state-quota", "dead-letter", &limits);
    pauses_on(&daemon, "state-quota", &["limits.state-bytes"]);
}

#[test]
fn more_timers_than_a_batch_may_write_pause_the_module() {
    pauses("timer-bomb", &["limits.state-write-bytes"]);
}

#[test]
fn a_huge_timer_pauses_the_module() {
    pauses("huge-timer", &["65536 bytes"]);
}

#[test]
fn a_huge_state_key_or_value_pauses_the_module() {
    pauses("huge-key", &["4096 bytes"]);
    pauses("huge-value", &["1048576 bytes"]);
}

#[test]
fn with_on_poison_stop_the_module_pauses_at_the_record() {
    let daemon = stage("panic", "stop");
    provoke(&daemon);
    the_neighbour_goes_on(&daemon);
    until("the module pauses", || {
        status(&daemon, "bad-actors")["state"] != "running"
    });
    assert_eq!(count(&daemon, "wild.dlq"), 0);
}

#[test]
fn a_component_of_the_wrong_world_is_refused_at_deploy() {
    let daemon = Daemon::start();
    let wasm = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../guest-examples/target/wasm32-wasip2/release/wrong-world.wasm"
    );
    let manifest = daemon.scratch().join("wrong.toml");
    let text =
        format!("[module]\nname = \"wrong\"\nversion = \"1\"\ncomponent = \"{wasm}\"\n[[input]]\ntopic = \"wild\"\n");
    std::fs::write(&manifest, text).unwrap();
    let output = daemon
        .tidemill()
        .args(["module", "deploy", manifest.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("tidemill:processor/handler"), "{said}");
    assert!(
        daemon
            .run(&["module", "list"])
            .lines()
            .all(|line| !line.contains("wrong"))
    );
}
