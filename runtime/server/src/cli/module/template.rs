//! What a new project is made of: a guest example's own files, and the SDK that it builds against, all of them in this binary.
//!
//! Guarantees: a project is whole without this tree: the SDK and the WIT lie in `vendor/tidemill`, laid out as here, and what their
//! manifests inherit from a workspace is written out. Crates from crates.io are cargo's matter, in the versions of the lock file that the
//! examples are tested with.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::project::MANIFEST;
use crate::cli::Failure;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Where the examples are in the tree.
const EXAMPLES: &str = "guest-examples";
/// The SDK in the tree, and below [`VENDOR`] in a project.
const SDK: &str = "sdk/guest";
/// Where a project keeps the SDK and the WIT.
const VENDOR: &str = "vendor/tidemill";

/// A file of a new project.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the project.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) text: String,
}

/// The names that `--template` takes.
pub(super) fn names() -> Vec<&'static str> {
    let manifests = embedded::FILES.iter().filter_map(|(path, _)| {
        path.strip_prefix(EXAMPLES)?
            .strip_prefix('/')?
            .strip_suffix(MANIFEST)?
            .strip_suffix('/')
    });
    manifests.collect()
}

/// Every file of a project called `name`, made after `template`. `sdk` is a copy of the guest SDK to use instead of a vendored one.
pub(super) fn project(name: &str, template: &str, sdk: Option<&Path>) -> Result<Vec<File>, Failure> {
    if !names().contains(&template) {
        return Err(format!("no template {template}: there are {}", names().join(", ")).into());
    }
    let folder = format!("{EXAMPLES}/{template}");
    let is_rust = text(&format!("{folder}/Cargo.toml")).is_some();
    let mut files = Vec::new();
    for (path, text) in below(&folder) {
        let text = match path {
            "Cargo.toml" => cargo_manifest(text, name, sdk)?,
            _ => renamed(text, template, name),
        };
        files.push(file(path, text));
    }
    if is_rust {
        for shared in [".cargo/config.toml", "Cargo.lock"] {
            if let Some(text) = text(&format!("{EXAMPLES}/{shared}")) {
                files.push(file(shared, text.to_owned()));
            }
        }
        files.push(file(".gitignore", "/target\n".to_owned()));
    }
    for (path, text) in below("wit") {
        files.push(file(&format!("{VENDOR}/wit/{path}"), text.to_owned()));
    }
    if is_rust && sdk.is_none() {
        for (path, text) in below(SDK) {
            let text = match path {
                "Cargo.toml" => inherit(text, "Cargo.toml")?,
                _ => text.to_owned(),
            };
            files.push(file(&format!("{VENDOR}/{SDK}/{path}"), text));
        }
    }
    Ok(files)
}

fn file(path: &str, text: String) -> File {
    File {
        path: path.into(),
        text,
    }
}

fn text(path: &str) -> Option<&'static str> {
    let found = embedded::FILES.iter().find(|(name, _)| *name == path);
    found.map(|(_, text)| *text)
}

fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let files = embedded::FILES.iter();
    files.filter_map(move |(path, text)| Some((path.strip_prefix(folder)?.strip_prefix('/')?, *text)))
}

/// An example's file, which names the example where a project names itself and lies in a tree where a project lies alone.
fn renamed(text: &str, template: &str, name: &str) -> String {
    let file = |name: &str| name.replace('-', "_") + ".wasm";
    text.replace(&format!("name = \"{template}\""), &format!("name = \"{name}\""))
        .replace(&format!("\"name\": \"{template}\""), &format!("\"name\": \"{name}\""))
        .replace(&file(template), &file(name))
        .replace("../target/wasm32-wasip2", "target/wasm32-wasip2")
        .replace("../../wit", &format!("{VENDOR}/wit"))
        .replace(&format!("module deploy {template}"), "module deploy .")
        .replace(&format!("# {template}\n"), &format!("# {name}\n"))
}

/// The package's manifest, as the root of a workspace of its own.
fn cargo_manifest(text: &str, name: &str, sdk: Option<&Path>) -> Result<String, Failure> {
    let workspace = format!("{EXAMPLES}/Cargo.toml");
    let mut lines = Vec::new();
    for line in inherit(text, &workspace)?.lines() {
        lines.push(match line.split_once(" = ") {
            Some(("name", _)) => format!("name = \"{name}\""),
            Some(("tidemill-guest", _)) => dependency(sdk)?,
            _ => line.to_owned(),
        });
    }
    let profile = self::text(&workspace).and_then(|text| Some(&text[text.find("# Small and fast")?..]));
    Ok(format!(
        "{}\n\n# A project of its own, wherever it lies.\n[workspace]\n\n{}",
        lines.join("\n").trim_end(),
        profile.unwrap_or_default()
    ))
}

fn dependency(sdk: Option<&Path>) -> Result<String, Failure> {
    let path = match sdk {
        None => format!("{VENDOR}/{SDK}"),
        Some(sdk) => {
            if !sdk.join("Cargo.toml").is_file() {
                return Err(format!("{}: no guest SDK there (its folder is {SDK})", sdk.display()).into());
            }
            sdk.canonicalize()?.display().to_string()
        }
    };
    Ok(format!("tidemill-guest = {{ path = {} }}", Value::String(path)))
}

/// A cargo manifest with everything that it inherits from a workspace written out, line by line: comments and order stay.
fn inherit(text: &str, workspace: &str) -> Result<String, Failure> {
    let root: Table = self::text(workspace)
        .ok_or_else(|| format!("{workspace} is not in this binary"))?
        .parse()?;
    let given = |section: &str, key: &str| root["workspace"].get(section)?.get(key).cloned();
    let mut lines = Vec::new();
    let mut section = "";
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        // Lints are for those who change the SDK.
        if section == "[lints]" {
            continue;
        }
        let Ok(Some((key, own))) = line.parse::<Table>().map(|table| table.into_iter().next()) else {
            lines.push(line.to_owned());
            continue;
        };
        let inherits = own.get("workspace").is_some();
        let from = if section == "[package]" {
            "package"
        } else {
            "dependencies"
        };
        match given(from, &key) {
            Some(shared) if inherits => lines.push(format!("{key} = {}", merged(shared, own))),
            _ => lines.push(line.to_owned()),
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// A dependency as the workspace has it, with the features that the package adds.
fn merged(shared: Value, own: Value) -> Value {
    let Some(Value::Array(more)) = own.get("features").cloned() else {
        return shared;
    };
    let mut table = match shared {
        Value::Table(table) => table,
        version => Table::from_iter([("version".to_owned(), version)]),
    };
    let features = table.entry("features").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(features) = features {
        features.extend(
            more.into_iter()
                .filter(|feature| !features.contains(feature))
                .collect::<Vec<_>>(),
        );
    }
    Value::Table(table)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_template_makes_a_project_that_inherits_nothing() {
        for template in names() {
            let files = project("my-own", template, None).unwrap();
            for file in &files {
                if file.path.ends_with("Cargo.toml") {
                    let table: Table = file.text.parse().unwrap();
                    let inherits = |value: &Value| value.get("workspace").is_some();
                    let package = table["package"].as_table().unwrap();
                    let dependencies = table["dependencies"].as_table().unwrap();
                    assert!(
                        !package.values().chain(dependencies.values()).any(inherits),
                        "{}",
                        file.text
                    );
                }
            }
            let manifest = files.iter().find(|file| file.path == Path::new(MANIFEST)).unwrap();
            let manifest: tidemill_protocol::manifest::Manifest = toml::from_str(&manifest.text).unwrap();
            assert_eq!(manifest.module.name, "my-own", "{template}");
            assert!(
                files.iter().any(|file| file.path == Path::new("README.md")),
                "{template}"
            );
        }
        assert!(names().contains(&"redact") && !names().contains(&"bad-actors"));
    }
}
