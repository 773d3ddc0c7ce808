//! What becomes of guests that misbehave: the host lives, the next batch runs, and the message names the record, the limit and its key.
use tidemill_broker::module::run::{Failure, Processed, Run, Verdict};

use super::fixture::{Fixture, KeyValue, batch, config, sent};

const RECORDS: [KeyValue<'_>; 3] = [(Some("a"), "later"), (Some("b"), "now"), (Some("c"), "later")];

fn act(actors: &Fixture, act: &str) -> Run {
    let mut run = actors.run_of(batch(40, &RECORDS));
    run.config = config(&[("act", act)]);
    run
}

fn failure(processed: Processed) -> (Failure, String) {
    assert!(processed.outputs.is_empty() && processed.next.is_empty());
    match processed.verdict {
        Verdict::Failed {
            kind,
            message,
            delivered,
            ..
        } => {
            assert_eq!(delivered, [("wild".to_owned(), 3, 40, 42, 3)]);
            (kind, message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bad_actor_is_stopped_and_the_next_batch_runs() {
    let actors = Fixture::new("bad_actors");
    let cases = [
        ("endless-loop", Failure::Timeout, "`batch.timeout` = 200 ms"),
        ("memory-bomb", Failure::Memory, "`limits.memory` = 16777216"),
        ("deep-recursion", Failure::Stack, "recursion"),
        ("panic", Failure::Trap, "this record cannot be processed"),
    ];
    for (name, kind, words) in cases {
        let (failed, message) = failure(actors.run(act(&actors, name)));
        assert!(
            failed == kind && message.contains(words),
            "{name}: {failed:?} {message}"
        );
        let tame = actors.run(act(&actors, "undeclared-bucket-not-reached-because-nobody-says-now").tamed());
        assert_eq!((&tame.verdict, sent(&tame).len()), (&Verdict::Ack, 3), "after {name}");
    }
}

trait Tamed {
    fn tamed(self) -> Self;
}

impl Tamed for Run {
    /// The same run without the record that sets the guest off.
    fn tamed(mut self) -> Self {
        self.inputs[0].records = batch(40, &[(None, "later"), (None, "later"), (None, "later")]);
        self
    }
}

#[test]
fn a_run_is_charged_for_the_processor_time_of_its_lane() {
    let actors = Fixture::new("bad_actors");
    let spun = actors.run(act(&actors, "endless-loop")).usage;
    // It spins for 200 ms, of which a busy machine may give it little.
    assert!(10_000 < spun.cpu_us && spun.cpu_us < 1_000_000, "{spun:?}");
    let tame = actors.run(act(&actors, "none").tamed()).usage;
    assert!(0 < tame.cpu_us && tame.cpu_us < spun.cpu_us, "{tame:?}");
}

#[test]
fn a_panic_names_its_record_and_its_frames() {
    let actors = Fixture::new("bad_actors");
    let processed = actors.run(act(&actors, "panic"));
    assert!(
        processed
            .logs
            .iter()
            .any(|line| line.message.contains("cannot be processed")),
        "{:?}",
        processed.logs
    );
    let Verdict::Failed {
        message,
        suspect: Some(at),
        ..
    } = processed.verdict
    else {
        panic!("{:?}", processed.verdict)
    };
    assert_eq!((at.topic.as_str(), at.partition, at.offset), ("wild", 3, 41));
    assert!(
        message.starts_with("record wild-3@41: ") && message.contains("bad_actors::"),
        "{message}"
    );
}

#[test]
fn a_panic_after_the_last_record_blames_none() {
    let actors = Fixture::new("bad_actors");
    let Verdict::Failed { suspect, message, .. } = actors.run(act(&actors, "panic-at-end")).verdict else {
        panic!("it does not fail")
    };
    assert!(
        suspect.is_none() && message.contains("no record is to blame"),
        "{message}"
    );
}

#[test]
fn a_reason_to_stop_names_the_record() {
    let actors = Fixture::new("bad_actors");
    let Verdict::Fatal(why) = actors.run(act(&actors, "undeclared-topic")).verdict else {
        panic!("it does not stop")
    };
    assert!(why.starts_with("record wild-3@41: "), "{why}");
}

#[test]
fn a_flood_of_logs_is_cut_and_the_batch_succeeds() {
    let actors = Fixture::new("bad_actors");
    let mut run = act(&actors, "log-flood");
    run.limits.timeout_ms = 10_000;
    let processed = actors.run(run);
    assert_eq!(processed.verdict, Verdict::Ack);
    assert!(processed.logs.len() <= 1_001, "{}", processed.logs.len());
    assert!(
        processed
            .logs
            .last()
            .unwrap()
            .message
            .contains("`limits.log-lines-per-second` = 50")
    );
}

#[test]
fn what_a_guest_returns_is_what_it_gets() {
    let actors = Fixture::new("bad_actors");
    let poison = actors.run(act(&actors, "poison"));
    let Verdict::Poison { at, code, .. } = poison.verdict else {
        panic!("{:?}", poison.verdict)
    };
    assert_eq!((at.offset, code.as_str()), (41, "bad-record"));
    let retry = actors.run(act(&actors, "retry"));
    assert!(
        matches!(retry.verdict, Verdict::Retry { ref reason, .. } if reason.contains("weather")),
        "{:?}",
        retry.verdict
    );
    let fatal = actors.run(act(&actors, "fatal"));
    assert!(
        matches!(fatal.verdict, Verdict::Fatal(ref reason) if reason.contains("wants to stop")),
        "{:?}",
        fatal.verdict
    );
}

#[test]
fn a_refused_limit_is_named_in_the_log() {
    let actors = Fixture::new("bad_actors");
    for (name, words) in [
        ("huge-output", "`limits.output-bytes` = 1048576"),
        ("undeclared-topic", "`topic = \"somebody-elses\"`"),
        ("undeclared-bucket", "`[state.somebody-elses]`"),
    ] {
        let processed = actors.run(act(&actors, name));
        assert_ne!(processed.verdict, Verdict::Ack);
        assert!(processed.outputs.is_empty());
        assert!(
            processed.logs.iter().any(|line| line.message.contains(words)),
            "{name}: {:?} {:?}",
            processed.verdict,
            processed.logs
        );
    }
}

#[test]
fn one_deployment_does_not_hold_up_another() {
    let actors = Fixture::new("bad_actors");
    let (answer, answered) = std::sync::mpsc::channel();
    let mut greedy = act(&actors, "endless-loop").version;
    greedy.module = "greedy".into();
    for _ in 0..20 {
        let mut run = act(&actors, "endless-loop");
        run.task.module = "greedy".into();
        run.version = greedy.clone();
        actors.lanes.submit(run, Box::new(|_| {}));
    }
    let begin = crate::clock::now();
    let run = act(&actors, "none").tamed();
    actors
        .lanes
        .submit(run, Box::new(move |processed| answer.send(processed).unwrap()));
    assert_eq!(answered.recv().unwrap().verdict, Verdict::Ack);
    assert!(begin.elapsed().as_millis() < 1_500);
    actors.lanes.cancel(&greedy);
}
