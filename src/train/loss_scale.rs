//! The dynamic loss scale of half precision (Micikevicius et al. 2018, "Mixed Precision Training",
//! section 3.2).

use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::metrics::PassProgress;
use crate::config::advice::left_out_advice;
use crate::report::EpochRecord;

/// What the loss is multiplied by, so that small gradients are not lost in f16. Halved when a
/// gradient is beyond f16's range, doubled after many steps without one. A power of two, by which
/// numbers in f32 are multiplied and divided without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    /// Steps since it was changed.
    good_steps: usize,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: FIRST, good_steps: 0 }
    }
}

/// Large, since one that is too large shows in the first steps.
const FIRST: f64 = 65536.0;
/// Beyond this the gradients of weights, which are f32, could be too large themselves.
const LARGEST: f64 = (1u64 << 32) as f64;
/// Steps after which a larger one is tried.
const GROWS_AFTER: usize = 2000;

impl LossScale {
    /// A scale of another size.
    pub fn new(scale: f64) -> Self {
        Self { scale, ..Self::default() }
    }

    /// The factor.
    pub fn factor(&self) -> f64 {
        self.scale
    }

    /// After a step of the backbone with gradients in range.
    pub(super) fn good(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= GROWS_AFTER && self.scale < LARGEST {
            *self = Self::new(2.0 * self.scale);
        }
    }

    /// After a step with gradients out of range; `false` if no scale is to blame for them.
    pub(super) fn overflowed(&mut self) -> bool {
        if self.scale <= 1.0 {
            return false;
        }
        *self = Self::new(self.scale / 2.0);
        true
    }

    /// Warns where most steps of an epoch (from 1) were left out; this is the scale at its end.
    pub(super) fn warn(&self, epoch: usize, pass: &PassProgress) {
        if let Some(advice) = left_out_advice(pass.left_out, pass.steps, self.scale) {
            log::warn!("epoch {epoch}: {advice}");
        }
    }
}

/// A run all of whose steps were left out must not end as if it had trained.
pub(super) fn refuse_untrained(history: &[EpochRecord]) -> Result<(), TrainError> {
    let steps = history.iter().map(|epoch| epoch.train.left_out).sum();
    let untrained = history.iter().all(|epoch| epoch.train.gradient_norm.is_none());
    if untrained && steps > 0 { Err(TrainError::AllLeftOut { steps }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_halved_on_overflow_and_doubled_after_many_good_steps() {
        let mut scale = LossScale::default();
        for _ in 0..GROWS_AFTER - 1 {
            scale.good();
        }
        assert_eq!(scale.factor(), FIRST);
        scale.good();
        assert_eq!(scale, LossScale::new(2.0 * FIRST));
        scale.good();
        assert!(scale.overflowed());
        // The steps before do not count.
        assert_eq!(scale, LossScale::new(FIRST));
        assert!((0..16).all(|_| scale.overflowed()));
        assert_eq!(scale.factor(), 1.0);
        assert!(!scale.overflowed());
    }
}
