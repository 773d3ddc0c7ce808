//! Whether a component is one that can run here; if not, why, for the person who wrote it.
use wasmtime::{
    Engine,
    component::{
        Component,
        types::{self, ComponentItem},
    },
};

use crate::{
    Error,
    bindings::PACKAGE,
    code::{self, Code},
    limits, wasi,
};

/// Interfaces of `tidemill:processor` that a component may import.
const IMPORTS: [&str; 10] = [
    "types", "records", "producer", "state", "tables", "timers", "context", "config", "logging", "metrics",
];

/// What a component is made of, for the deployment's checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Interfaces it imports, with version.
    pub imports: Vec<String>,
    /// Linear memory it begins with, bytes.
    pub memory_bytes: u64,
}

/// Looks at the bytes before anything is compiled.
///
/// # Errors
/// When this is not a component at all.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::Component(why.into()));
    match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => {}
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            return wrong("this is a core module, not a component: build it with `--target wasm32-wasip2`");
        }
        [0x7f, b'E', b'L', b'F', ..] => {
            return wrong("this is a native or precompiled file: deploy the component itself (a `.wasm` file)");
        }
        _ => return wrong("this is not a WebAssembly component"),
    }
    if limits::COMPONENT_BYTES_MAX < bytes.len() {
        return wrong(&format!(
            "the component has {} bytes, the most is {}",
            bytes.len(),
            limits::COMPONENT_BYTES_MAX
        ));
    }
    Ok(())
}

/// Looks at imports and exports.
///
/// # Errors
/// When the component asks for what is not offered, or does not export what is called.
pub(crate) fn check(engine: &Engine, component: &Component) -> Result<Report, Error> {
    let ty = component.component_type();
    let mut imports = Vec::new();
    for (name, _) in ty.imports(engine) {
        check_import(name)?;
        imports.push(name.to_owned());
    }
    match code::export(component, "handler", "process") {
        Some((ComponentItem::ComponentFunc(_), _)) => {}
        _ => return Err(Error::Component(missing_handler(engine, &ty))),
    }
    let code = Code::new(engine, component).map_err(|error| differs(&error))?;
    code.check_types(component)
        .map_err(|(function, error)| differs(&error.context(function)))?;
    let memory_bytes = match component.resources_required() {
        Some(required) => required.max_initial_memory_size.unwrap_or(0),
        None => 0,
    };
    Ok(Report { imports, memory_bytes })
}

fn differs(error: &wasmtime::Error) -> Error {
    Error::Component(format!(
        "the component's interfaces are not those of tidemill:processor {}: build it with the WIT of this version ({})",
        crate::bindings::VERSION,
        crate::error::chain(error)
    ))
}

fn check_import(name: &str) -> Result<(), Error> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let why = if let Some(own) = interface.strip_prefix(PACKAGE) {
        if !IMPORTS.contains(&own) {
            format!(
                "imports `{name}`, which this version does not offer (offered: {})",
                IMPORTS.join(", ")
            )
        } else if !served(version) {
            format!(
                "imports `{name}`, but this version offers {}: build it with the WIT of this version",
                crate::bindings::VERSION
            )
        } else {
            return Ok(());
        }
    } else if wasi::INTERFACES.contains(&interface) {
        if version.starts_with("0.2.") {
            return Ok(());
        }
        format!("imports `{name}`; of WASI, 0.2 is offered: build with `--target wasm32-wasip2`")
    } else if interface.starts_with("wasi:http/") {
        format!("imports `{name}`: a module has no network")
    } else {
        format!("imports `{name}`, which nothing here offers")
    };
    Err(Error::Component(format!("the component {why}")))
}

/// 0.1.x is compatible with 0.1.0.
fn served(version: &str) -> bool {
    let compatible = |version: &str| version.rsplit_once('.').map(|(compatible, _)| compatible.to_owned());
    compatible(version).is_some_and(|version| Some(version) == compatible(crate::bindings::VERSION))
}

fn missing_handler(engine: &Engine, ty: &types::Component) -> String {
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    if exports.iter().any(|name| name.starts_with("wasi:cli/run")) {
        return "the component is a program with `main`, not a module: make it a library (`crate-type = [\"cdylib\"]`) \
                that exports `tidemill:processor/handler`"
            .into();
    }
    let found = if exports.is_empty() {
        "nothing".to_owned()
    } else {
        exports.join(", ")
    };
    format!(
        "the component does not export `tidemill:processor/handler@{}` with `process` (it exports {found})",
        crate::bindings::VERSION
    )
}
