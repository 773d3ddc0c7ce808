//! A component ready to be instantiated: linked once for each version of a module, its exports found once.
use wasmtime::{
    Engine, Store,
    component::{
        Component, ComponentExportIndex, ComponentNamedList, ComponentType, Instance, InstancePre, Lift, Linker, Lower,
        Resource, TypedFunc, types::ComponentItem,
    },
};

use crate::{
    bindings::{
        PACKAGE, VERSION,
        tidemill::processor::{
            timers::Timer,
            types::{Ack, ProcessError, Task},
        },
    },
    call::Guest,
    delivery::Delivery,
    imports, wasi,
};

/// What a function answers that has nothing to say but why not.
pub(crate) type Text = (Result<(), String>,);
/// Arguments and answer of `handler.process`.
pub(crate) type Process = TypedFunc<(Resource<Delivery>,), (Result<Ack, ProcessError>,)>;
/// Of `timer-handler.on-timers`.
pub(crate) type OnTimers = TypedFunc<(Vec<Timer>,), (Result<(), ProcessError>,)>;
/// Of `migrator.migrate`.
pub(crate) type Migrate = TypedFunc<(Task, u32, Option<Vec<u8>>), (Result<Progress, String>,)>;

/// Why a task leaves: `lifecycle.revoke-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum RevokeReason {
    /// Another member of the group takes it.
    #[component(name = "rebalance")]
    Rebalance,
    /// The module is paused.
    #[component(name = "pause")]
    Pause,
    /// Another version takes it.
    #[component(name = "upgrade")]
    Upgrade,
    /// The node stops.
    #[component(name = "shutdown")]
    Shutdown,
}

/// How far a migration is: `migrator.progress`.
#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Progress {
    /// All of it is done.
    #[component(name = "done")]
    Done,
    /// Call again with this.
    #[component(name = "more")]
    More(Vec<u8>),
}

/// See the module's text.
#[derive(Clone)]
pub(crate) struct Code {
    pre: InstancePre<Guest>,
    exports: Exports,
}

/// Where the functions are that the host calls. Only `process` has to be there.
#[derive(Clone, Copy)]
struct Exports {
    process: ComponentExportIndex,
    /// `init`, `on-assign`, `on-revoke`.
    lifecycle: Option<[ComponentExportIndex; 3]>,
    on_timers: Option<ComponentExportIndex>,
    /// `state-version`, `migrate`.
    migrator: Option<[ComponentExportIndex; 2]>,
}

/// The functions of an instance.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    /// `handler.process`.
    pub(crate) process: Process,
    /// `lifecycle`, if the component has it.
    pub(crate) lifecycle: Option<Lifecycle>,
    /// `timer-handler.on-timers`, if the component has it.
    pub(crate) on_timers: Option<OnTimers>,
    /// `migrator`, if the component has it.
    pub(crate) migrator: Option<Migrator>,
}

/// Functions of `lifecycle`.
#[derive(Clone, Copy)]
pub(crate) struct Lifecycle {
    /// Once for each instance.
    pub(crate) init: TypedFunc<(), Text>,
    /// Before the first batch of a task.
    pub(crate) on_assign: TypedFunc<(Task,), Text>,
    /// After the last.
    pub(crate) on_revoke: TypedFunc<(Task, RevokeReason), ()>,
}

/// Functions of `migrator`.
#[derive(Clone, Copy)]
pub(crate) struct Migrator {
    /// The layout that the component reads and writes.
    pub(crate) state_version: TypedFunc<(), (u32,)>,
    /// Rewrites a chunk.
    pub(crate) migrate: Migrate,
}

impl Code {
    /// Links a component, and finds what it exports.
    ///
    /// # Errors
    /// When it imports something else than it should, or does not export `process`.
    pub(crate) fn new(engine: &Engine, component: &Component) -> wasmtime::Result<Self> {
        let find = |interface: &str, function: &str| Some(export(component, interface, function)?.1);
        let all = |interface, functions: &[&str]| -> Option<Vec<_>> {
            functions.iter().map(|function| find(interface, function)).collect()
        };
        let exports = Exports {
            process: find("handler", "process").ok_or_else(|| wasmtime::format_err!("no export `handler`"))?,
            lifecycle: all("lifecycle", &["init", "on-assign", "on-revoke"]).and_then(|found| found.try_into().ok()),
            on_timers: find("timer-handler", "on-timers"),
            migrator: all("migrator", &["state-version", "migrate"]).and_then(|found| found.try_into().ok()),
        };
        Ok(Self {
            pre: link(engine, component)?,
            exports,
        })
    }

    /// Whether timers can fire.
    pub(crate) fn handles_timers(&self) -> bool {
        self.exports.on_timers.is_some()
    }

    /// A new instance in a store, and the functions to call.
    ///
    /// # Errors
    /// When its start functions trap, or it begins with more memory than it may have.
    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Functions> {
        let instance = self.pre.instantiate(&mut *store)?;
        let Exports {
            process,
            lifecycle,
            on_timers,
            migrator,
        } = self.exports;
        let lifecycle = lifecycle.map(|[init, on_assign, on_revoke]| -> wasmtime::Result<_> {
            Ok(Lifecycle {
                init: function(&instance, store, init)?,
                on_assign: function(&instance, store, on_assign)?,
                on_revoke: function(&instance, store, on_revoke)?,
            })
        });
        let migrator = migrator.map(|[state_version, migrate]| -> wasmtime::Result<_> {
            Ok(Migrator {
                state_version: function(&instance, store, state_version)?,
                migrate: function(&instance, store, migrate)?,
            })
        });
        let on_timers = on_timers.map(|on_timers| function(&instance, store, on_timers));
        Ok(Functions {
            process: function(&instance, store, process)?,
            lifecycle: lifecycle.transpose()?,
            on_timers: on_timers.transpose()?,
            migrator: migrator.transpose()?,
        })
    }

    /// Whether the functions have the types of the contract; the first that has not.
    ///
    /// # Errors
    /// With what wasmtime says about it.
    pub(crate) fn check_types(&self, component: &Component) -> Result<(), (String, wasmtime::Error)> {
        let ty = self.pre.instance_type();
        let check = |interface: &str, function: &str| {
            let Some((ComponentItem::ComponentFunc(found), _)) = export(component, interface, function) else {
                return Err((
                    format!("{interface}.{function}"),
                    wasmtime::format_err!("the function is missing"),
                ));
            };
            let checked = match function {
                "process" => found.typecheck::<(Resource<Delivery>,), (Result<Ack, ProcessError>,)>(&ty),
                "init" => found.typecheck::<(), Text>(&ty),
                "on-assign" => found.typecheck::<(Task,), Text>(&ty),
                "on-revoke" => found.typecheck::<(Task, RevokeReason), ()>(&ty),
                "on-timers" => found.typecheck::<(Vec<Timer>,), (Result<(), ProcessError>,)>(&ty),
                "state-version" => found.typecheck::<(), (u32,)>(&ty),
                _ => found.typecheck::<(Task, u32, Option<Vec<u8>>), (Result<Progress, String>,)>(&ty),
            };
            checked.map_err(|error| (format!("{interface}.{function}"), error))
        };
        for (interface, functions) in INTERFACES {
            let is_there = interface == "handler" || has_export(component, interface);
            for function in functions.iter().filter(|_| is_there) {
                check(interface, function)?;
            }
        }
        Ok(())
    }
}

/// What a component may export, with its functions.
const INTERFACES: [(&str, &[&str]); 4] = [
    ("handler", &["process"]),
    ("lifecycle", &["init", "on-assign", "on-revoke"]),
    ("timer-handler", &["on-timers"]),
    ("migrator", &["state-version", "migrate"]),
];

fn function<P, R>(
    instance: &Instance,
    store: &mut Store<Guest>,
    index: ComponentExportIndex,
) -> wasmtime::Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    instance.get_typed_func(store, index)
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

/// Whether the component has this interface at all.
fn has_export(component: &Component, interface: &str) -> bool {
    component
        .get_export_index(None, format!("{PACKAGE}{interface}@{VERSION}").as_str())
        .is_some()
}

/// Finds a function of an exported interface.
pub(crate) fn export(
    component: &Component,
    interface: &str,
    function: &str,
) -> Option<(ComponentItem, ComponentExportIndex)> {
    let interface = component.get_export_index(None, format!("{PACKAGE}{interface}@{VERSION}").as_str())?;
    component.get_export(Some(&interface), function)
}
