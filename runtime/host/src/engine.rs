//! The one engine: what a guest may be made of, how it is interrupted, where its memory comes from.
//!
//! Guarantees: an artefact compiled by [`compiling`] loads in [`running`], and two nodes compute the same result from the same batch
//! (NaN bits and relaxed SIMD are fixed). Does not run anything by itself: only the [`Ticker`] has a thread, and it sleeps while no guest
//! runs.
use std::{
    num::NonZeroUsize,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails,
};

use crate::{Error, limits};

/// An engine for the compiling child: nothing is ever instantiated in it, so it reserves no address space.
///
/// # Errors
/// When this machine cannot run compiled code at all.
pub(crate) fn compiling() -> Result<Engine, Error> {
    Engine::new(&config()).map_err(Error::engine)
}

/// The engine that runs guests, with a pool of instances; without one where address space is too short for it.
///
/// # Errors
/// When this machine cannot run compiled code at all.
pub(crate) fn running() -> Result<Engine, Error> {
    let mut pooled = config();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&pooled).or_else(|error| {
        tracing::warn!(%error, "no room for a pool of instances: each is allocated on demand, which is slower to start");
        compiling()
    })
}

/// An engine in which instructions are counted instead of time: the same call ends the same way on every machine.
///
/// # Errors
/// When this machine cannot run compiled code at all.
pub(crate) fn metered() -> Result<Engine, Error> {
    let mut metered = config();
    metered.consume_fuel(true).epoch_interruption(false);
    Engine::new(&metered).map_err(Error::engine)
}

/// What decides the code that is made; the same for both engines that run artefacts.
fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .wasm_component_model(true)
        .wasm_memory64(false)
        // Components made of components (QuickJS's are) talk through adapters that see both their memories.
        .wasm_multi_memory(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::GUEST_STACK_BYTES)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(NonZeroUsize::new(limits::BACKTRACE_FRAMES_MAX))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let core_instances = u32::try_from(limits::CORE_INSTANCES_MAX).unwrap_or(u32::MAX);
    // A component made by today's Rust toolchain is three core instances, one memory and two tables.
    pool.total_component_instances(limits::INSTANCES_MAX)
        .total_core_instances(limits::INSTANCES_MAX * 4)
        .total_memories(limits::INSTANCES_MAX)
        .total_tables(limits::INSTANCES_MAX * 3)
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(u32::try_from(limits::MEMORIES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(limits::TABLES_MAX).unwrap_or(u32::MAX))
        .max_memory_size(limits::MEMORY_BYTES_MAX)
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10);
    pool
}

/// Raises the engine's epoch every [`limits::TICK_MS`] while a guest runs, so that the guest looks at its deadline.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Ticking>,
}

#[derive(Debug, Default)]
struct Ticking {
    state: Mutex<Running>,
    /// A guest has begun to run.
    changed: Condvar,
    /// The ticker was dropped.
    stop: Condvar,
}

#[derive(Debug, Default)]
struct Running {
    guests: usize,
    stopped: bool,
}

/// A guest runs while this lives.
#[derive(Debug)]
pub(crate) struct Tick<'a>(&'a Ticking);

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(engine: &Engine) -> Result<Self, Error> {
        let shared = Arc::new(Ticking::default());
        let (ticking, engine) = (Arc::clone(&shared), engine.weak());
        thread::Builder::new()
            .name("wasm-ticker".into())
            .spawn(move || {
                while ticking.wait_for_tick() {
                    let Some(engine) = engine.upgrade() else { return };
                    engine.increment_epoch();
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { shared })
    }

    /// Keeps the clock running until the answer is dropped.
    pub(crate) fn guest(&self) -> Tick<'_> {
        self.shared.change(|running| running.guests += 1);
        Tick(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.change(|running| running.stopped = true);
        self.shared.stop.notify_all();
    }
}

impl Drop for Tick<'_> {
    fn drop(&mut self) {
        let mut running = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        running.guests -= 1;
    }
}

impl Ticking {
    fn change(&self, change: impl FnOnce(&mut Running)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits while no guest runs, and then for a tick. False when the ticker was dropped.
    fn wait_for_tick(&self) -> bool {
        let running = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |running: &mut Running| running.guests == 0 && !running.stopped;
        let running = self
            .changed
            .wait_while(running, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let tick = Duration::from_millis(limits::TICK_MS);
        let (running, _) = self
            .stop
            .wait_timeout_while(running, tick, |running| !running.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        !running.stopped
    }
}
