//! A sandbox for the tools of a module's author: components are compiled where they run and nothing is kept on disk.
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use tidemill_broker::module::run::{Limits, StateReader};
use wasmtime::component::Component;

use super::Sandbox;
use crate::{Error, artefact, call::Metering, check, code::Code, compile::Report, engine, instance::Instance, limits};

impl Sandbox {
    /// A sandbox that runs only what it is given by [`Sandbox::add`]. What its guests may do is the same as in a daemon.
    ///
    /// # Errors
    /// When this machine cannot run compiled code.
    pub fn in_memory(reader: Arc<dyn StateReader>, metering: Metering) -> Result<Self, Error> {
        let engine = match metering {
            Metering::Time => engine::running()?,
            Metering::Instructions => engine::metered()?,
        };
        let mut sandbox = Self::over(engine, PathBuf::new(), reader)?;
        sandbox.metering = metering;
        Ok(sandbox)
    }

    /// Compiles a component in this process. Its author's own, or one that is trusted as much: see [`crate::compile`].
    ///
    /// # Errors
    /// When it is not a component that can run here.
    pub fn add(&self, component: &[u8]) -> Result<Report, Error> {
        check::check_bytes(component)?;
        let compiled = Component::new(&self.engine, component).map_err(Error::component)?;
        let report = check::check(&self.engine, &compiled)?;
        let code = Arc::new(Code::new(&self.engine, &compiled).map_err(Error::component)?);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.insert(artefact::digest(component), code);
        Ok(report)
    }

    /// Drops every instance, as the end of the process would.
    pub fn drop_instances(&self) {
        while self.idle.make_room() {}
    }

    /// Gives the next call its instructions, where they are counted.
    pub(super) fn fuel(&self, instance: &mut Instance, limits: &Limits) {
        if self.metering == Metering::Instructions {
            let fuel = u64::from(limits.timeout_ms).saturating_mul(limits::FUEL_PER_MS);
            instance.store.set_fuel(fuel).expect("the engine counts instructions");
        }
    }
}
