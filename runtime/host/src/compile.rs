//! Compiling a component, once, at deploy, in a process of its own: a component made to exhaust the compiler exhausts only that process.
//!
//! The server starts its own binary again with bounds on address space and time, and calls [`main_in_child`] there. It reads what comes on
//! standard input, writes an artefact and one line: what the component imports, or why it cannot run.
use std::{
    io::{self, Read, Write},
    path::Path,
};

use wasmtime::component::Component;

pub use crate::check::Report;
use crate::{
    Error,
    artefact::{self, Artefacts},
    check, engine, limits,
};

/// Compiles a component into an artefact in `directory`.
///
/// # Errors
/// When it is not a component that can run here, or the disk refuses.
pub fn compile(component: &[u8], directory: &Path) -> Result<Report, Error> {
    check::check_bytes(component)?;
    let engine = engine::compiling()?;
    let compiled = Component::new(&engine, component).map_err(Error::component)?;
    let report = check::check(&engine, &compiled)?;
    let code = compiled.serialize().map_err(Error::component)?;
    Artefacts::new(directory, &engine).store(&artefact::digest(component), &code)?;
    Ok(report)
}

/// Looks at a component as [`compile()`] does, and keeps nothing.
///
/// # Errors
/// When it is not a component that can run here.
pub fn inspect(component: &[u8]) -> Result<Report, Error> {
    check::check_bytes(component)?;
    let engine = engine::compiling()?;
    let compiled = Component::new(&engine, component).map_err(Error::component)?;
    check::check(&engine, &compiled)
}

/// The whole life of the child: true if the component was compiled. What it has to say is one line on `output`, read by [`parse_report`].
///
/// # Errors
/// When `input` or `output` fail.
pub fn main_in_child(input: impl Read, mut output: impl Write, directory: &Path) -> io::Result<bool> {
    let mut component = Vec::new();
    input
        .take(limits::COMPONENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut component)?;
    let answer = compile(&component, directory);
    match &answer {
        Ok(report) => writeln!(output, "ok {} {}", report.memory_bytes, report.imports.join(" "))?,
        Err(error) => writeln!(output, "error {}", error.to_string().replace('\n', " "))?,
    }
    Ok(answer.is_ok())
}

/// Reads the child's line. `None` when there is none: the child was killed by its bounds.
pub fn parse_report(line: &str) -> Option<Result<Report, String>> {
    let line = line.trim_end();
    if let Some(error) = line.strip_prefix("error ") {
        return Some(Err(error.to_owned()));
    }
    let mut words = line.strip_prefix("ok ")?.split(' ');
    let memory_bytes = words.next()?.parse().ok()?;
    Some(Ok(Report {
        imports: words.filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        memory_bytes,
    }))
}
