//! Which stages of the backbone train in which epoch.
//!
//! Frozen stages do not change at all: no gradient is computed below the lowest trainable stage, weights
//! stay the same bit for bit, and batch norm keeps its running statistics and normalises with them. The
//! heads always train.
//!
//! # Adding a strategy
//!
//! A strategy is a type that implements [`FreezingStrategy`], in its own file. It is called before each
//! epoch and decides from the outcomes of the epochs before, so it has no state to save and a resumed
//! run gets the same decisions:
//!
//! ```
//! use polyview::train::freezing::{EpochOutcome, FreezingStrategy, StageSet};
//!
//! /// Trains the last stage as soon as a score has been reached.
//! #[derive(Debug)]
//! struct Threshold(f64);
//!
//! impl FreezingStrategy for Threshold {
//!     fn trainable(&self, past: &[EpochOutcome]) -> StageSet {
//!         let reached = past.iter().any(|epoch| epoch.score >= self.0);
//!         StageSet::last(if reached { 1 } else { 0 })
//!     }
//! }
//!
//! let epoch = |score| EpochOutcome { score, gradients: None };
//! assert_eq!(Threshold(0.4).trainable(&[epoch(0.3)]), StageSet::NONE);
//! assert_eq!(Threshold(0.4).trainable(&[epoch(0.3), epoch(0.45)]).names(), ["layer4"]);
//! ```
//!
//! To make it available as an option, add it to [`crate::config::FreezingKind`] and to [`strategy`].

mod adaptive;
mod gradient_guided;
mod progressive;

use std::fmt::Debug;

pub use crate::model::StageSet;
pub use crate::report::EpochOutcome;
pub use adaptive::Adaptive;
pub use gradient_guided::GradientGuided;
pub use progressive::Progressive;

use crate::config::{Config, FreezingKind};

/// Decides before each epoch which stages train in it.
pub trait FreezingStrategy: Debug + Send {
    /// Returns the stages that train in the epoch after `past`, the finished epochs of the phase.
    fn trainable(&self, past: &[EpochOutcome]) -> StageSet;

    /// Returns whether [`EpochOutcome::gradients`] must be measured after each epoch, which costs one
    /// training step with all stages.
    fn wants_gradients(&self) -> bool {
        false
    }
}

/// Trains the same stages in every epoch: a phase of gradual fine-tuning, or no freezing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub StageSet);

impl FreezingStrategy for Fixed {
    fn trainable(&self, _: &[EpochOutcome]) -> StageSet {
        self.0
    }
}

/// Returns the strategy of a configuration. The stages in `start` train from the first epoch on; `fixed`
/// never trains any others.
pub fn strategy(config: &Config, start: StageSet) -> Box<dyn FreezingStrategy> {
    let stall = Stall {
        patience: config.freezing.adaptive_patience,
        min_improvement: config.freezing.adaptive_min_improvement,
    };
    match config.freezing.freezing_strategy {
        FreezingKind::Fixed => Box::new(Fixed(start)),
        FreezingKind::None => Box::new(Fixed(StageSet::ALL)),
        FreezingKind::Adaptive => Box::new(Adaptive { start, stall }),
        FreezingKind::Progressive => {
            Box::new(Progressive { start, epochs: config.freezing.phase2_epochs })
        }
        FreezingKind::GradientGuided => Box::new(GradientGuided { start, stall }),
    }
}

/// Condition under which the score counts as stalled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Number of epochs without improvement after which the score counts as stalled.
    pub patience: usize,
    /// Increase of the best score that must be exceeded to count as improvement.
    pub min_improvement: f64,
}

impl Stall {
    /// Returns for each epoch whether the score has stalled there; the count restarts after a stall.
    fn stalls(&self, past: &[EpochOutcome]) -> Vec<bool> {
        let mut best = f64::NEG_INFINITY;
        let mut stale = 0;
        let stalled = |epoch: &EpochOutcome| {
            if epoch.score > best + self.min_improvement {
                (best, stale) = (epoch.score, 0);
            } else {
                stale += 1;
            }
            let stalled = stale >= self.patience.max(1);
            if stalled {
                stale = 0;
            }
            stalled
        };
        past.iter().map(stalled).collect()
    }
}
