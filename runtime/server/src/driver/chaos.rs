//! Where the process is killed, and where batches are cut, by chance from a seed.
//!
//! Every run draws one fate: in most rounds a third of them end in one of the [`Crash`]es, in some none does and only the cuts are random.

use super::random::Random;

/// What can go wrong around one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Killed when the batch was about to be given to the guest.
    BeforeCall,
    /// Killed while the guest ran: whatever it did is nowhere.
    DuringCall,
    /// Killed with the outcome known and nothing durable.
    BeforeCommit,
    /// Killed with the entry durable and nobody told.
    AfterCommit,
    /// The commit arrives a second time, from a process that was thought dead.
    CommittedTwice,
}

const CRASHES: [Crash; 5] = [
    Crash::BeforeCall,
    Crash::DuringCall,
    Crash::BeforeCommit,
    Crash::AfterCommit,
    Crash::CommittedTwice,
];
/// Crashes in one round: a module that never comes forward would be killed for ever.
const CRASHES_MAX: usize = 200;

/// The fates of one round.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    random: Random,
    /// Of a hundred runs, so many crash.
    percent: u32,
    fate: Option<Crash>,
    pub(super) crashes: usize,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let percent = [0, 20, 40, 60][random.below(4) as usize];
        Self {
            random,
            percent,
            fate: None,
            crashes: 0,
        }
    }

    /// A new run: how many records it gets of at most so many, and its fate.
    pub(super) fn cut(&mut self, records_max: u32) -> u32 {
        let strikes = self.crashes < CRASHES_MAX && self.random.below(100) < self.percent;
        self.fate = strikes.then(|| CRASHES[self.random.below(5) as usize]);
        // Small cuts are the interesting ones.
        let bound = 1 << self.random.below(8);
        (1 + self.random.below(bound)).min(records_max)
    }

    /// Whether it happens here and now.
    pub(super) fn strikes(&mut self, here: Crash) -> bool {
        let strikes = self.fate == Some(here);
        if strikes {
            self.fate = None;
            self.crashes += 1;
        }
        strikes
    }

    /// Whether the records of a step come one by one, with rests between.
    pub(super) fn splits(&mut self) -> bool {
        self.random.below(2) == 0
    }
}
