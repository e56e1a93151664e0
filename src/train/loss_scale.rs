//! The dynamic loss scale of half precision (Micikevicius et al. 2018, "Mixed Precision Training",
//! section 3.2).

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::metrics::PassProgress;
use crate::config::advice::skipped_steps_advice;
use crate::report::EpochRecord;

/// Factor of the loss that keeps small gradients from underflowing in f16. Halved when a gradient
/// overflows f16, doubled after many steps without overflow. A power of two, so that multiplying and
/// dividing f32 values by it does not round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    /// Number of steps since the scale last changed.
    good_steps: usize,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: FIRST, good_steps: 0 }
    }
}

/// Initial scale. Large, as a scale that is too large is noticed in the first steps.
const FIRST: f64 = 65536.0;
/// Largest scale. Beyond it even the gradients of weights, which are f32, could overflow.
const LARGEST: f64 = (1u64 << 32) as f64;
/// Number of steps without overflow after which the scale is doubled.
const GROWS_AFTER: usize = 2000;

impl LossScale {
    /// Creates a loss scale with the given factor.
    pub fn new(scale: f64) -> Self {
        Self { scale, ..Self::default() }
    }

    /// Returns the factor.
    pub fn factor(&self) -> f64 {
        self.scale
    }

    /// Counts a step that trained the backbone without overflow.
    pub(super) fn good(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= GROWS_AFTER && self.scale < LARGEST {
            *self = Self::new(2.0 * self.scale);
        }
    }

    /// Halves the scale after a step whose gradients overflowed. Returns `false` if the scale is already
    /// 1, i.e. not the cause.
    pub(super) fn overflowed(&mut self) -> bool {
        if self.scale <= 1.0 {
            return false;
        }
        *self = Self::new(self.scale / 2.0);
        true
    }

    /// Logs a warning if most steps of an epoch (counted from 1) were skipped. `self` is the scale
    /// at the end of the epoch.
    pub(super) fn warn(&self, epoch: usize, pass: &PassProgress) {
        if let Some(advice) = skipped_steps_advice(pass.left_out, pass.steps, self.scale) {
            log::warn!("epoch {epoch}: {advice}");
        }
    }
}

/// Returns an error if all steps of a run were skipped: it must not end as if it had trained.
pub(super) fn refuse_untrained(history: &[EpochRecord]) -> Result<(), TrainError> {
    let steps = history.iter().map(|epoch| epoch.train.left_out).sum();
    let untrained = history.iter().all(|epoch| epoch.train.gradient_norm.is_none());
    if untrained && steps > 0 { Err(TrainError::AllLeftOut { steps }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_halved_on_overflow_and_doubled_after_many_good_steps() {
        let mut scale = LossScale::default();
        for _ in 0..GROWS_AFTER - 1 {
            scale.good();
        }
        assert_eq!(scale.factor(), FIRST);
        scale.good();
        assert_eq!(scale, LossScale::new(2.0 * FIRST));
        scale.good();
        assert!(scale.overflowed());
        // An overflow resets the count of good steps.
        assert_eq!(scale, LossScale::new(FIRST));
        assert!((0..16).all(|_| scale.overflowed()));
        assert_eq!(scale.factor(), 1.0);
        assert!(!scale.overflowed());
    }
}
