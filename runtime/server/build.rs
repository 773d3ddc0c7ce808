//! Puts what `tidemill module new` writes into the binary: the guest SDK, the WIT and the guest examples, as they are in this tree.
//!
//! There is one copy of each file, and no list of them to keep. Writes `embedded.rs`: (path in the tree, text), in order of paths.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Files and folders below the project's root.
const EMBEDDED: [&str; 4] = ["Cargo.toml", "wit", "sdk/guest", "guest-examples"];
/// Folders that tools make.
const MADE_BY_TOOLS: [&str; 6] = ["target", "node_modules", "dist", "build", "__pycache__", "vendor"];
/// No templates: examples of what must not work, and `sessionize` built another way.
const NO_TEMPLATES: [&str; 3] = ["bad-actors", "wrong-world", "compact"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let root = root.canonicalize().expect("the crate lives in runtime/server");
    let mut files = Vec::new();
    for name in EMBEDDED {
        println!("cargo::rerun-if-changed={}", root.join(name).display());
        collect(&root.join(name), &mut files);
    }
    files.sort();
    let mut text = String::from("pub(super) static FILES: &[(&str, &str)] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&root).expect("it was found below the root");
        text += &format!("    ({:?}, include_str!({:?})),\n", name, file);
    }
    text += "];\n";
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(out, text).expect("cargo made the folder");
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_dir() {
        if MADE_BY_TOOLS.contains(&name) || NO_TEMPLATES.contains(&name) {
            return;
        }
        let entries = fs::read_dir(path).expect("a folder of the tree can be read");
        for entry in entries {
            collect(&entry.expect("a folder of the tree can be read").path(), files);
        }
    } else if fs::read(path).is_ok_and(|bytes| String::from_utf8(bytes).is_ok()) {
        files.push(path.to_owned());
    }
}
