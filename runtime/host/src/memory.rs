//! Bounds of what an instance is made of, and a memory of having refused: a guest that is refused memory aborts, and the trap by itself does
//! not say why.
use wasmtime::ResourceLimiter;

use crate::limits;

/// Limits of one store. Nothing is allowed until [`Memory::bound`].
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: usize,
    bytes_max: usize,
    refused: Option<Refusal>,
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many bytes of linear memory in all.
    Memory(usize),
    /// So many elements of one table.
    Table(usize),
}

impl Memory {
    /// The most that may be allocated from now on.
    pub(crate) fn bound(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max.min(limits::MEMORY_BYTES_MAX);
    }

    /// Bytes of linear memory in all.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was refused since the last call of this function.
    pub(crate) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refused.take()
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_sub(current).saturating_add(desired);
        if self.bytes_max < bytes || maximum.is_some_and(|maximum| maximum < desired) {
            self.refused = Some(Refusal::Memory(bytes));
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if limits::TABLE_ELEMENTS_MAX < desired || maximum.is_some_and(|maximum| maximum < desired) {
            self.refused = Some(Refusal::Table(desired));
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        limits::CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        limits::TABLES_MAX
    }

    fn memories(&self) -> usize {
        limits::MEMORIES_MAX
    }
}
