//! Unfreezes one more stage whenever the score stalls.

use super::{EpochOutcome, FreezingStrategy, StageSet, Stall};

/// Unfreezes the next stage (layer4, 3, 2, 1, stem) when the score has not improved for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// Stages that train from the first epoch of the phase on.
    pub start: StageSet,
    /// Condition for unfreezing the next stage.
    pub stall: Stall,
}

impl FreezingStrategy for Adaptive {
    fn trainable(&self, past: &[EpochOutcome]) -> StageSet {
        let stalls = self.stall.stalls(past).into_iter().filter(|stalled| *stalled);
        stalls.fold(self.start, |set, _| set.next_frozen().map_or(set, |stage| set.with(stage)))
    }
}
