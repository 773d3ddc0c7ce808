//! A component ready to be instantiated: linked once for each version of a module.
use wasmtime::{
    Engine, Store,
    component::{Component, ComponentExportIndex, InstancePre, Linker, Resource, TypedFunc, types::ComponentItem},
};

use crate::{
    bindings::{
        PACKAGE, VERSION,
        tidemill::processor::types::{Ack, ProcessError},
    },
    call::Guest,
    delivery::Delivery,
    imports, wasi,
};

/// `handler.process`.
pub(crate) type Process = TypedFunc<(Resource<Delivery>,), (Result<Ack, ProcessError>,)>;

/// See the module's text.
#[derive(Clone)]
pub(crate) struct Code {
    pre: InstancePre<Guest>,
    process: ComponentExportIndex,
}

impl Code {
    /// Links a component that [`crate::check::check`] has seen.
    ///
    /// # Errors
    /// When it imports or exports something else than it should.
    pub(crate) fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let pre = link(engine, component)?;
        let (_, process) = process_export(component).ok_or_else(|| wasmtime::format_err!("no export `handler`"))?;
        Ok(Self { pre, process })
    }

    /// A new instance in a store, and the function to call.
    ///
    /// # Errors
    /// When its start functions trap, or it begins with more memory than it may have.
    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Process> {
        let instance = self.pre.instantiate(&mut *store)?;
        instance.get_typed_func(store, self.process)
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").finish_non_exhaustive()
    }
}

/// Resolves the imports.
pub(crate) fn link(engine: &Engine, component: &Component) -> wasmtime::Result<InstancePre<Guest>> {
    let mut linker = Linker::new(engine);
    imports::link(&mut linker)?;
    wasi::link(&mut linker, &component.component_type())?;
    linker.instantiate_pre(component)
}

/// Finds `handler.process`.
pub(crate) fn process_export(component: &Component) -> Option<(ComponentItem, ComponentExportIndex)> {
    let handler = component.get_export_index(None, format!("{PACKAGE}handler@{VERSION}").as_str())?;
    component.get_export(Some(&handler), "process")
}
