//! A manifest reads as documented, reads back what it wrote, and refuses the rest with the key at fault.
#![allow(clippy::unwrap_used)]
use alloc::{
    format,
    string::{String, ToString},
};

use super::*;

const SMALLEST: &str = "[module]\nname = \"m\"\n[[input]]\ntopic = \"in\"\n";

fn parse(text: &str) -> Result<Manifest, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
}

/// The example at the top of `mod.rs`.
fn example() -> String {
    let lines = include_str!("mod.rs").lines();
    let lines = lines
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```");
    lines
        .map(|line| format!("{}\n", line.strip_prefix("//!").unwrap()))
        .collect()
}

#[test]
fn the_documented_example_is_valid_and_says_the_defaults() {
    let full = parse(&example()).unwrap();
    let defaults = parse(SMALLEST).unwrap();
    assert_eq!(
        (&full.retry, &full.batch, &full.limits),
        (&defaults.retry, &defaults.batch, &defaults.limits)
    );
    assert_eq!(full.on_poison(), OnPoison::DeadLetter);
    assert_eq!(defaults.on_poison(), OnPoison::Stop);
    assert_eq!(full.writable_topics().collect::<Vec<_>>(), ["sessions", "sessions.dlq"]);
}

#[test]
fn a_manifest_survives_json_and_toml() {
    for text in [example(), SMALLEST.to_string()] {
        let manifest = parse(&text).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest, "{json}");
        assert_eq!(parse(&toml::to_string(&manifest).unwrap()).unwrap(), manifest);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long = "x".repeat(250);
    let tables = (0..17).fold(String::from("[tables]"), |text, n| format!("{text}\nt{n} = \"t\""));
    for (extra, expected) in [
        ("colour = 1", "unknown field `colour`"),
        ("[batch]\nmax-record = 1", "unknown field `max-record`"),
        ("[batch]\nlinger = 5", "a duration with a unit"),
        (
            "[batch]\nmax-records = 0",
            "batch.max-records: 0 is not between 1 and 100000",
        ),
        (
            "[batch]\nmax-bytes = \"1GiB\"",
            "batch.max-bytes: 1GiB is not between 1KiB and 16MiB",
        ),
        (
            "[retry]\ninitial = \"5s\"\nmax = \"1s\"",
            "retry.max: 1s is not between 5s and 1d",
        ),
        ("[retry]\nfactor = 0.5", "retry.factor"),
        ("[dead-letter]\non-poison = \"dead-letter\"", "needs dead-letter.topic"),
        ("[dead-letter]\ntopic = \"in\"", "feed itself"),
        (
            "[dead-letter]\nstop-if = { failed = 3, of-last = 2 }",
            "dead-letter.stop-if.failed",
        ),
        ("[[output]]\ntopic = \"__consumer_offsets\"", "internal to the broker"),
        ("[[output]]\ntopic = \"a b\"", "not a topic name"),
        (&format!("[[output]]\ntopic = \"{long}\""), "not a topic name"),
        ("[[output]]\ntopic = \"o\"\n[[output]]\ntopic = \"o\"", "named twice"),
        (
            "[state.s]\nttl = \"1ms\"",
            "state.s.ttl: 1ms is not between 100ms and 3650d",
        ),
        ("[state.s]\nttl-clock = \"wall-clock\"", "state.s.ttl-clock"),
        (
            "[state.s]\nttl = \"1h\"\nttl-clock = \"event-time\"",
            "needs `max-out-of-order`",
        ),
        ("[state.s]\nversion = 2", "state.s.version"),
        (
            "[tables]\nusers = \"__consumer_offsets\"",
            "tables.users: \"__consumer_offsets\" is internal",
        ),
        ("[tables]\nusers = \"a b\"", "tables.users: \"a b\" is not a topic name"),
        ("[tables]\n\"a b\" = \"users\"", "table \"a b\" is not 1 to 64"),
        (&tables, "tables: there are 17, allowed are 0 to 16"),
        (
            "[limits]\nstate-bytes = \"1B\"",
            "limits.state-bytes: 1B is not between",
        ),
        ("[metrics]\ncounters = [\"a\"]\ngauges = [\"a\"]", "named twice"),
    ] {
        // Top-level keys must come before the tables in TOML.
        let text = if extra.starts_with('[') {
            format!("{SMALLEST}{extra}")
        } else {
            format!("{extra}\n{SMALLEST}")
        };
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{extra:?} gave {error:?}");
    }
}

#[test]
fn names_of_modules_are_legal_directories() {
    for name in ["", ".", "-x", "a/b", "ä", &"x".repeat(101)] {
        assert!(
            parse(&SMALLEST.replace("\"m\"", &format!("{name:?}"))).is_err(),
            "{name:?}"
        );
    }
}

#[test]
fn event_time_is_switched_on_by_its_bound() {
    assert!(!parse(SMALLEST).unwrap().has_event_time());
    let manifest = parse(&format!("{SMALLEST}max-out-of-order = \"30s\"")).unwrap();
    assert!(manifest.has_event_time());
    assert_eq!(manifest.input[0].idle_after(), Duration(30_000));
    let error = parse(&format!("{SMALLEST}idle-after = \"30s\"")).unwrap_err();
    assert!(error.contains("input.idle-after: nothing waits"), "{error}");
}

#[test]
fn another_guarantee_is_refused() {
    let error = parse(&SMALLEST.replace("name = ", "guarantee = \"at-least-once\"\nname = ")).unwrap_err();
    assert!(error.contains("exactly-once"), "{error}");
}

#[test]
fn a_start_may_be_a_moment() {
    let manifest = parse(&format!("{SMALLEST}start = \"2013-01-31T12:00:00Z\"")).unwrap();
    assert_eq!(manifest.input[0].start, Start::At(Moment(1_359_633_600_000)));
}
