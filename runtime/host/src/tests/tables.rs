//! Lookups in tables: what is there, what is not, and what is refused.
use std::sync::Arc;

use tidemill_broker::module::{
    run::{Run, Verdict},
    view::ViewId,
};
use tidemill_protocol::ids::Uuid;

use super::fixture::{Fixture, batch, config, sent};

const FACTS: ViewId = ViewId {
    topic: Uuid([7; 16]),
    began: 9,
};

fn run_of(fixture: &Fixture, command: &str) -> Run {
    let mut run = fixture.run_of(batch(0, &[(Some("k"), command)]));
    run.tables = Arc::new([("facts".into(), Some(FACTS)), ("gone".into(), None)].into());
    run.limits.timeout_ms = 5_000;
    run
}

fn refusal(fixture: &Fixture, command: &str) -> String {
    match fixture.run(run_of(fixture, command)).verdict {
        Verdict::Fatal(why) => why,
        other => panic!("{command} gave {other:?}"),
    }
}

#[test]
fn a_guest_gets_what_the_view_has_at_the_moment() {
    let fixture = Fixture::new("probe");
    let other = ViewId { began: 8, ..FACTS };
    fixture.rows.put(FACTS, b"a", b"1");
    fixture.rows.put(other, b"b", b"2");
    let look = || {
        let processed = fixture.run(run_of(&fixture, "look facts a b a"));
        sent(&processed)[0].value.clone().unwrap()
    };
    assert_eq!(look(), "1 - 1");
    fixture.rows.put(FACTS, b"b", b"3");
    assert_eq!(look(), "1 3 1", "nothing is remembered from the call before");
}

#[test]
fn what_is_not_declared_not_there_or_too_large_is_refused() {
    let fixture = Fixture::new("probe");
    let denied = fixture.run(run_of(&fixture, "look people a"));
    let Verdict::Fatal(why) = &denied.verdict else {
        panic!("{:?}", denied.verdict);
    };
    assert!(why.contains("people = \"TOPIC\""), "{why}");
    let told = |line: &str| denied.logs.iter().any(|log| log.message.contains(line));
    assert!(told("table `people` is not declared"), "{:?}", denied.logs);
    assert!(refusal(&fixture, "look gone a").contains("does not exist"));

    fixture.rows.put(FACTS, b"a", &[b'x'; 1 << 20]);
    let many = |count: usize| "look facts".to_owned() + &" a".repeat(count);
    assert!(refusal(&fixture, &many(17)).contains("ask for fewer keys"));
    fixture.rows.put(FACTS, b"a", b"1");
    let processed = fixture.run(run_of(&fixture, &many(17)));
    assert_eq!(sent(&processed)[0].value.as_deref(), Some(["1"; 17].join(" ").as_str()));
}

#[test]
fn without_a_task_there_are_no_tables() {
    let fixture = Fixture::new("probe");
    let mut run = run_of(&fixture, "look facts a");
    run.config = config(&[("init", "table")]);
    let trapped = fixture.run(run);
    assert!(
        matches!(&trapped.verdict, Verdict::Failed { message, .. } if message.contains("`init` has no task")),
        "{:?}",
        trapped.verdict
    );
}
