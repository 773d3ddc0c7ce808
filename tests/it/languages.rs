//! Modules that are not written in Rust, built with their own language's tools by `cargo xtask languages`, in the real daemon.
//!
//! Where node or python is missing nothing was built: the tests then say SKIPPED and pass, and the chore says so too.
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    daemon::{Daemon, until},
    examples::{consume, create, header, produce_lines, values},
    modules::{deploy, status},
};

/// The component of an example, if it could be built here.
fn built(example: &str, component: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf();
    let path = root
        .join("guest-examples/target/languages")
        .join(example)
        .join("dist")
        .join(component);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED {example}: not built; `cargo xtask languages` builds it where node and python are installed");
    None
}

/// A daemon that may take its time: an engine of ten and more megabytes, compiled by an unoptimised compiler.
fn patient() -> Daemon {
    Daemon::with(&[("MODULES_COMPILE_TIMEOUT", "10min")])
}

fn deploy_built(daemon: &Daemon, example: &str, component: &Path) {
    let started = Instant::now();
    deploy(daemon, example, |manifest| {
        let module = manifest["module"].as_table_mut().unwrap();
        module.insert("component".into(), component.to_string_lossy().into_owned().into());
    });
    eprintln!("  {example} deployed after {:.1?}", started.elapsed());
}

#[test]
fn javascript_masks_and_gives_up_on_what_is_not_json() {
    let Some(component) = built("javascript-redact", "javascript_redact.wasm") else {
        return;
    };
    let mut daemon = patient();
    create(&daemon, &["events", "events.redacted", "events.dlq"], 1);
    deploy_built(&daemon, "javascript-redact", &component);
    let events =
        "a={\"user\":\"ann@example.org\",\"n\":[1,\"ü@ü.de\"]}\nb=not json\nc={\"card\":\"4111 1111 1111 1111\"}\n";
    produce_lines(&daemon, "events", events, &[]);
    until("two are redacted and one is given up", || {
        values(&daemon, "events.redacted").len() == 2 && values(&daemon, "events.dlq") == ["not json"]
    });
    let dead = &consume(&daemon, "events.dlq")[0];
    assert_eq!(header(dead, "tidemill.code"), "bad-json");
    daemon.kill();
    daemon.restart();
    produce_lines(&daemon, "events", "d={\"plain\":true}\n", &[]);
    until("the module goes on where it was", || {
        values(&daemon, "events.redacted").len() == 3
    });
    assert_eq!(
        values(&daemon, "events.redacted"),
        [
            r#"{"user":"***@example.org","n":[1,"***@ü.de"]}"#,
            r#"{"card":"**** **** **** 1111"}"#,
            r#"{"plain":true}"#
        ]
    );
}

#[test]
fn python_keeps_its_state_over_a_crash() {
    let Some(component) = built("python-sessions", "python_sessions.wasm") else {
        return;
    };
    let mut daemon = patient();
    create(&daemon, &["clicks", "visits", "visits.dlq"], 2);
    deploy_built(&daemon, "python-sessions", &component);
    produce_lines(
        &daemon,
        "clicks",
        "ann={\"event\":\"logged in\"}\nbob={\"event\":\"viewed\"}\nann={\"event\":\"added to cart\"}\nbob=nonsense\n",
        &[],
    );
    until("the nonsense is given up", || {
        values(&daemon, "visits.dlq") == ["nonsense"]
    });
    assert_eq!(header(&consume(&daemon, "visits.dlq")[0], "tidemill.code"), "bad-json");
    daemon.kill();
    daemon.restart();
    produce_lines(&daemon, "clicks", "ann={\"event\":\"paid\"}\n", &[]);
    produce_lines(&daemon, "clicks", "ann=\nbob=\n", &["--null-value", ""]);
    until("both visits are sent", || values(&daemon, "visits").len() == 2);
    let mut visits: Vec<serde_json::Value> = values(&daemon, "visits")
        .iter()
        .map(|v| serde_json::from_str(v).unwrap())
        .collect();
    visits.sort_by_key(|visit| visit["user"].to_string());
    let told = |n: usize| {
        (
            visits[n]["user"].clone(),
            visits[n]["events"].clone(),
            visits[n]["kind"].clone(),
        )
    };
    assert_eq!(told(0), ("ann".into(), 3.into(), "bought".into()));
    assert_eq!(told(1), ("bob".into(), 1.into(), "bounced".into()));
    assert_eq!(status(&daemon, "python-sessions")["state"], "running");
}
