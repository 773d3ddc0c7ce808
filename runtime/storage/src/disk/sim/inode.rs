//! The content of one simulated file: cheap to clone, so that a disk can be cut at every one of a thousand points.
use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inode {
    data: Arc<Vec<u8>>,
    /// Which blocks were ever written; the rest are holes.
    blocks: Arc<Vec<bool>>,
}

impl Inode {
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        let data = Arc::make_mut(&mut self.data);
        if data.len() < end {
            data.resize(end, 0);
        }
        data[at..end].copy_from_slice(bytes);
        let blocks = Arc::make_mut(&mut self.blocks);
        let last = (end - 1) / BLOCK_BYTES;
        if blocks.len() <= last {
            blocks.resize(last + 1, false);
        }
        blocks[at / BLOCK_BYTES..=last].fill(true);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        Arc::make_mut(&mut self.data).resize(len, 0);
        Arc::make_mut(&mut self.blocks).truncate(len.div_ceil(BLOCK_BYTES));
    }

    pub(super) fn used_bytes(&self) -> u64 {
        (self.blocks.iter().filter(|&&used| used).count() * BLOCK_BYTES) as u64
    }

    /// How much [`Inode::used_bytes`] grows by a write.
    pub(super) fn growth_bytes(&self, at: usize, len: usize) -> u64 {
        if len == 0 {
            return 0;
        }
        let blocks = at / BLOCK_BYTES..=(at + len - 1) / BLOCK_BYTES;
        (blocks
            .filter(|&block| !self.blocks.get(block).copied().unwrap_or(false))
            .count()
            * BLOCK_BYTES) as u64
    }
}
