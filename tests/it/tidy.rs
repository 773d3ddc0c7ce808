//! Rules of the house that are worth saying twice, checked over the tree itself. Each failure names the replacement.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What may stand behind each arrow of ARCHITECTURE.md: crate, then the workspace crates it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("sdk/protocol", &[]),
    ("sdk/guest", &[]),
    ("sdk/client", &["tidemill-protocol"]),
    ("runtime/broker", &["tidemill-protocol"]),
    ("runtime/storage", &["tidemill-protocol", "tidemill-broker"]),
    ("runtime/host", &["tidemill-protocol", "tidemill-broker"]),
    (
        "runtime/server",
        &[
            "tidemill-protocol",
            "tidemill-client",
            "tidemill-broker",
            "tidemill-storage",
            "tidemill-host",
        ],
    ),
];

/// Crates that only one member may name.
const SOLE_USERS: &[(&str, &[&str])] = &[
    ("redb", &["runtime/storage"]),
    ("wasmtime", &["runtime/host"]),
    ("quinn", &["sdk/client", "runtime/server", "tests"]),
];

const LINES_MAX: usize = 700;
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "docs",
    "guest-examples",
    "runtime",
    "sdk",
    "target",
    "tests",
    "wit",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn manifest(dir: &str) -> toml::Table {
    fs::read_to_string(root().join(dir).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

fn names(manifest: &toml::Table, section: &str) -> Vec<String> {
    manifest
        .get(section)
        .and_then(|t| t.as_table())
        .map(|t| t.keys().cloned().collect())
        .unwrap_or_default()
}

fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo: Vec<PathBuf> = ["runtime", "sdk", "guest-examples", "tests"]
        .map(|d| root().join(d))
        .to_vec();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root()).unwrap().to_path_buf(), text);
            }
        }
    }
    assert!(found.len() > 50, "the tree was not found");
    found
}

#[test]
fn dependencies_point_inward() {
    for (member, allowed) in ARROWS {
        for name in names(&manifest(member), "dependencies") {
            let ours = name.starts_with("tidemill");
            assert!(
                !ours || allowed.contains(&name.as_str()),
                "{member} must not depend on {name}: see ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn outside_things_have_one_owner() {
    let members = [
        "sdk/protocol",
        "sdk/client",
        "sdk/guest",
        "runtime/broker",
        "runtime/storage",
        "runtime/host",
    ];
    for member in members.into_iter().chain(["runtime/server", "tests", "tests/xtask"]) {
        let manifest = manifest(member);
        for name in names(&manifest, "dependencies")
            .into_iter()
            .chain(names(&manifest, "dev-dependencies"))
        {
            let owner = SOLE_USERS.iter().find(|(krate, _)| *krate == name);
            assert!(
                owner.is_none_or(|(_, users)| users.contains(&member)),
                "{member} must not name {name}"
            );
        }
    }
}

#[test]
fn every_dependency_is_in_the_one_list() {
    for (member, _) in ARROWS {
        let manifest = manifest(member);
        for section in ["dependencies", "dev-dependencies"] {
            for (name, spec) in manifest.get(section).and_then(|t| t.as_table()).into_iter().flatten() {
                // A crate may name itself by path to turn on a feature for its own tests.
                let itself = spec.get("path").and_then(|p| p.as_str()) == Some(".");
                let listed = itself || spec.get("workspace").and_then(|w| w.as_bool()) == Some(true);
                assert!(
                    listed,
                    "{member}: {name} takes its version from [workspace.dependencies]"
                );
            }
        }
    }
}

#[test]
fn the_core_and_the_protocol_are_no_std() {
    for lib in ["runtime/broker/src/lib.rs", "sdk/protocol/src/lib.rs"] {
        let text = fs::read_to_string(root().join(lib)).unwrap();
        assert!(text.contains("no_std"), "{lib} is #![no_std] + alloc");
    }
}

#[test]
fn every_file_says_what_it_is_and_has_one_subject() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//!"),
            "{}: open with a //! that says what it is",
            path.display()
        );
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{}: {lines} lines, split it by subject",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_over() {
    // Put together at run time so that this file does not find itself.
    let marks = [
        "TO_DO",
        "FIX_ME",
        "to_do!(",
        "unimplement_ed!(",
        "db_g!(",
        "#[ign_ore",
        "#[should_pan_ic",
    ];
    for (path, text) in sources() {
        for mark in marks
            .map(|m| m.replace('_', ""))
            .map(|m| m.replace("shouldpanic", "should_panic"))
        {
            assert!(
                !text.contains(&mark),
                "{}: {mark} must not be committed",
                path.display()
            );
        }
    }
}

#[test]
fn the_top_level_is_fixed() {
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || TOP_LEVEL.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

#[test]
fn the_runtime_asks_for_the_time_in_one_place_of_each_crate() {
    for (path, text) in sources() {
        let name = path.to_string_lossy();
        // A command line is a client; what stands in a folder of tests or benches is not the runtime.
        let exempt = ["/cli/", "/tests/", "/benches/", "/tests.rs", "/clock.rs"];
        if !name.starts_with("runtime/") || exempt.iter().any(|part| name.contains(part)) {
            continue;
        }
        for call in ["Instant::now()", "SystemTime::now()", "thread::spawn("] {
            assert!(
                !text.contains(call),
                "{name}: {call} hides an input: take the time from clock.rs or as an argument, and name threads with a Builder"
            );
        }
    }
}
