//! What a module's author does, with the real binary: a project from a template, its checks, its build, its tests, its bench.
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, binary, text, until},
    modules,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn example(name: &str) -> String {
    root().join("guest-examples").join(name).display().to_string()
}

/// `tidemill module ...`, far from any daemon. All projects of these tests build into one folder.
fn module(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary())
        .arg("module")
        .args(args)
        .current_dir(folder)
        .env("TIDEMILL_BROKER", "127.0.0.1:1")
        .env("CARGO_TARGET_DIR", root().join("target/module-tests"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_new_module_is_checked_built_tested_and_measured() {
    let folder = TempDir::new().unwrap();
    text(
        &module(folder.path(), &["new", "my-masks", "--template", "redact"]),
        "new",
    );
    let project = folder.path().join("my-masks");
    let again = module(folder.path(), &["new", "my-masks"]);
    assert!(
        !again.status.success() && said(&again).contains("--path"),
        "{}",
        said(&again)
    );

    let unbuilt = module(&project, &["check", "--json"]);
    assert_eq!(unbuilt.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&unbuilt.stdout).unwrap();
    let missing: Vec<&Value> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["ok"] == false)
        .collect();
    assert_eq!(missing.len(), 1, "{findings}");
    assert_eq!(
        (&missing[0]["what"], &missing[0]["mend"]),
        (&"component".into(), &"tidemill module build".into())
    );

    let built: Value = serde_json::from_str(&text(&module(&project, &["build", "--json"]), "build")).unwrap();
    assert!(built["bytes"].as_u64().unwrap() > 10_000, "{built}");
    assert!(project.join("target/wasm32-wasip2/release/my_masks.wasm").is_file());
    text(&module(&project, &["check"]), "check");
    let tested = text(
        &module(&project, &["test", "--no-build", "--chaos", "1", "--rounds", "3"]),
        "test",
    );
    assert!(tested.contains("failed: 0"), "{tested}");
    let bench: Value = serde_json::from_str(&text(
        &module(&project, &["bench", "--no-build", "--records", "3000", "--json"]),
        "bench",
    ))
    .unwrap();
    assert!(
        bench["records"].as_u64() >= Some(3000) && bench["ns_per_record"].as_f64() > Some(0.0),
        "{bench}"
    );
}

#[test]
fn the_examples_do_what_their_fixtures_say_whatever_goes_wrong() {
    let mut examples: Vec<String> = fs::read_dir(root().join("guest-examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").is_file() && path.join("fixtures").is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    examples.sort();
    assert!(3 <= examples.len());
    for name in &examples {
        let output = module(
            &root(),
            &[
                "test",
                "--path",
                &example(name),
                "--no-build",
                "--chaos",
                "2026",
                "--rounds",
                "12",
                "--json",
            ],
        );
        let verdicts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let verdicts = verdicts.as_array().unwrap();
        assert!(!verdicts.is_empty(), "{name} has no fixtures");
        for verdict in verdicts {
            assert_eq!(verdict["ok"], true, "{name}: {verdict:#}");
        }
        assert!(output.status.success());
    }
}

#[test]
fn a_test_that_fails_shows_the_lines_that_differ() {
    let folder = TempDir::new().unwrap();
    let fixture = folder.path().join("wrong.toml");
    fs::write(
        &fixture,
        r#"
        step = [{ records = [{ key = "a", json = { mail = "ann@example.org" } }, { value = "{" }] }]
        expect = { outputs = [{ key = "a", json = { mail = "ann@example.org" } }], dead-letters = [] }
        "#,
    )
    .unwrap();
    let output = redacted(&fixture);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    for line in [
        r#"-key="a"  value={"mail":"ann@example.org"}"#,
        r#"+key="a"  value={"mail":"***@example.org"}"#,
        "code=bad-json",
        "fixtures: 1, failed: 1",
    ] {
        assert!(said.contains(line), "{line} is missing:\n{said}");
    }
}

/// `module test` of one fixture with the example `redact`.
fn redacted(fixture: &Path) -> Output {
    let path = fixture.to_str().unwrap();
    module(&root(), &["test", path, "--path", &example("redact"), "--no-build"])
}

#[test]
fn a_manifest_or_fixture_with_a_mistake_is_named_with_its_line() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("module.toml"), "[module]\nname = \"m\"\nnmae = 1\n").unwrap();
    let checked = module(folder.path(), &["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(said(&checked).contains("nmae"), "{}", said(&checked));

    let fixture = folder.path().join("f.toml");
    fs::write(&fixture, "[[step]]\nrecrods = []\n").unwrap();
    let tested = redacted(&fixture);
    assert!(
        !tested.status.success() && said(&tested).contains("recrods"),
        "{}",
        said(&tested)
    );
}

/// Produces lines, `key=value` each.
fn produce(daemon: &Daemon, topic: &str, lines: &str) {
    let input = daemon.scratch().join("lines.txt");
    fs::write(&input, lines).unwrap();
    let mut command = daemon.tidemill();
    command
        .args(["produce", topic, "--key-separator", "="])
        .stdin(fs::File::open(&input).unwrap());
    assert!(command.status().unwrap().success());
}

#[test]
fn state_is_looked_into_and_a_batch_is_replayed_over_it() {
    let daemon = Daemon::start();
    for topic in ["clicks", "sessions", "sessions.dlq"] {
        daemon.run(&["topic", "create", topic, "--partitions", "1"]);
    }
    modules::deploy(&daemon, "sessionize", |_| {});
    produce(
        &daemon,
        "clicks",
        "ann={\"event\":\"logged in\"}\nanton={\"event\":\"logged in\"}\nbob={\"event\":\"logged in\"}\nann=no json\n",
    );
    modules::until_caught_up(&daemon, "sessionize", 4);

    let lines = daemon.run(&["module", "state", "sessionize", "--prefix", "an", "--json"]);
    let keys: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(keys.len(), 2, "{lines}");
    assert_eq!((&keys[0]["task"], &keys[0]["key"]), (&0.into(), &"616e6e".into()));
    let shown = daemon.run(&["module", "state", "sessionize", "--bucket", "open", "--limit", "1"]);
    assert!(
        shown.starts_with("task 0  \"ann\"  [{") && shown.lines().count() == 1,
        "{shown}"
    );
    let wrong = daemon
        .tidemill()
        .args(["module", "state", "sessionize", "--bucket", "shut"])
        .output()
        .unwrap();
    assert!(
        !wrong.status.success() && said(&wrong).contains("declares: open"),
        "{}",
        said(&wrong)
    );

    let replay = |more: &[&str]| {
        let example = example("sessionize");
        let args = [
            "module",
            "replay",
            example.as_str(),
            "--no-build",
            "--partition",
            "0",
            "--offset",
            "2",
        ];
        daemon.run(&[&args[..], more].concat())
    };
    let fresh = replay(&[]);
    assert!(
        fresh.contains("2 records from 0@2") && fresh.contains("an empty state"),
        "{fresh}"
    );
    assert!(
        fresh.contains("code=bad-json") && fresh.contains("\"count\":1"),
        "{fresh}"
    );
    let over = replay(&["--state", "present", "--records", "1"]);
    // Bob's session is there already: his record is counted again, here and nowhere else.
    assert!(over.contains("\"count\":2") && over.contains("\"anton\""), "{over}");
    let component = root().join("guest-examples/target/wasm32-wasip2/release/sessionize.wasm");
    assert!(replay(&["--against", component.to_str().unwrap()]).contains("no difference"));
    assert!(
        daemon
            .run(&["module", "state", "sessionize", "--prefix", "bob"])
            .contains("\"count\":1")
    );
}

#[test]
fn dev_runs_every_change_on_live_data_and_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let folder = TempDir::new().unwrap();
    text(&module(folder.path(), &["new", "masks", "--template", "redact"]), "new");
    let project = folder.path().join("masks");
    // The first build takes as long as it takes.
    text(&module(&project, &["build"]), "build");
    daemon.run(&["topic", "create", "events", "--partitions", "1"]);
    produce(&daemon, "events", "a={\"mail\":\"ann@example.org\"}\n");

    let mut child = daemon
        .tidemill()
        .args(["module", "dev", project.to_str().unwrap(), "--from", "earliest"])
        .env("CARGO_TARGET_DIR", root().join("target/module-tests"))
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(fs::File::create(daemon.scratch().join("dev.log")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let log = || fs::read_to_string(daemon.scratch().join("dev.log")).unwrap();
    let topic = || {
        let topics = daemon.run(&["topic", "list"]);
        let own = topics
            .split_whitespace()
            .find(|word| word.starts_with("events.redacted.dev-"));
        own.map(str::to_owned)
    };
    let outputs = |topic: &str| daemon.run(&["consume", topic, "--from", "earliest", "--until-end"]);
    until("the try has masked a mail", || {
        topic().is_some_and(|topic| outputs(&topic).contains("***@example.org"))
    });

    let source = project.join("src/lib.rs");
    let changed = fs::read_to_string(&source)
        .unwrap()
        .replace("push_str(\"***\")", "push_str(\"someone\")");
    fs::write(&source, changed).unwrap();
    until("the change runs", || log().matches(" runs;").count() == 2);
    produce(&daemon, "events", "b={\"mail\":\"bob@example.org\"}\n");
    until("the change has masked a mail", || {
        topic().is_some_and(|topic| outputs(&topic).contains("someone@example.org"))
    });

    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success(), "{}", log());
    assert_eq!(topic(), None, "{}", log());
    assert!(!daemon.run(&["module", "list"]).contains("-dev-"));
    let topics = daemon.run(&["topic", "list"]);
    assert!(
        !topics.contains("events.redacted"),
        "the real output was never written: {topics}"
    );
}
