//! Whatever happens, a module's outputs and state are the fold of its inputs: every input record has exactly one committed effect.
//!
//! A random script of records of all kinds, failing runs, held back, refused and lost proposals, restarts, pauses, upgrades, canaries
//! and rollbacks runs against the world of the golden scripts; then everything is let go, and what is in the logs and in the state is compared with what
//! is in the input. A failing script is printed, to be kept under `testscripts/modules/`.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_broker::{
    effect::{LogRead, Table},
    module::{run::TaskKey, state_key, timer_row},
};
use tidemill_protocol::batch::batches;

use crate::{Script, migrating, world::World};

const PARTITIONS: i32 = 2;

/// Values that the guest fails on by themselves; see `guest.rs`.
const KINDS: [&str; 10] = [
    "a", "b", "c", "alarm@", "timer@", "trap", "marked", "slow", "poison", "dead",
];
/// How many of them are good.
const GOOD: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Produce(i32, Vec<usize>),
    Process(usize),
    Acknowledge(usize),
    Fail(&'static str),
    Lose,
    Hold,
    Release(usize),
    Refuse,
    Tick(u32),
    Restart,
    Replay,
    Loaded,
    Pause,
    Resume,
    Redeploy(usize),
    Canary(usize),
    Promote,
    Rollback,
    CannotLoad,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PARTITIONS, prop::collection::vec(0..KINDS.len(), 1..6)).prop_map(|(to, kinds)| Step::Produce(to, kinds)),
        8 => (1..4usize).prop_map(Step::Process),
        2 => (0..3usize).prop_map(Step::Acknowledge),
        2 => prop_oneof![Just("trap"), Just("timeout"), Just("retry")].prop_map(Step::Fail),
        1 => Just(Step::Lose),
        2 => Just(Step::Hold),
        3 => (1..4usize).prop_map(Step::Release),
        1 => Just(Step::Refuse),
        4 => (1..2000u32).prop_map(Step::Tick),
        1 => Just(Step::Restart),
        1 => Just(Step::Replay),
        3 => Just(Step::Loaded),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        2 => (1..4usize).prop_map(Step::Redeploy),
        1 => (0..3usize).prop_map(Step::Canary),
        1 => Just(Step::Promote),
        1 => Just(Step::Rollback),
        1 => Just(Step::CannotLoad),
    ]
}

fn deploy(members: usize, version: usize) -> String {
    let retry = r#""retry":{"initial":"1ms","max":"10ms","max-attempts":1000},"batch":{"max-records":5}"#;
    // One in four migrates the state.
    let layout = version / 2 % 4 / 3 + version / 8 % 2;
    format!(
        "deploy m in=in out=out dlq=dlq late=0 idle=100 members={members} version={version} layout={layout} more='{retry}'"
    )
}

/// The steps as commands of a script; what cannot be done at the moment is left out.
fn command(world: &World, step: &Step, count: &mut usize) -> Option<String> {
    Some(match step {
        Step::Produce(partition, kinds) => {
            let mut line = format!("produce in/{partition}");
            for kind in kinds {
                *count += 1;
                line.push_str(&format!(" {}{count}", KINDS[*kind]));
            }
            line
        }
        Step::Process(runs) => format!("process {runs}"),
        Step::Acknowledge(records) => format!("process 1 first={records}"),
        Step::Fail(how) => format!("process 1 as={how}"),
        Step::Lose if world.runs.is_empty() => return None,
        Step::Lose => "lose".into(),
        Step::Hold => "hold".into(),
        Step::Release(entries) => format!("release {entries}"),
        Step::Refuse if !world.holds() => return None,
        Step::Refuse => "refuse".into(),
        Step::Tick(ms) => format!("tick {ms}"),
        Step::Restart => "restart".into(),
        Step::Replay => "replay".into(),
        Step::Loaded => "loaded m".into(),
        Step::Pause => "pause m".into(),
        Step::Resume => "resume m".into(),
        Step::Redeploy(members) => {
            *count += 1;
            deploy(*members, *count)
        }
        Step::Canary(tasks) => {
            *count += 1;
            format!("{} canary={tasks} failures=3 lag=50", deploy(2, *count))
        }
        Step::Promote => "promote m".into(),
        Step::Rollback => "rollback m".into(),
        Step::CannotLoad => "loaded m error=no".into(),
    })
}

struct Tester {
    script: Script,
    text: String,
}

impl Tester {
    fn exec(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        goldenscript::generate(&mut self.script, &format!("{line}\n---\n")).unwrap();
    }

    /// Values of a partition in order.
    fn values(&self, topic: &str, partition: i32) -> Vec<String> {
        let world = &self.script.0;
        let (log, _) = world.broker.state().log(topic, partition).unwrap();
        let all = LogRead {
            log,
            from: 0,
            until: i64::MAX,
            bytes_max: usize::MAX,
        };
        let mut values = Vec::new();
        for batch in batches(&world.store.read(&all).unwrap()) {
            for record in batch.unwrap().payload(usize::MAX).unwrap().records() {
                values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }

    fn lag(&self) -> i64 {
        let state = self.script.0.broker.state();
        let lag = |partition| {
            let (_, log) = state.log("in", partition).unwrap();
            let id = state.topics.get("in").unwrap().id;
            log.end
                - state
                    .offsets
                    .get("m", &id, partition)
                    .map_or(0, |committed| committed.offset)
        };
        (0..PARTITIONS).map(lag).sum()
    }

    /// Rows of the state that tasks have now: task, bucket, key, value.
    fn rows(&self) -> Vec<(u32, String, Vec<u8>, Bytes)> {
        let world = &self.script.0;
        let modules = &world.broker.state().modules;
        let deployment = modules.get("m").unwrap();
        let mut rows = Vec::new();
        for number in 0..PARTITIONS.unsigned_abs() {
            let task = modules.task_key(deployment, number);
            for ((table, row), value) in &world.store.rows {
                let own = state_key::in_task(&task, row).filter(|_| *table == Table::ModuleState);
                if let Some((bucket, key)) = own.and_then(state_key::split) {
                    rows.push((number, bucket.into(), key.to_vec(), value.clone()));
                }
            }
        }
        rows
    }

    /// Nothing is left of a state that nobody can ask for.
    fn check_rows(&self) {
        let state = self.script.0.broker.state();
        let deployment = state.modules.get("m").unwrap();
        let mut known = BTreeSet::new();
        for number in 0..PARTITIONS.unsigned_abs() {
            let own = state.modules.task_key(deployment, number);
            let task = state.modules.task("m", number).unwrap();
            let copy = task.migration.as_ref().map(|migration| migration.copy);
            let kept = task.kept.as_ref().and_then(|kept| kept.state);
            let others = copy.into_iter().chain(kept);
            let others = others.map(|deployment| TaskKey {
                deployment,
                ..own.clone()
            });
            known.extend(others.map(|key| state_key::task_prefix(&key)));
            known.insert(state_key::task_prefix(&own));
        }
        for (table, row) in self.script.0.store.rows.keys() {
            assert!(
                *table != Table::ModuleState || known.contains(&row[..12]),
                "{row:?} is nobody's"
            );
        }
    }

    /// Lets everything go on until all input is processed. A restart first: lost runs are answered by nobody.
    fn finish(&mut self) {
        for line in ["release", "restart", "resume m", "loaded m"] {
            self.exec(line);
        }
        for _ in 0..300 {
            let has_timers = self.rows().iter().any(|(_, bucket, ..)| bucket == timer_row::ROWS);
            let deployment = self.script.0.broker.state().modules.get("m").unwrap();
            let rolls_out = deployment
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.canary.is_none());
            if self.lag() == 0 && !has_timers && !rolls_out {
                return;
            }
            self.exec("loaded m");
            self.exec("process");
            self.exec("tick 500");
        }
        panic!("it gets nowhere: {:?}", self.script.0.broker.modules());
    }

    /// Every input record is an output, counted once, or a dead letter, and outputs have the order of the inputs.
    fn check(&self) {
        let deployment = self.script.0.broker.state().modules.get("m").unwrap();
        let rollout = deployment.rollout.as_ref();
        assert!(
            rollout.is_none_or(|rollout| rollout.canary.is_some()),
            "a rollout ends: {rollout:?}"
        );
        let mut counts: BTreeMap<String, String> = BTreeMap::new();
        for (_, bucket, key, value) in self.rows() {
            assert_eq!(bucket, "seen");
            let layout = deployment.running().state_version;
            let count = migrating::count(layout, &value).to_string();
            let double = counts.insert(String::from_utf8(key).unwrap(), count);
            assert_eq!(double, None, "a record is counted by one task");
        }
        self.check_rows();
        let mut outputs = 0;
        for partition in 0..PARTITIONS {
            let (input, output) = (self.values("in", partition), self.values("out", partition));
            let dead = self.values("dlq", partition);
            // A timer is an output when it fires, which may be later.
            let in_place = |values: &[String]| -> Vec<String> {
                let values = values
                    .iter()
                    .filter(|value| !dead.contains(value) && !value.contains('@'));
                values.cloned().collect()
            };
            assert_eq!(in_place(&output), in_place(&input), "outputs of partition {partition}");
            for timer in input
                .iter()
                .filter(|value| value.contains('@') && !dead.contains(value))
            {
                let fired = output.iter().filter(|value| *value == timer).count();
                assert_eq!(fired, 1, "{timer} of partition {partition} fires once");
            }
            assert_eq!(
                input.len(),
                output.len() + dead.len(),
                "dead letters of partition {partition}: {dead:?}"
            );
            for value in &output {
                assert_eq!(counts.get(value).map(String::as_str), Some("1"), "count of {value}");
            }
            let good = |value: &&String| !KINDS[GOOD..].iter().any(|kind| value.starts_with(kind));
            assert!(output.iter().all(|value| good(&value)));
            outputs += output.len();
        }
        assert_eq!(counts.len(), outputs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn outputs_and_state_are_the_fold_of_the_inputs(steps in prop::collection::vec(step(), 1..60)) {
        let mut tester = Tester { script: Script(World::new()), text: String::new() };
        for topic in ["in", "out", "dlq"] {
            tester.exec(&format!("create {topic} partitions={PARTITIONS}"));
        }
        tester.exec(&deploy(2, 0));
        tester.exec("loaded m");
        let mut count = 0;
        for step in &steps {
            if let Some(line) = command(&tester.script.0, step, &mut count) {
                tester.exec(&line);
            }
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tester.finish();
            tester.check();
        }));
        prop_assert!(done.is_ok(), "{}", tester.text);
    }
}
