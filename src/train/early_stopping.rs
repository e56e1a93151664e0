//! Stops a run that no longer improves.

/// Stops when the score has not risen for `patience` epochs. Its state is the history itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStopping {
    /// Epochs without a new best score before stopping; 0 never stops.
    pub patience: usize,
}

impl EarlyStopping {
    /// Epochs since the best of `scores`, the earliest one on a tie.
    pub fn stale(scores: &[f64]) -> usize {
        let mut best = f64::NEG_INFINITY;
        let mut stale = 0;
        for &score in scores {
            stale += 1;
            if score > best {
                (best, stale) = (score, 0);
            }
        }
        stale
    }

    /// Whether a run with these scores is over.
    ///
    /// ```
    /// use polyview::train::EarlyStopping;
    /// let stopping = EarlyStopping { patience: 2 };
    /// assert!(!stopping.should_stop(&[0.3, 0.5, 0.4]));
    /// assert!(stopping.should_stop(&[0.3, 0.5, 0.4, 0.5]));
    /// ```
    pub fn should_stop(&self, scores: &[f64]) -> bool {
        self.patience > 0 && Self::stale(scores) >= self.patience
    }
}
