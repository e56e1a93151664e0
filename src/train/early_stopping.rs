//! Stops a run that no longer improves.

use crate::report::{EpochRecord, improves};

/// Stops when the score has not risen for `patience` epochs. Its state is the history itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStopping {
    /// Epochs without a new best score before stopping; 0 never stops.
    pub patience: usize,
}

impl EarlyStopping {
    /// Epochs since the best score, the earliest one on a tie, or since more stages of the backbone train,
    /// which then have their time, too. Of each epoch its score and how many stages its phase has unfrozen
    /// so far.
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

    /// Whether a run with these epochs, each a score and a number of unfrozen stages, is over.
    ///
    /// ```
    /// use polyview::train::EarlyStopping;
    /// let stopping = EarlyStopping { patience: 2 };
    /// assert!(!stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0)]));
    /// assert!(stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0), (0.5, 0)]));
    /// // A stage more is trained in the last epoch.
    /// assert!(!stopping.should_stop(&[(0.3, 0), (0.5, 0), (0.4, 0), (0.5, 1)]));
    /// ```
    pub fn should_stop(&self, epochs: &[(f64, usize)]) -> bool {
        self.patience > 0 && Self::stale(epochs) >= self.patience
    }

    /// Whether a run with this history is over.
    pub(super) fn has_ended(&self, history: &[EpochRecord]) -> bool {
        let epochs =
            history.iter().map(|record| (record.score, record.phase, record.trainable.len()));
        self.should_stop(&watched(epochs))
    }
}

/// The score of each epoch and how many stages its phase has unfrozen so far, of scores, phases and stages
/// that were trained. The second phase of gradual fine-tuning unfreezes nothing by itself: the patience
/// counts on it.
fn watched(epochs: impl Iterator<Item = (f64, usize, usize)>) -> Vec<(f64, usize)> {
    let mut begun = None;
    let mut first = 0;
    let watched = epochs.map(|(score, phase, stages)| {
        if begun.replace(phase) != Some(phase) {
            first = stages;
        }
        (score, stages.saturating_sub(first))
    });
    watched.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_a_strategy_unfreezes_have_their_time_and_those_of_a_phase_do_not() {
        let over = |epochs: &[(usize, usize)]| {
            let scores = epochs.iter().map(|&(phase, stages)| (0.5, phase, stages));
            EarlyStopping { patience: 3 }.should_stop(&watched(scores))
        };
        assert!(over(&[(1, 0), (1, 0), (2, 3), (2, 3)]));
        assert!(!over(&[(1, 0), (1, 0), (2, 1), (2, 2)]));
        assert!(over(&[(1, 0), (1, 0), (2, 1), (2, 2), (2, 2), (2, 2)]));
    }
}
