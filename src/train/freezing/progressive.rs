//! One more stage at fixed intervals.

use super::{EpochOutcome, FreezingStrategy, StageSet};

/// Unfreezes the next stage (layer4, 3, 2, 1, stem) after every `interval` epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progressive {
    /// What trains from the start.
    pub start: StageSet,
    /// Epochs between two stages.
    pub interval: usize,
}

impl FreezingStrategy for Progressive {
    fn trainable(&self, past: &[EpochOutcome]) -> StageSet {
        let due = past.len() / self.interval.max(1);
        (0..due).fold(self.start, |set, _| set.next_frozen().map_or(set, |stage| set.with(stage)))
    }
}
