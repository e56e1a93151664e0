//! Unfreezes one more stage at fixed intervals.

use super::{EpochOutcome, FreezingStrategy, StageSet};
use crate::model::STAGES;

/// Unfreezes the next stage (layer4, 3, 2, 1, stem) after every fifth of `epochs`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progressive {
    /// Stages that train from the first epoch of the phase on.
    pub start: StageSet,
    /// Number of epochs over which all stages of the backbone are unfrozen.
    pub epochs: usize,
}

impl FreezingStrategy for Progressive {
    fn trainable(&self, past: &[EpochOutcome]) -> StageSet {
        let due = (past.len() * STAGES.len() / self.epochs.max(1)).min(STAGES.len());
        (0..due).fold(self.start, |set, _| set.next_frozen().map_or(set, |stage| set.with(stage)))
    }
}
