//! Members of consumer groups as processes, so that one can be killed like a machine that loses power: kcat (classic protocol, TCP)
//! and `tidemill consume` (KIP-848, QUIC). Each writes a line for every record it is given.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::daemon::{Daemon, until};

/// Which client a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's kcat: the classic group protocol over TCP.
    Kcat,
    /// `tidemill consume`: the SDK, KIP-848 over QUIC.
    Sdk,
}

impl Kind {
    /// The kinds that can run here; says visibly what is left out.
    pub fn here(test: &str) -> Vec<Kind> {
        if Command::new("kcat").arg("-V").output().is_ok() {
            return vec![Kind::Sdk, Kind::Kcat];
        }
        eprintln!("SKIPPED {test} by kcat: it is not installed (apt-get install kcat)");
        vec![Kind::Sdk]
    }
}

/// A record as a member saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
}

pub struct Member {
    child: Child,
    output: PathBuf,
}

impl Member {
    /// Joins a group and reads a topic from its beginning, committing as it goes.
    pub fn join(daemon: &Daemon, kind: Kind, group: &str, topic: &str, name: &str) -> Member {
        let output = daemon.scratch().join(format!("{group}-{name}.out"));
        let file = fs::File::create(&output).unwrap();
        let mut command = match kind {
            Kind::Kcat => {
                let mut command = Command::new("kcat");
                command
                    .args(["-b", &daemon.address(), "-G", group, "-u"])
                    .args(["-f", r#"{"partition":%p,"offset":%o,"key":"%k"}\n"#])
                    .args(["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=3000"])
                    .args([
                        "-X",
                        "heartbeat.interval.ms=300",
                        "-X",
                        "auto.commit.interval.ms=200",
                        topic,
                    ]);
                command
            }
            Kind::Sdk => {
                let mut command = daemon.tidemill();
                command.args(["consume", topic, "--group", group, "--from", "earliest", "--json"]);
                command
            }
        };
        let errors = fs::File::create(output.with_extension("err")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap();
        Member { child, output }
    }

    /// Everything it was given so far, in order; a line that is not whole yet is left out.
    pub fn seen(&self) -> Vec<Seen> {
        let text = fs::read_to_string(&self.output).unwrap();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let parse = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            Seen {
                partition: record["partition"].as_i64().unwrap() as i32,
                offset: record["offset"].as_i64().unwrap(),
                key: record["key"].as_str().unwrap_or_default().to_owned(),
            }
        };
        whole.lines().map(parse).collect()
    }

    pub fn partitions(&self) -> BTreeSet<i32> {
        self.seen().into_iter().map(|seen| seen.partition).collect()
    }

    /// SIGKILL: it does not leave the group, it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- a member said: {}",
                fs::read_to_string(self.output.with_extension("err")).unwrap_or_default()
            );
        }
    }
}

/// Distinct records that any of these members saw.
pub fn together<'m>(members: impl IntoIterator<Item = &'m Member>) -> BTreeSet<Seen> {
    members.into_iter().flat_map(Member::seen).collect()
}

/// Produces records `<prefix>0..count` with those keys, spread over partitions by key.
pub fn produce(daemon: &Daemon, topic: &str, keys: impl IntoIterator<Item = String>) {
    let input: String = keys.into_iter().map(|key| format!("{key}=of {key}\n")).collect();
    let file = daemon.scratch().join("input.txt");
    fs::write(&file, input).unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", topic, "--key-separator", "="])
        .stdin(fs::File::open(&file).unwrap());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "produce: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Produces one record to each partition, `rounds` times, so that whoever owns a partition shows it.
pub fn produce_everywhere(daemon: &Daemon, topic: &str, partitions: i32, rounds: u32, tag: &str) {
    for partition in 0..partitions {
        let input: String = (0..rounds).map(|n| format!("{tag}-{partition}-{n}=x\n")).collect();
        let file = daemon.scratch().join("input.txt");
        fs::write(&file, input).unwrap();
        let mut command = daemon.tidemill();
        command.args([
            "produce",
            topic,
            "--key-separator",
            "=",
            "--partition",
            &partition.to_string(),
        ]);
        let output = command.stdin(fs::File::open(&file).unwrap()).output().unwrap();
        assert!(
            output.status.success(),
            "produce: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What `group describe` says; null while there is no such group.
pub fn describe(daemon: &Daemon, group: &str) -> serde_json::Value {
    let output = daemon
        .tidemill()
        .args(["group", "describe", group, "--json"])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Waits until the group has this many members and is stable.
pub fn until_stable(daemon: &Daemon, group: &str, members: usize) {
    until(&format!("{group} is stable with {members} members"), || {
        let described = describe(daemon, group);
        let found = described["members"].as_array().map_or(0, Vec::len);
        found == members
            && described["state"]
                .as_str()
                .is_some_and(|state| state.eq_ignore_ascii_case("stable"))
    });
}

/// Offsets of each partition, in the order seen.
pub fn by_partition(seen: &[Seen]) -> BTreeMap<i32, Vec<i64>> {
    let mut map: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in seen {
        map.entry(record.partition).or_default().push(record.offset);
    }
    map
}
