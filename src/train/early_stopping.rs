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
    /// which then have their time, too. Of each epoch its score and how many stages it trained.
    pub fn stale(epochs: &[(f64, usize)]) -> usize {
        let mut best = f64::NEG_INFINITY;
        let mut trained = usize::MAX;
        let mut stale = 0;
        for &(score, stages) in epochs {
            stale += 1;
            if stages > trained {
                stale = 1;
            }
            trained = stages;
            if improves(score, best) {
                (best, stale) = (score, 0);
            }
        }
        stale
    }

    /// Whether a run with these epochs, each a score and a number of trained stages, is over.
    ///
    /// ```
    /// use polyview::train::EarlyStopping;
    /// let stopping = EarlyStopping { patience: 2 };
    /// assert!(!stopping.should_stop(&[(0.3, 1), (0.5, 1), (0.4, 1)]));
    /// assert!(stopping.should_stop(&[(0.3, 1), (0.5, 1), (0.4, 1), (0.5, 1)]));
    /// // A stage more is trained in the last epoch.
    /// assert!(!stopping.should_stop(&[(0.3, 1), (0.5, 1), (0.4, 1), (0.5, 2)]));
    /// ```
    pub fn should_stop(&self, epochs: &[(f64, usize)]) -> bool {
        self.patience > 0 && Self::stale(epochs) >= self.patience
    }

    /// Whether a run with this history is over.
    pub(super) fn has_ended(&self, history: &[EpochRecord]) -> bool {
        let epochs: Vec<(f64, usize)> =
            history.iter().map(|record| (record.score, record.trainable.len())).collect();
        self.should_stop(&epochs)
    }
}
