//! Unfreezes the stage with the largest gradient whenever the score stalls.

use super::{EpochOutcome, FreezingStrategy, StageSet, Stall};
use crate::model::STAGES;

/// When the score stalls, unfreezes the frozen stage with the largest root-mean-square gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientGuided {
    /// Stages that train from the first epoch of the phase on.
    pub start: StageSet,
    /// Condition for unfreezing the next stage.
    pub stall: Stall,
}

impl FreezingStrategy for GradientGuided {
    fn trainable(&self, past: &[EpochOutcome]) -> StageSet {
        let mut set = self.start;
        for (epoch, stalled) in past.iter().zip(self.stall.stalls(past)) {
            if !stalled {
                continue;
            }
            let largest = match epoch.gradients {
                Some(gradients) => (0..STAGES.len())
                    .filter(|stage| !set.contains(*stage))
                    .max_by(|a, b| gradients[*a].total_cmp(&gradients[*b])),
                // The epoch has no measured gradients, e.g. because another strategy was used then.
                None => set.next_frozen(),
            };
            set = largest.map_or(set, |stage| set.with(stage));
        }
        set
    }

    fn wants_gradients(&self) -> bool {
        true
    }
}
