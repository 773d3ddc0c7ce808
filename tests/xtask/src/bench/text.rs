//! Puts a table between two marks of a page, and leaves the rest of the page as somebody wrote it.
use std::{fs, path::Path};

const BEGIN: &str = "<!-- results: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of results -->";

pub(super) fn replace(path: &Path, results: &str) -> Result<(), String> {
    let page = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let marked = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = marked.ok_or_else(|| format!("{}: the marks of the results are gone", path.display()))?;
    fs::write(path, format!("{before}{BEGIN}\n\n{results}\n{END}{after}"))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}
