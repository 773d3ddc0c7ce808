//! The table "One batch" of the module contract, row by row, without a broker around it.
#![allow(clippy::unwrap_used)]
use alloc::{vec, vec::Vec};

use super::*;

fn manifest(more: &str) -> Manifest {
    let text = format!(r#"{{"module":{{"name":"m"}},"input":[{{"topic":"in"}},{{"topic":"more"}}]{more}}}"#);
    serde_json::from_str(&text).unwrap()
}

const DEAD_LETTER: &str = r#","dead-letter":{"topic":"dlq"}"#;

/// A guest that fails on some offsets of topic `in`, and a task that reads it to the end.
struct Bench {
    manifest: Manifest,
    plan: Plan,
    positions: [i64; 2],
    ends: [i64; 2],
    given_up: Vec<i64>,
    runs: usize,
}

impl Bench {
    fn new(manifest: Manifest, ends: [i64; 2]) -> Self {
        Self {
            manifest,
            plan: Plan::default(),
            positions: [0, 0],
            ends,
            given_up: vec![],
            runs: 0,
        }
    }

    fn delivered(&self) -> Vec<Delivered> {
        let mut parts = vec![];
        for (place, topic) in ["in", "more"].into_iter().enumerate() {
            let end = self.ends[place].min(self.plan.until(place));
            let given = |offset: &i64| {
                self.plan
                    .give_up
                    .iter()
                    .any(|(at, record)| *at == place && record.offset == *offset)
            };
            let offsets: Vec<i64> = (self.positions[place]..end).filter(|offset| !given(offset)).collect();
            if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
                parts.push((topic.into(), 0, *first, *last, u32::try_from(offsets.len()).unwrap()));
            }
        }
        parts
    }

    fn decide(&mut self, verdict: Verdict) -> Next {
        let source = |(place, topic)| Source {
            topic,
            partition: 0,
            position: self.positions[place],
        };
        let sources: Vec<_> = ["in", "more"].into_iter().enumerate().map(source).collect();
        let window = Window::default();
        self.plan.failed(
            Case {
                manifest: &self.manifest,
                sources: &sources,
                window: &window,
            },
            verdict,
        )
    }

    fn commit(&mut self) {
        let ends = [0, 1].map(|place| self.ends[place].min(self.plan.until(place)).max(self.positions[place]));
        let done = |(place, record): &(usize, GiveUp)| (record.offset < ends[*place]).then_some(record.offset);
        self.given_up.extend(self.plan.give_up.iter().filter_map(done));
        self.positions = ends;
        self.plan.committed(&ends);
    }

    /// Runs until everything is read; `bad` are offsets of `in` on which the guest fails in this way.
    fn run(&mut self, kind: Failure, bad: &[i64]) -> Result<(), String> {
        while self.positions != self.ends {
            self.runs += 1;
            assert!(self.runs < 1000, "it never ends");
            let delivered = self.delivered();
            let has = |part: &Delivered| {
                part.0 == "in"
                    && bad.iter().any(|bad| {
                        (part.2..=part.3).contains(bad)
                            && !self.plan.give_up.iter().any(|(_, record)| record.offset == *bad)
                    })
            };
            if !delivered.iter().any(has) {
                self.commit();
                continue;
            }
            let message = "boom".to_string();
            match self.decide(Verdict::Failed {
                kind,
                message,
                suspect: None,
                delivered,
            }) {
                Next::Again => {}
                Next::After(_) => panic!("a trap does not wait"),
                Next::Pause(reason) => return Err(reason),
            }
        }
        Ok(())
    }
}

#[test]
fn bisecting_gives_up_exactly_the_bad_record() {
    for bad in 0..8 {
        let mut bench = Bench::new(manifest(DEAD_LETTER), [8, 0]);
        bench.run(Failure::Trap, &[bad]).unwrap();
        assert_eq!(bench.given_up, [bad]);
        assert!(bench.runs <= 12, "{} runs for {bad}", bench.runs);
    }
}

#[test]
fn bisecting_finds_several_bad_records_and_looks_into_every_input() {
    let mut bench = Bench::new(manifest(DEAD_LETTER), [100, 50]);
    bench.run(Failure::Memory, &[3, 4, 77, 99]).unwrap();
    assert_eq!(bench.given_up, [3, 4, 77, 99]);
    assert_eq!(bench.plan, Plan::default(), "nothing of it is left");
}

#[test]
fn a_timeout_is_tried_once_at_half_size_before_anybody_is_blamed() {
    let mut bench = Bench::new(manifest(DEAD_LETTER), [8, 0]);
    let delivered = bench.delivered();
    let at = Coordinates {
        topic: "in".into(),
        partition: 0,
        offset: 1,
    };
    let timeout = |delivered, suspect| Verdict::Failed {
        kind: Failure::Timeout,
        message: "slow".into(),
        suspect,
        delivered,
    };
    assert_eq!(bench.decide(timeout(delivered, Some(at.clone()))), Next::Again);
    assert_eq!(bench.plan.until(0), 4);
    assert!(bench.plan.give_up.is_empty());
    let delivered = bench.delivered();
    assert_eq!(bench.decide(timeout(delivered, Some(at))), Next::Again);
    assert_eq!(bench.plan.give_up[0].1.code, "timeout");
}

#[test]
fn retries_wait_longer_and_longer_and_then_pause() {
    let mut bench = Bench::new(
        manifest(r#","retry":{"initial":"100ms","max":"300ms","max-attempts":4}"#),
        [8, 0],
    );
    let retry = |delivered| Verdict::Retry {
        reason: "database".into(),
        after_ms: None,
        delivered,
    };
    let mut waits = vec![];
    let reason = loop {
        let delivered = bench.delivered();
        bench.ends[0] += 1; // New records do not get into a batch that is being retried.
        match bench.decide(retry(delivered)) {
            Next::After(wait) => waits.push(wait),
            Next::Again => panic!("a retry waits"),
            Next::Pause(reason) => break reason,
        }
        assert_eq!(bench.plan.until(0), 8);
    };
    assert_eq!(waits, [100, 200, 300]);
    assert_eq!(reason, "failed 4 times (retry.max-attempts): database");
}

#[test]
fn exhausted_retries_may_isolate_the_record_instead() {
    let more = r#","dead-letter":{"topic":"dlq"},"retry":{"max-attempts":1,"exhausted":"poison"}"#;
    let mut bench = Bench::new(manifest(more), [8, 0]);
    while bench.positions != bench.ends {
        let delivered = bench.delivered();
        if delivered.iter().any(|part| (part.2..=part.3).contains(&5)) {
            let verdict = Verdict::Retry {
                reason: "no".into(),
                after_ms: Some(7),
                delivered,
            };
            assert_eq!(bench.decide(verdict), Next::Again);
        } else {
            bench.commit();
        }
    }
    assert_eq!(bench.given_up, [5]);
}

#[test]
fn without_a_dead_letter_topic_poison_stops() {
    let mut bench = Bench::new(manifest(""), [8, 0]);
    let reason = bench.run(Failure::Trap, &[5]).unwrap_err();
    assert_eq!(reason, r#"in/0 offset 5: trap: boom (dead-letter.on-poison = "stop")"#);
    assert_eq!(bench.positions, [5, 0], "what is before it is committed");
}

#[test]
fn a_record_that_was_not_given_cannot_be_refused() {
    let mut bench = Bench::new(manifest(DEAD_LETTER), [8, 0]);
    for (topic, offset) in [("in", -1), ("other", 3)] {
        let at = Coordinates {
            topic: topic.into(),
            partition: 0,
            offset,
        };
        let verdict = Verdict::Poison {
            at,
            code: "c".into(),
            reason: "r".into(),
        };
        assert!(matches!(bench.decide(verdict), Next::Pause(_)));
    }
}

#[test]
fn stop_if_counts_what_is_about_to_be_given_up() {
    let mut bench = Bench::new(
        manifest(r#","dead-letter":{"topic":"dlq","stop-if":{"failed":2,"of-last":10}}"#),
        [8, 0],
    );
    let poison = |offset| Verdict::Poison {
        at: Coordinates {
            topic: "in".into(),
            partition: 0,
            offset,
        },
        code: "bad-json".into(),
        reason: "no".into(),
    };
    assert_eq!(bench.decide(poison(2)), Next::Again);
    let Next::Pause(reason) = bench.decide(poison(1)) else {
        panic!("two are too many")
    };
    assert!(reason.contains("at least 2 of the last 10"), "{reason}");
}

#[test]
fn a_failure_without_records_is_retried_and_then_stops() {
    let mut bench = Bench::new(manifest(r#","retry":{"max-attempts":2}"#), [8, 0]);
    let failed = || Verdict::Failed {
        kind: Failure::Memory,
        message: "cannot start".into(),
        suspect: None,
        delivered: vec![],
    };
    assert_eq!(bench.decide(failed()), Next::After(100));
    assert!(matches!(bench.decide(failed()), Next::Pause(_)));
}
