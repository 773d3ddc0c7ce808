//! Optional exports: set-up, hand-over, migration.
use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
};

use tidemill_broker::module::{
    Version,
    run::{Bucket, Kind, Migrated, Processed, Run, Verdict},
};

use super::fixture::{Fixture, batch, config, sent};
use crate::{Revoke, RevokeReason};

fn run_of(fixture: &Fixture, settings: &[(&str, &str)], command: &str) -> Run {
    let mut run = fixture.run_of(batch(0, &[(Some("k"), command)]));
    run.buckets = Arc::new(vec![Bucket {
        name: "kept".into(),
        rows: "kept".into(),
        ttl: None,
    }]);
    run.config = config(settings);
    run.limits.timeout_ms = 5_000;
    run
}

fn revoke(fixture: &Fixture, version: &Version, task: Option<u32>, reason: RevokeReason) -> Vec<Processed> {
    let (answer, answered) = mpsc::channel();
    fixture.lanes.revoke(Revoke {
        version: version.clone(),
        task,
        reason,
        done: Box::new(move |told| answer.send(told).unwrap()),
    });
    answered.recv().unwrap()
}

fn lines(processed: &Processed) -> Vec<&str> {
    processed.logs.iter().map(|line| line.message.as_str()).collect()
}

#[test]
fn an_instance_is_told_when_it_begins_and_when_it_takes_a_task() {
    let fixture = Fixture::new("probe");
    let first = fixture.run(run_of(&fixture, &[], "task"));
    assert_eq!(lines(&first), ["init", "on-assign"]);
    assert_eq!(sent(&first)[0].value.as_deref(), Some("Some(3)"));
    let second = fixture.run(run_of(&fixture, &[], "task"));
    assert_eq!(lines(&second), [""; 0], "it knows");
    let taken_again = Run {
        generation: 6,
        ..run_of(&fixture, &[], "task")
    };
    assert_eq!(lines(&fixture.run(taken_again)), ["on-assign"]);
}

#[test]
fn what_on_assign_writes_is_committed_with_the_first_batch() {
    let fixture = Fixture::new("probe");
    let fresh = || Run {
        is_fresh: true,
        ..run_of(&fixture, &[("assign", "count")], "get kept assigned")
    };
    let first = fixture.run(fresh());
    let again = fixture.run(fresh());
    assert_eq!(
        (lines(&again), &again.state),
        (vec!["on-assign"], &first.state),
        "not committed: called again"
    );
    assert_eq!((first.state.len(), first.state_growth), (1, 8 + 8 + 32));
    fixture.rows.commit(&again);
    let later = fixture.run(run_of(&fixture, &[("assign", "count")], "get kept assigned"));
    assert_eq!((lines(&later).len(), later.state.len()), (0, 0));
}

#[test]
fn init_may_refuse_and_has_no_task() {
    let fixture = Fixture::new("probe");
    let refused = fixture.run(run_of(&fixture, &[("init", "fail")], "x"));
    assert!(
        matches!(&refused.verdict, Verdict::Fatal(why) if why.contains("`init` failed") && why.contains("init = \"fail\"")),
        "{:?}",
        refused.verdict
    );
    let trapped = fixture.run(run_of(&fixture, &[("init", "state")], "x"));
    assert!(
        matches!(&trapped.verdict, Verdict::Failed { message, .. } if message.contains("`init` has no task")),
        "{:?}",
        trapped.verdict
    );
    assert_eq!(fixture.run(run_of(&fixture, &[], "x")).verdict, Verdict::Ack);
}

#[test]
fn a_task_that_leaves_is_said_to_its_instance() {
    let fixture = Fixture::new("probe");
    fixture.run(run_of(&fixture, &[], "x"));
    let version = run_of(&fixture, &[], "x").version;
    let other = Version {
        label: "2".into(),
        ..version.clone()
    };
    assert!(revoke(&fixture, &other, None, RevokeReason::Pause).is_empty());
    assert!(revoke(&fixture, &version, Some(4), RevokeReason::Pause).is_empty());
    let told = revoke(&fixture, &version, Some(3), RevokeReason::Rebalance);
    assert_eq!(lines(&told[0]), ["on-revoke 3 RevokeReason::Rebalance"]);
    assert!(
        revoke(&fixture, &version, None, RevokeReason::Shutdown).is_empty(),
        "the instance is gone"
    );
    assert_eq!(lines(&fixture.run(run_of(&fixture, &[], "x"))), ["init", "on-assign"]);
}

#[test]
fn every_instance_is_told_that_the_node_stops_when_what_runs_has_ended() {
    let fixture = Fixture::new("probe");
    let (answer, answered) = mpsc::channel();
    for number in 0..4 {
        let (mut run, answer) = (run_of(&fixture, &[], "x"), answer.clone());
        run.task.number = number;
        let done = move |processed| answer.send(processed).unwrap();
        fixture.lanes.submit(run, Box::new(done));
    }
    let first = answered.recv().unwrap();
    let (say, said) = mpsc::channel();
    fixture.lanes.close(Box::new(move |told| say.send(told).unwrap()));
    let told = said.recv().unwrap();
    // The others that had begun have been answered before; what waited is not answered at all.
    let ran: BTreeSet<u32> = answered.try_iter().chain([first]).map(|run| run.task.number).collect();
    assert_eq!(told.iter().map(|told| told.task.number).collect::<BTreeSet<_>>(), ran);
    for told in &told {
        let words = format!("on-revoke {} RevokeReason::Shutdown", told.task.number);
        assert_eq!(lines(told), [words]);
    }
    let (late, refused) = mpsc::channel::<Processed>();
    let done = move |processed| late.send(processed).unwrap();
    fixture.lanes.submit(run_of(&fixture, &[], "x"), Box::new(done));
    assert!(refused.recv().is_err(), "nothing is taken any more");
}

#[test]
fn a_module_without_lifecycle_is_told_nothing() {
    let fixture = Fixture::new("route");
    fixture.run(fixture.run_of(batch(0, &[(Some("order-1"), "x")])));
    let version = run_of(&fixture, &[], "x").version;
    assert!(revoke(&fixture, &version, None, RevokeReason::Pause).is_empty());
}

#[test]
fn a_rehearsal_runs_init_and_nothing_else() {
    let fixture = Fixture::new("probe");
    let rehearsal = |settings: &[(&str, &str)]| Run {
        kind: Kind::Rehearse,
        inputs: Vec::new(),
        ..run_of(&fixture, settings, "x")
    };
    let fine = fixture.run(rehearsal(&[]));
    assert_eq!(
        (&fine.verdict, fine.state_version, lines(&fine)),
        (&Verdict::Ack, Some(2), vec!["init"])
    );
    assert!(matches!(
        fixture.run(rehearsal(&[("init", "fail")])).verdict,
        Verdict::Fatal(_)
    ));
    let plain = Fixture::new("route");
    let rehearsed = plain.run(Run {
        kind: Kind::Rehearse,
        inputs: Vec::new(),
        ..run_of(&plain, &[], "x")
    });
    assert_eq!((rehearsed.verdict, rehearsed.state_version), (Verdict::Ack, None));
}

#[test]
fn state_is_migrated_a_chunk_at_a_time() {
    let fixture = Fixture::new("probe");
    for command in ["set kept a 1", "set kept b 2", "set kept c 3"] {
        fixture.rows.commit(&fixture.run(run_of(&fixture, &[], command)));
    }
    let migration = |from_version, cursor| Run {
        kind: Kind::Migrate { from_version, cursor },
        inputs: Vec::new(),
        ..run_of(&fixture, &[], "x")
    };
    let refused = fixture.run(migration(7, None));
    assert!(
        matches!(&refused.verdict, Verdict::Fatal(why) if why.contains("no way from layout 7")),
        "{:?}",
        refused.verdict
    );
    let (mut cursor, mut calls) = (None, 0);
    loop {
        let processed = fixture.run(migration(1, cursor));
        fixture.rows.commit(&processed);
        calls += 1;
        match processed.migrated.unwrap() {
            Migrated::Done => break,
            Migrated::More(next) => cursor = Some(next),
        }
    }
    let scanned = fixture.run(run_of(&fixture, &[], "scan kept - -"));
    assert_eq!((calls, sent(&scanned)[0].value.as_deref()), (3, Some("a=11 b=22 c=33")));
}
