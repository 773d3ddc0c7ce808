//! Instances of guests, kept from batch to batch: to start one costs as much as to process a hundred records.
//!
//! An instance serves one task. It is replaced after a trap, after many batches, and when its memory has grown close to its limit.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tidemill_broker::module::{
    Version,
    run::{Limits, Run, TaskKey},
};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::{call::Guest, code::Functions, limits};

/// One guest with its memory.
pub(crate) struct Instance {
    /// Where it lives.
    pub(crate) store: Store<Guest>,
    /// What is called; `None` until it is instantiated.
    pub(crate) functions: Option<Functions>,
    /// For a component with `lifecycle`: the last run that the guest was told of by `on-assign`, without its records.
    pub(crate) assigned: Option<Arc<Run>>,
    batches: u32,
}

impl Instance {
    /// A store without a guest in it.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut store = Store::new(engine, Guest::new());
        store.limiter(|guest| &mut guest.memory);
        store.epoch_deadline_callback(|store| {
            // Only a call has a deadline; outside of one, no guest code runs.
            if let Some(call) = &store.data().call {
                call.check_time()?;
            }
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_max_component_handles(limits::HANDLES_MAX);
        Self {
            store,
            functions: None,
            assigned: None,
            batches: 0,
        }
    }

    /// Takes the bounds of the next call.
    pub(crate) fn bound(&mut self, limits: &Limits) {
        self.store.data_mut().memory.bound(limits.memory_bytes_max);
        // Columns of a full output must fit through one call, with their lengths.
        let host_call_bytes = limits::HOST_CALL_BYTES_MAX.max(limits.output_bytes_max.saturating_mul(2));
        self.store.set_hostcall_fuel(host_call_bytes);
    }

    /// Counts a batch; false if the instance should be replaced.
    pub(crate) fn is_good_for_another(&mut self, limits: &Limits) -> bool {
        self.batches += 1;
        let mark = limits.memory_bytes_max / 100 * limits::RECYCLE_MEMORY_PERCENT;
        self.batches < limits::INSTANCE_BATCHES_MAX && self.store.data().memory.bytes() <= mark.max(2 << 20)
    }
}

/// Whose instance. Two versions of a module may be the same code with other settings, which a guest may keep.
pub(crate) type Key = (Version, TaskKey);

/// Instances that wait for their next batch.
#[derive(Default)]
pub(crate) struct Idle {
    instances: Mutex<(u64, BTreeMap<Key, (u64, Instance)>)>,
}

impl Idle {
    /// Takes a task's instance.
    pub(crate) fn take(&self, key: &Key) -> Option<Instance> {
        let mut idle = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        idle.1.remove(key).map(|(_, instance)| instance)
    }

    /// Keeps an instance. The one that waited longest goes if there are too many.
    pub(crate) fn keep(&self, key: Key, instance: Instance) {
        let dropped = {
            let mut idle = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
            idle.0 += 1;
            let stamp = idle.0;
            let replaced = idle.1.insert(key, (stamp, instance));
            let oldest = if limits::IDLE_INSTANCES_MAX < idle.1.len() {
                idle.drop_oldest()
            } else {
                None
            };
            (replaced, oldest)
        };
        // Memory is given back outside of the lock.
        drop(dropped);
    }

    /// Drops the instance that waited longest; false if there was none.
    pub(crate) fn make_room(&self) -> bool {
        let dropped = self
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drop_oldest();
        dropped.is_some()
    }

    /// Takes out all instances of these keys.
    pub(crate) fn take_all(&self, of: impl Fn(&Key) -> bool) -> Vec<Instance> {
        let mut idle = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle.1.extract_if(.., |key, _| of(key));
        taken.map(|(_, (_, instance))| instance).collect()
    }
}

/// Oldest first, by stamp.
trait DropOldest {
    fn drop_oldest(&mut self) -> Option<Instance>;
}

impl DropOldest for (u64, BTreeMap<Key, (u64, Instance)>) {
    fn drop_oldest(&mut self) -> Option<Instance> {
        let oldest = self
            .1
            .iter()
            .min_by_key(|(_, (stamp, _))| *stamp)
            .map(|(key, _)| key.clone())?;
        self.1.remove(&oldest).map(|(_, instance)| instance)
    }
}
