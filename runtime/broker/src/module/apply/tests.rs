//! A commit is accepted whole or not at all, whatever of its conditions fails.
#![allow(clippy::unwrap_used)]
use alloc::{sync::Arc, vec};
use bytes::Bytes;
use tidemill_protocol::{ids::Uuid, manifest::Manifest};

use super::*;
use crate::{
    batch,
    effect::LogId,
    entry::{Command, Entry, NewTopic},
    module::{
        EventTimes,
        change::{Deploy, Migrate, Owner, Progress, Settle, Totals},
        migration::Step,
        run::Due,
    },
    state,
};

const IN: Uuid = Uuid([1; 16]);
const OUT: Uuid = Uuid([2; 16]);

struct Log(State, u64);

impl Log {
    fn apply(&mut self, command: Command) -> (state::Outcome, Changes) {
        self.1 += 1;
        self.0.apply(&Entry {
            index: self.1,
            term: 1,
            node: 1,
            time: 7,
            command,
        })
    }

    fn module(&mut self, change: Change) -> (Outcome, Changes) {
        let (state::Outcome::Module(outcome), changes) = self.apply(Command::Module(change)) else {
            panic!("a module's command has a module's outcome")
        };
        (outcome, changes)
    }
}

/// The module with this layout of its state.
fn deploy(state_version: u32) -> Change {
    let json = r#"{"module":{"name":"m"},"input":[{"topic":"in"}],"output":[{"topic":"out"}],"state":{"s":{}}}"#;
    let manifest: Arc<Manifest> = Arc::new(serde_json::from_str(json).unwrap());
    Change::Deploy(Deploy {
        manifest,
        digest: [u8::try_from(state_version).unwrap(); 32],
        state_version,
        topics: vec![],
        by: "a".into(),
        canary: None,
    })
}

fn owner() -> Owner {
    Owner {
        module: "m".into(),
        incarnation: 2,
        task: 0,
        generation: 3,
        member: "m-0".into(),
        epoch: -1,
    }
}

/// A module whose task 0 is claimed, and a commit that is fine. The group has no members, which lets epoch -1 commit.
fn ready() -> (Log, Commit) {
    let mut log = Log(State::default(), 0);
    let topic = |name: &str, id| NewTopic {
        name: name.into(),
        id,
        partitions: 1,
        configs: Default::default(),
    };
    log.apply(Command::CreateTopics(vec![topic("in", IN), topic("out", OUT)]));
    log.module(deploy(0));
    let claim = Claim {
        module: "m".into(),
        incarnation: 2,
        member: "m-0".into(),
        epoch: -1,
        tasks: vec![(0, 1)],
        starts: vec![],
    };
    assert_eq!(log.module(Change::Claim(claim)).0, Outcome::Claimed(3));
    let commit = Commit {
        owner: owner(),
        inputs: vec![Progress {
            topic: IN,
            partition: 0,
            expected: None,
            next: 5,
        }],
        outputs: vec![(LogId(1), batch::build(&[(b"k".to_vec(), Some(b"v".to_vec()))], 7))],
        state: vec![("s".into(), Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")))],
        state_growth: 34,
        event_time: None,
        due: None,
        firing: None,
        totals: Totals {
            records_in: 5,
            records_out: 1,
            batches: 1,
            given_up: 0,
        },
        redriven: None,
    };
    (log, commit)
}

#[test]
fn a_commit_is_one_entry_and_cannot_be_repeated() {
    let (mut log, commit) = ready();
    let (outcome, changes) = log.module(Change::Commit(commit.clone()));
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(changes.appends.len(), 2, "the output and the record of the offset");
    assert!(changes.rows.iter().any(|row| row.table == Table::ModuleState));
    assert_eq!(log.0.offsets.get("m", &IN, 0).unwrap().offset, 5);
    let before = log.0.clone();
    let (outcome, changes) = log.module(Change::Commit(commit));
    assert_eq!(outcome, Outcome::Refused(Refused::Moved(IN, 0)));
    assert_eq!((changes.appends.len(), log.0), (0, before));
}

#[test]
fn timers_fire_once() {
    let (mut log, commit) = ready();
    let due = Due {
        event_time: Some(9),
        wall_clock: None,
    };
    let firing = Commit {
        inputs: vec![],
        firing: Some(0),
        due: Some(due),
        event_time: Some(EventTimes {
            watermark: Some(7),
            latest: [(IN, 8)].into(),
        }),
        ..commit
    };
    let (outcome, changes) = log.module(Change::Commit(firing.clone()));
    assert_eq!((outcome, changes.appends.len()), (Outcome::Done, 1));
    let before = log.0.clone();
    let task = before.modules.task("m", 0).unwrap();
    assert_eq!((task.due, task.firings, task.state_bytes), (due, 1, 34));
    assert_eq!((task.event_time.watermark, task.event_time.latest[&IN]), (Some(7), 8));
    let (outcome, changes) = log.module(Change::Commit(firing.clone()));
    assert_eq!(outcome, Outcome::Refused(Refused::Fenced));
    assert_eq!((changes.appends.len(), &log.0), (0, &before));

    let back = EventTimes {
        watermark: Some(3),
        latest: [(IN, 4)].into(),
    };
    let later = Commit {
        firing: Some(1),
        event_time: Some(back),
        due: None,
        state_growth: -34,
        ..firing
    };
    assert_eq!(log.module(Change::Commit(later)).0, Outcome::Done);
    let task = log.0.modules.task("m", 0).unwrap();
    assert_eq!((task.due, task.firings, task.state_bytes), (due, 2, 0));
    assert_eq!(
        (task.event_time.watermark, task.event_time.latest[&IN]),
        (Some(7), 8),
        "it never goes back"
    );
}

#[test]
fn whatever_does_not_hold_refuses_all_of_it() {
    type Case = (fn(&mut Commit), Refused);
    let cases: [Case; 8] = [
        (|commit| commit.owner.module = "n".into(), Refused::UnknownModule),
        (|commit| commit.owner.incarnation -= 1, Refused::Fenced),
        (|commit| commit.owner.generation -= 1, Refused::Fenced),
        (|commit| commit.owner.member = "m-1".into(), Refused::Fenced),
        (|commit| commit.owner.task = 1, Refused::Fenced),
        (
            |commit| commit.owner.epoch = 1,
            Refused::Member(tidemill_protocol::error_code::ErrorCode::ILLEGAL_GENERATION),
        ),
        (|commit| commit.inputs[0].expected = Some(0), Refused::Moved(IN, 0)),
        (
            |commit| commit.outputs.push((LogId(99), Bytes::new())),
            Refused::OutputGone(LogId(99)),
        ),
    ];
    for (break_it, refused) in cases {
        let (mut log, mut commit) = ready();
        break_it(&mut commit);
        let before = log.0.clone();
        let (outcome, changes) = log.module(Change::Commit(commit));
        assert_eq!(outcome, Outcome::Refused(refused));
        assert_eq!(changes.appends, []);
        assert!(changes.rows.iter().all(|row| row.table == Table::Meta));
        assert_eq!(log.0, before);
    }
}

/// The task has state, and a release with another layout takes over; its first chunk.
fn migrating() -> (Log, Migrate, Commit) {
    let (mut log, commit) = ready();
    assert_eq!(log.module(Change::Commit(commit.clone())).0, Outcome::Done);
    assert_eq!(log.module(deploy(1)).0, Outcome::Done);
    let migrate = Migrate {
        owner: owner(),
        release: 2,
        expected: 0,
        rows: vec![("s".into(), Bytes::from_static(b"k"), Some(Bytes::from_static(b"w")))],
        growth: 0,
        step: Step::Migrating(None),
    };
    (log, migrate, commit)
}

#[test]
fn a_chunk_follows_the_one_before_it_or_is_refused() {
    type Case = (fn(&mut Migrate), Refused);
    let cases: [Case; 8] = [
        (|chunk| chunk.owner.module = "n".into(), Refused::UnknownModule),
        (|chunk| chunk.owner.incarnation -= 1, Refused::Fenced),
        (|chunk| chunk.owner.generation -= 1, Refused::Fenced),
        (|chunk| chunk.owner.member = "m-1".into(), Refused::Fenced),
        (|chunk| chunk.owner.task = 1, Refused::Fenced),
        (|chunk| chunk.release = 1, Refused::Fenced),
        (|chunk| chunk.release = 3, Refused::Fenced),
        (|chunk| chunk.expected = 1, Refused::Fenced),
    ];
    for (break_it, refused) in cases {
        let (mut log, mut chunk, _) = migrating();
        break_it(&mut chunk);
        let before = log.0.clone();
        let (outcome, changes) = log.module(Change::Migrate(chunk));
        assert_eq!((outcome, log.0), (Outcome::Refused(refused), before));
        assert!(changes.rows.iter().all(|row| row.table == Table::Meta));
    }
    let (mut log, chunk, _) = migrating();
    assert_eq!(log.module(Change::Migrate(chunk.clone())).0, Outcome::Done);
    let before = log.0.clone();
    assert_eq!(log.module(Change::Migrate(chunk)).0, Outcome::Refused(Refused::Fenced));
    assert_eq!(log.0, before, "the same chunk once more");
}

#[test]
fn while_the_state_is_on_its_way_nothing_is_committed_and_what_was_stays() {
    let (mut log, chunk, commit) = migrating();
    let (_, changes) = log.module(Change::Migrate(chunk.clone()));
    let own = log.0.modules.task("m", 0).unwrap().clone();
    let copy = own.migration.as_ref().unwrap().copy;
    let rows = changes.rows.iter().filter(|row| row.table == Table::ModuleState);
    let states: Vec<_> = rows.map(|row| row.key[..8].to_vec()).collect();
    assert_eq!(states, [copy.to_be_bytes()], "only the copy is written");
    assert_ne!(own.state, copy);
    let next = Commit {
        inputs: vec![Progress {
            topic: IN,
            partition: 0,
            expected: Some(5),
            next: 6,
        }],
        ..commit
    };
    let refused = Outcome::Refused(Refused::Fenced);
    assert_eq!(log.module(Change::Commit(next.clone())).0, refused);
    let settle = Settle {
        module: "m".into(),
        incarnation: 2,
        release: 2,
    };
    let done = Migrate {
        expected: 1,
        step: Step::Done(()),
        ..chunk
    };
    assert_eq!(log.module(Change::Migrate(done)).0, Outcome::Done);
    assert_eq!(log.module(Change::Settle(settle)).0, Outcome::Done);
    let task = log.0.modules.task("m", 0).unwrap();
    assert_eq!((task.state, task.layout, task.release), (copy, Some(1), 2));
    let kept = task.kept.as_ref().unwrap();
    assert_eq!((kept.state, &kept.offsets), (Some(own.state), &vec![(IN, 0, 5)]));
    assert_eq!(
        log.module(Change::Commit(next)).0,
        refused,
        "it is of an earlier incarnation"
    );
}

#[test]
fn a_pause_of_another_incarnation_is_refused() {
    let (mut log, _) = ready();
    let pause = |incarnation| {
        Change::Pause(Pause {
            module: "m".into(),
            incarnation,
            reason: "r".into(),
        })
    };
    assert_eq!(log.module(pause(Some(1))).0, Outcome::Refused(Refused::Fenced));
    assert_eq!(log.module(pause(Some(2))).0, Outcome::Done);
    assert_eq!(log.0.modules.get("m").unwrap().paused.as_deref(), Some("r"));
}

#[test]
fn entries_and_rows_survive_their_binary_form() {
    let (mut log, commit) = ready();
    log.module(Change::Commit(commit.clone()));
    let entry = Entry {
        index: 9,
        term: 1,
        node: 1,
        time: 7,
        command: Command::Module(Change::Commit(commit)),
    };
    assert_eq!(Entry::decode(Bytes::from(entry.encode().concat())).unwrap(), entry);
    let mut loaded = crate::module::Durable::default();
    let mut changes = Changes::default();
    let durable = &log.0.modules;
    durable.deployments["m"].save(&mut changes);
    durable.tasks["m"][&0].save("m", 0, &mut changes);
    changes.rows.iter().for_each(|row| loaded.load(row).unwrap());
    assert_eq!(&loaded, durable);
}
