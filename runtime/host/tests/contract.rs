//! The contract only grows: whatever a released version of `wit/` said, the present one says too.
//!
//! The text of each release is kept in `fixtures/`. Files are compared as sets of declarations, so order, comments and layout are free.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeSet, fs, path::Path};

/// Declarations of a contract, each with the interface, world or resource that it is in.
fn declarations(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with("@since"))
        .collect();
    let mut found = BTreeSet::new();
    collect("", &code.join(" "), &mut found);
    found
}

/// Takes apart what is open to additions (interfaces, worlds, resources) and keeps the rest whole.
fn collect(within: &str, text: &str, found: &mut BTreeSet<String>) {
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(';').unwrap_or(rest.len());
        let is_block = rest.find('{').is_some_and(|open| open < end) && !rest.starts_with("use ");
        if !is_block {
            found.insert(format!("{within}{}", normal(&rest[..end])));
            rest = rest[(end + 1).min(rest.len())..].trim_start();
            continue;
        }
        let open = rest.find('{').unwrap();
        let close = open + closing(&rest[open..]);
        let (head, body) = (normal(&rest[..open]), &rest[open + 1..close]);
        if ["interface ", "world ", "resource "]
            .iter()
            .any(|kind| head.starts_with(kind))
        {
            found.insert(format!("{within}{head}"));
            collect(&format!("{within}{head}: "), body, found);
        } else {
            found.insert(format!("{within}{head} {{ {} }}", normal(body)));
        }
        rest = rest[close + 1..].trim_start();
    }
}

fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    panic!("a brace is not closed in {text:?}")
}

fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches(',').to_owned()
}

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn present() -> String {
    let mut files: Vec<_> = fs::read_dir(here("../../wit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wit"))
        .collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// What was released and is missing or different, and exports that a released world did not have.
fn broken(released: &str, present: &str) -> Vec<String> {
    let (released, present) = (declarations(released), declarations(present));
    let is_package = |line: &&String| line.starts_with("package ");
    let mut broken: Vec<String> = released
        .difference(&present)
        .filter(|line| !is_package(line))
        .cloned()
        .collect();
    let added = present.difference(&released).filter(|line| line.contains(": export "));
    let of_old_world = |line: &&String| line.split(": ").next().is_some_and(|world| released.contains(world));
    broken.extend(added.filter(of_old_world).cloned());
    broken
}

#[test]
fn the_contract_only_grew() {
    for release in fs::read_dir(here("tests/fixtures")).unwrap() {
        let path = release.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "wit") {
            continue;
        }
        let broken = broken(&fs::read_to_string(&path).unwrap(), &present());
        assert!(broken.is_empty(), "{} is broken by {broken:#?}", path.display());
    }
}

#[test]
fn a_change_is_found_and_an_addition_is_none() {
    let released = "package a:b@0.1.0; interface i { record r { a: u8, } f: func(x: u8) -> r; resource s { g: func(); } } \
                    world w { import i; export i; }";
    let changed = |from: &str, to: &str| broken(released, &released.replacen(from, to, 1));
    assert_eq!(changed("package a:b@0.1.0", "package a:b@0.1.1"), [""; 0]);
    assert_eq!(changed("f: func", "h: func(); f: func"), [""; 0]);
    assert_eq!(changed("g: func()", "g: func(); h: func()"), [""; 0]);
    assert_eq!(changed("world w", "interface j { } world w"), [""; 0]);
    assert_eq!(changed("import i;", "import i; import j;"), [""; 0]);
    for (from, to) in [
        ("a: u8", "a: u8, b: u8"),
        ("x: u8", "x: u16"),
        ("g: func();", ""),
        ("export i;", "export i; export j;"),
        ("interface i", "interface k"),
    ] {
        assert_ne!(changed(from, to), [""; 0], "{from} => {to}");
    }
}
