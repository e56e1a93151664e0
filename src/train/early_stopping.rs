//! Stops a run that no longer improves.

use crate::report::{EpochRecord, improves};

/// Stops a run when the score has not improved for `patience` epochs. The only state is the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStopping {
    /// Epochs without a new best score before stopping; 0 never stops.
    pub patience: usize,
}

impl EarlyStopping {
    /// Returns the number of epochs since the best score (the earliest on a tie) or, if later,
    /// since more stages of the backbone were unfrozen: newly unfrozen stages get the full
    /// patience. `epochs` has the score of each epoch and the number of stages unfrozen in its
    /// phase so far.
    pub fn stale(epochs: &[(f64, usize)]) -> usize {
        let mut best = f64::NEG_INFINITY;
        let mut unfrozen = usize::MAX;
        let mut stale = 0;
        for &(score, stages) in epochs {
            stale += 1;
            if stages > unfrozen {
                stale = 1;
            }
            unfrozen = stages;
            if improves(score, best) {
                (best, stale) = (score, 0);
            }
        }
        stale
    }

    /// Returns whether a run with these epochs, each a score and a number of unfrozen stages, should
    /// stop.
    ///
    /// ```
    /// use polyview::train::EarlyStopping;
    /// let stopping = EarlyStopping { patience: 2 };
    /// assert!(!stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0)]));
    /// assert!(stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0), (0.5, 0)]));
    /// // The last epoch trains one more stage.
    /// assert!(!stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0), (0.5, 1)]));
    /// ```
    pub fn should_stop(&self, epochs: &[(f64, usize)]) -> bool {
        self.patience > 0 && Self::stale(epochs) >= self.patience
    }

    /// Returns whether early stopping has ended a run with this history.
    pub(super) fn has_ended(&self, history: &[EpochRecord]) -> bool {
        let epochs =
            history.iter().map(|record| (record.score, record.phase, record.trainable.len()));
        self.should_stop(&with_unfrozen(epochs))
    }
}

/// Turns `(score, phase, trained stages)` of each epoch into its score and the number of stages unfrozen
/// in its phase so far. Stages that train from a phase's first epoch do not count as unfrozen, so
/// starting the second phase of gradual fine-tuning does not reset the patience.
fn with_unfrozen(epochs: impl Iterator<Item = (f64, usize, usize)>) -> Vec<(f64, usize)> {
    let mut current = None;
    let mut first = 0;
    let unfrozen = epochs.map(|(score, phase, stages)| {
        if current.replace(phase) != Some(phase) {
            first = stages;
        }
        (score, stages.saturating_sub(first))
    });
    unfrozen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfreezing_a_stage_resets_the_patience_but_starting_a_phase_does_not() {
        let over = |epochs: &[(usize, usize)]| {
            let scores = epochs.iter().map(|&(phase, stages)| (0.5, phase, stages));
            EarlyStopping { patience: 3 }.should_stop(&with_unfrozen(scores))
        };
        assert!(over(&[(1, 0), (1, 0), (2, 3), (2, 3)]));
        assert!(!over(&[(1, 0), (1, 0), (2, 1), (2, 2)]));
        assert!(over(&[(1, 0), (1, 0), (2, 1), (2, 2), (2, 2), (2, 2)]));
    }
}
