//! Timers, what expires, ranges and quotas: the guest `probe` over state that is committed between its calls.
use std::sync::Arc;

use bytes::Bytes;
use tidemill_broker::module::run::{Bucket, Due, EventTime, Failure, Kind, Migrated, Processed, Run, Ttl, Verdict};
use tidemill_protocol::manifest::Clock;

use super::fixture::{Fixture, batch, config, sent};
use crate::limits;

/// A task of the probe from one commit to the next.
struct Task {
    fixture: Fixture,
    offset: i64,
    now: i64,
    state_bytes: u64,
    event_time: EventTime,
    due: Due,
    /// Of every run.
    change: fn(&mut Run),
}

impl Task {
    fn new() -> Self {
        Self {
            fixture: Fixture::new("probe"),
            offset: 0,
            now: 1_000,
            state_bytes: 0,
            event_time: EventTime::default(),
            due: Due::default(),
            change: |_| {},
        }
    }

    fn run_of(&self, commands: &[&str]) -> Run {
        let records: Vec<_> = commands.iter().map(|command| (Some("k"), *command)).collect();
        let mut run = self.fixture.run_of(batch(self.offset, &records));
        run.inputs[0].from = self.offset;
        let bucket = |name: &str, ttl: Option<Clock>| Bucket {
            name: name.into(),
            rows: if ttl.is_some() {
                format!("{name}!ttl")
            } else {
                name.into()
            },
            ttl: ttl.map(|clock| Ttl { ms: 100, clock }),
        };
        run.buckets = Arc::new(vec![
            bucket("kept", None),
            bucket("seen", Some(Clock::WallClock)),
            bucket("late", Some(Clock::EventTime)),
        ]);
        (run.now, run.state_bytes, run.event_time) = (self.now, self.state_bytes, Some(self.event_time));
        run.is_fresh = self.offset == 0;
        run.limits.timeout_ms = 5_000;
        (self.change)(&mut run);
        run
    }

    fn commit(&mut self, processed: &Processed) -> Vec<String> {
        assert_eq!(processed.verdict, Verdict::Ack, "{:?}", processed.logs);
        self.fixture.rows.commit(processed);
        self.state_bytes = self.state_bytes.checked_add_signed(processed.state_growth).unwrap();
        self.due = processed.due.unwrap_or(self.due);
        for (_, _, next) in &processed.next {
            self.offset = *next;
        }
        sent(processed).into_iter().map(|sent| sent.value.unwrap()).collect()
    }

    /// Runs commands and commits what came of them; the answers.
    fn run(&mut self, commands: &[&str]) -> Vec<String> {
        let processed = self.fixture.run(self.run_of(commands));
        self.commit(&processed)
    }

    fn firing(&self) -> Run {
        let mut run = self.run_of(&[]);
        run.inputs.clear();
        run.kind = Kind::Timers(1_000);
        run
    }

    fn fire(&mut self) -> Vec<String> {
        let processed = self.fixture.run(self.firing());
        self.commit(&processed)
    }

    /// Rows of all kinds.
    fn rows(&self) -> usize {
        self.fixture.rows.len()
    }
}

#[test]
fn timers_fire_in_order_and_once() {
    let mut task = Task::new();
    let ok = ["ok"; 4];
    assert_eq!(
        task.run(&["timer b 50", "timer a 70", "timer c 60", "alarm d 5000"]),
        ok
    );
    assert_eq!((task.due.event_time, task.due.wall_clock), (Some(50), Some(5_000)));
    assert_eq!(
        task.run(&["timer c 40", "cancel b", "cancel b"]),
        ["ok", "true", "false"]
    );
    assert_eq!(task.fire(), [""; 0], "nothing is due");

    task.event_time.watermark = Some(69);
    task.now = 5_000;
    let again = task.fixture.run(task.firing());
    let fired = task.fixture.run(task.firing());
    assert_eq!(
        (&again.state, &again.outputs),
        (&fired.state, &fired.outputs),
        "not committed: the same again"
    );
    assert_eq!(sent(&fired)[0].timestamp, 40);
    assert_eq!(task.commit(&fired), ["fired c 40", "fired d 5000"]);
    assert_eq!((task.due.event_time, task.due.wall_clock), (Some(70), None));
    task.event_time.watermark = Some(70);
    assert_eq!(task.fire(), ["fired a 70"]);
    assert_eq!((task.due, task.rows(), task.state_bytes), (Due::default(), 0, 0));
}

#[test]
fn a_timer_may_set_itself_again() {
    let mut task = Task::new();
    task.run(&["alarm again 500"]);
    assert_eq!(task.fire(), ["fired again 500"]);
    assert_eq!(task.due.wall_clock, Some(1_500));
    task.now = 1_500;
    assert_eq!(task.fire(), ["fired again 1500"]);
    assert_eq!(task.rows(), 2, "one timer");
}

#[test]
fn a_timer_that_fails_is_named_and_stays() {
    let mut task = Task::new();
    task.run(&["alarm trap 500", "alarm poison 400"]);
    let refused = task.fixture.run(task.firing());
    let Verdict::Failed { kind, message, .. } = &refused.verdict else {
        panic!("{:?}", refused.verdict)
    };
    assert_eq!(*kind, Failure::Trap);
    assert!(
        message.contains("timer `probe` of key \"poison\" due at 400: bad-timer"),
        "{message}"
    );
    task.run(&["set kept a 1"]);
    assert_eq!((task.due.wall_clock, refused.state.len()), (Some(400), 0));
}

#[test]
fn timers_need_event_time_and_room() {
    let mut task = Task::new();
    task.change = |run| run.event_time = None;
    let processed = task.fixture.run(task.run_of(&["timer a 1"]));
    assert!(
        matches!(&processed.verdict, Verdict::Fatal(why) if why.contains("max-out-of-order")),
        "{:?}",
        processed.verdict
    );
    task.change = |run| run.limits.state_bytes_max = 90;
    let processed = task.fixture.run(task.run_of(&["timer a 1"]));
    assert!(
        matches!(&processed.verdict, Verdict::Fatal(why) if why.contains("`limits.state-bytes` = 90")),
        "{:?}",
        processed.verdict
    );
}

#[test]
fn a_full_state_takes_what_makes_it_smaller() {
    let mut task = Task::new();
    task.change = |run| run.limits.state_bytes_max = 80;
    assert_eq!(task.run(&["set kept a 123456789", "set kept b 12"]), ["ok", "ok"]);
    assert_eq!(task.state_bytes, 1 + 9 + 32 + 1 + 2 + 32);
    let processed = task.fixture.run(task.run_of(&["set kept b 1", "set kept c 1"]));
    assert!(
        matches!(&processed.verdict, Verdict::Fatal(why) if why.contains("state of task 3 would be over `limits.state-bytes` = 80")),
        "{:?}",
        processed.verdict
    );
    assert_eq!(task.run(&["set kept b 1", "delete kept a", "set kept c 1"]), ["ok"; 3]);
    assert_eq!(task.state_bytes, 34 * 2);
    assert_eq!(task.run(&["scan kept - -", "clear kept - -"]), ["b=1 c=1", "2"]);
    assert_eq!((task.state_bytes, task.rows()), (0, 0));
}

#[test]
fn ranges_are_paged_both_ways_over_own_and_committed_writes() {
    let mut task = Task::new();
    let keys: Vec<String> = (0..600).map(|n| format!("set kept k{n:03} v")).collect();
    task.run(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let answers = task.run(&[
        "delete kept k300",
        "set kept k300a own",
        "scan kept k299 k302",
        "back kept k299 k302",
        "back kept - -",
    ]);
    assert_eq!(answers[2..4], ["k299=v k300a=own k301=v", "k301=v k300a=own k299=v"]);
    assert_eq!(answers[4].split(' ').count(), 600);
    assert!(answers[4].starts_with("k599=v") && answers[4].ends_with("k000=v"));
}

#[test]
fn what_has_expired_is_gone_at_once_and_removed_later() {
    let mut task = Task::new();
    task.run(&["set seen a 1", "set seen b 1", "add seen n 5"]);
    assert_eq!((task.rows(), task.state_bytes), (6, 34 + 34 + 41));
    task.now = 1_099;
    assert_eq!(
        task.run(&["get seen a", "set seen b 2", "scan seen - -"])[..2],
        ["1", "ok"]
    );
    task.now = 1_100;
    // Gone for the guest, whatever is still there.
    assert_eq!(
        task.run(&["get seen a", "scan seen - -", "back seen - -", "add seen n 1"]),
        ["-", "b=2", "b=2", "1"]
    );
    // The commit removed `a`; `b` was moved in the index, `n` is new.
    assert_eq!((task.rows(), task.state_bytes), (4, 34 + 41));
    task.now = 1_199;
    assert_eq!(task.run(&["scan seen - c"]), [""]);
    assert_eq!(task.rows(), 2);
    task.now = 1_200;
    task.run(&["nothing"]);
    assert_eq!((task.rows(), task.state_bytes), (0, 0));
}

#[test]
fn entries_live_by_event_time_where_the_manifest_says_so() {
    let mut task = Task::new();
    // Records of the fixture begin at 1,000.
    task.run(&["set late a 1"]);
    task.now = 1_000_000;
    task.event_time = EventTime {
        watermark: Some(1_099),
        latest: Some(1_110),
    };
    assert_eq!(task.run(&["get late a"]), ["1"]);
    task.event_time.watermark = Some(1_100);
    assert_eq!(
        task.run(&["get late a", "set late b 1", "watermark"]),
        ["-", "ok", "Some(1100)"]
    );
    assert_eq!(task.rows(), 2, "a is removed");
    task.event_time.watermark = Some(1_209);
    assert_eq!(
        task.run(&["get late b"]),
        ["1"],
        "written when the youngest record was of 1,110"
    );
}

#[test]
fn a_flood_of_expired_entries_is_removed_in_steps() {
    let mut task = Task::new();
    let keys: Vec<String> = (0..900).map(|n| format!("set seen k{n:03} v")).collect();
    task.run(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    task.now = 2_000;
    for left in [644, 388, 132, 0] {
        assert_eq!(task.run(&["scan seen - -"]), [""]);
        assert_eq!(task.rows(), left * 2);
    }
    assert_eq!(task.state_bytes, 0);
}

#[test]
fn the_watermark_and_event_times_are_those_of_the_batch() {
    let mut task = Task::new();
    let processed = task.fixture.run(task.run_of(&["watermark", "x", "y"]));
    assert_eq!(processed.event_times, [("wild".to_owned(), 3, 1_002)]);
    assert_eq!(task.commit(&processed)[0], "None");
    task.change = |run| run.event_time = None;
    assert_eq!(task.fixture.run(task.run_of(&["x"])).event_times, []);
}

/// Copies everything under the number of another state; chunks, and rows in all.
fn copy(task: &Task, to: u64) -> (usize, usize) {
    let (mut after, mut chunks, mut rows) = (Bytes::new(), 0, 0);
    loop {
        let mut run = task.run_of(&[]);
        run.inputs.clear();
        run.kind = Kind::Copy { after };
        let mut copied = task.fixture.run(run);
        assert_eq!((&copied.verdict, copied.state_growth), (&Verdict::Ack, 0));
        let bytes: usize = copied
            .state
            .iter()
            .map(|(_, _, value)| value.as_ref().unwrap().len())
            .sum();
        assert!(bytes < limits::COPY_BYTES + limits::STATE_VALUE_BYTES_MAX, "{bytes}");
        copied.task.deployment = to;
        task.fixture.rows.commit(&copied);
        (chunks, rows) = (chunks + 1, rows + copied.state.len());
        match copied.migrated.unwrap() {
            Migrated::Done => return (chunks, rows),
            Migrated::More(last) => after = last,
        }
    }
}

#[test]
fn a_copy_has_timers_and_what_expires_and_a_migration_makes_nothing_younger() {
    let mut task = Task::new();
    task.run(&["set kept a 1", "set seen b 2", "timer c 50", "alarm d 5000"]);
    let before = task.rows();
    assert_eq!(copy(&task, 8), (1, before));
    task.change = |run| {
        run.task.deployment = 8;
        run.config = config(&[("migrate", "seen")]);
    };
    task.now = 1_050;
    let mut run = task.run_of(&[]);
    run.inputs.clear();
    run.kind = Kind::Migrate {
        from_version: 1,
        cursor: None,
    };
    let migrated = task.fixture.run(run);
    assert_eq!(migrated.migrated, Some(Migrated::Done));
    task.commit(&migrated);
    task.now = 1_099;
    assert_eq!(task.run(&["get seen b", "get kept a"]), ["22", "1"]);
    task.now = 1_100;
    assert_eq!(task.run(&["get seen b", "set seen n 1"]), ["-", "ok"]);
    task.event_time.watermark = Some(50);
    assert_eq!(task.fire(), ["fired c 50"]);
    task.now = 5_000;
    assert_eq!(task.fire(), ["fired d 5000"]);
    task.change = |_| {};
    task.now = 1_099;
    assert_eq!(task.run(&["get seen b"]), ["2"], "what was is untouched");
}

#[test]
fn a_copy_is_made_in_chunks() {
    let task = Task::new();
    let mut large = Processed::nothing(&task.run_of(&[]), Verdict::Ack);
    let value = Bytes::from(vec![7; 100 << 10]);
    for n in 0..200u32 {
        let key = Bytes::copy_from_slice(&n.to_be_bytes());
        large.state.push(("kept".into(), key, Some(value.clone())));
    }
    task.fixture.rows.commit(&large);
    assert_eq!(copy(&task, 8), (19, 200), "eleven rows are more than a mebibyte");
    assert_eq!(task.rows(), 400);
}
