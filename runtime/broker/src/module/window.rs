//! How many of the last records of a task were given up.
//!
//! Kept in about 32 chunks whatever the length, so it forgets in steps: it looks at the last `of_last` records and at most a chunk
//! more. It is part of the task's row and so the same after a restart.
use alloc::vec::Vec;
use tidemill_protocol::manifest::StopIf;

use crate::stored;

/// Chunks that a full window has.
const CHUNKS: u32 = 32;

stored! {
    /// Outcomes of the last records, oldest first.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Window {
        /// (records, given up of those).
        pub chunks: Vec<(u32, u32)>,
    }
}

impl Window {
    /// Takes in a batch.
    pub fn add(&mut self, of_last: u32, records: u32, failed: u32) {
        match self.chunks.last_mut() {
            Some(last) if last.0 < of_last / CHUNKS => {
                last.0 = last.0.saturating_add(records);
                last.1 = last.1.saturating_add(failed);
            }
            _ => self.chunks.push((records, failed)),
        }
        while let Some((oldest, _)) = self.chunks.first() {
            if self.records() - u64::from(*oldest) < u64::from(of_last) {
                break;
            }
            self.chunks.remove(0);
        }
    }

    /// Whether a batch with these figures would be too much.
    #[must_use]
    pub fn stops(&self, stop_if: StopIf, records: u32, failed: u32) -> bool {
        if failed == 0 {
            return false;
        }
        let mut after = self.clone();
        after.add(stop_if.of_last, records, failed);
        u64::from(stop_if.failed) <= after.chunks.iter().map(|chunk| u64::from(chunk.1)).sum()
    }

    fn records(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.0)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP_IF: StopIf = StopIf { failed: 3, of_last: 10 };

    #[test]
    fn three_of_the_last_ten_stop() {
        let mut window = Window::default();
        window.add(10, 5, 2);
        assert!(!window.stops(STOP_IF, 4, 0));
        assert!(window.stops(STOP_IF, 4, 1));
        window.add(10, 10, 0);
        assert!(!window.stops(STOP_IF, 4, 1), "the two are more than ten records ago");
    }

    #[test]
    fn a_window_stays_small() {
        let mut window = Window::default();
        for _ in 0..100_000 {
            window.add(10_000, 1, 0);
        }
        assert!(window.chunks.len() <= 34, "{}", window.chunks.len());
        assert!(10_000 <= window.records() && window.records() < 10_400);
    }
}
