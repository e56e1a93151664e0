//! Learning-rate schedules as pure functions of the position in the run: PyTorch's schedulers in
//! closed form. A schedule has no state, so a resumed run gets the same rates.

use std::f64::consts::PI;

use crate::config::SchedulerKind;

/// Cosine annealing (Loshchilov & Hutter 2017, eq. 5, without restarts; torch's
/// CosineAnnealingLR): returns the rate of `epoch`, counted from 0, which falls from `lr` to `eta_min`
/// over `t_max` epochs.
pub fn cosine(lr: f64, eta_min: f64, t_max: usize, epoch: usize) -> f64 {
    anneal(lr, eta_min, epoch as f64 / t_max.max(1) as f64)
}

/// torch's StepLR: the rate is multiplied by `gamma` after every `step_size` epochs.
pub fn step(lr: f64, step_size: usize, gamma: f64, epoch: usize) -> f64 {
    lr * gamma.powf((epoch / step_size.max(1)) as f64)
}

/// torch's ExponentialLR: the rate is multiplied by `gamma` after every epoch.
pub fn exponential(lr: f64, gamma: f64, epoch: usize) -> f64 {
    lr * gamma.powf(epoch as f64)
}

/// Interpolates between `from` and `to` along half a cosine, at `progress` in [0, 1].
fn anneal(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * progress).cos()) / 2.0
}

/// torch's OneCycleLR with cosine annealing in two phases (Smith & Topin 2018): the rate rises during
/// the first `rise` of the steps, then falls to almost 0; momentum goes the other way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    /// Number of steps of the whole cycle.
    pub steps: usize,
    /// Share of the steps in which the rate rises, torch's pct_start.
    pub rise: f64,
}

/// torch's div_factor: the initial rate is the highest rate divided by this.
pub const DIV_FACTOR: f64 = 25.0;
/// torch's final_div_factor: the final rate is the initial rate divided by this.
pub const FINAL_DIV_FACTOR: f64 = 1e4;
/// Adam's β1 (or SGD's momentum) at both ends of a cycle, and at its peak.
pub(super) const CYCLE_MOMENTUM: [f64; 2] = [0.95, 0.85];

impl OneCycle {
    /// Returns the value, at a step counted from 0, that goes from `start` to `peak` and then to `end`.
    pub fn between(&self, step: usize, start: f64, peak: f64, end: f64) -> f64 {
        let total = self.steps as f64;
        let (step, top) = (step as f64, self.rise * total - 1.0);
        // A cycle of very few steps has no room for a rise.
        if step <= top && top > 0.0 {
            anneal(start, peak, step / top)
        } else {
            let down = total - 1.0 - top;
            anneal(peak, end, if down > 0.0 { ((step - top) / down).min(1.0) } else { 1.0 })
        }
    }

    /// Returns the rate at a step, counted from 0, with `lr` as the highest rate.
    pub fn rate(&self, lr: f64, step: usize) -> f64 {
        let start = lr / DIV_FACTOR;
        self.between(step, start, lr, start / FINAL_DIV_FACTOR)
    }

    /// Returns Adam's β1 (or SGD's momentum) at a step, counted from 0.
    pub fn momentum(&self, step: usize) -> f64 {
        let [ends, peak] = CYCLE_MOMENTUM;
        self.between(step, ends, peak, ends)
    }
}

/// torch's ReduceLROnPlateau in `max` mode, with the default relative threshold of 1e-4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// Factor by which the rate is multiplied.
    pub factor: f64,
    /// Number of epochs without improvement that are tolerated; the next one lowers the rate.
    pub patience: usize,
    /// Lowest rate.
    pub min_lr: f64,
}

impl Plateau {
    /// Returns the rate after epochs with these scores. NaN does not count as improvement.
    pub fn rate(&self, lr: f64, scores: &[f64]) -> f64 {
        let (mut rate, mut best, mut bad) = (lr, f64::NEG_INFINITY, 0);
        for &score in scores {
            // Minus infinity times 1.0001 stays minus infinity, so the first score is an improvement.
            if score > best * (1.0 + 1e-4) {
                (best, bad) = (score, 0);
            } else {
                bad += 1;
            }
            if bad > self.patience {
                bad = 0;
                let cut = (rate * self.factor).max(self.min_lr);
                // torch's eps: smaller changes are ignored.
                if rate - cut > 1e-8 {
                    rate = cut;
                }
            }
        }
        rate
    }
}

/// Position of a training step in its phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position<'a> {
    /// Epoch within the phase, counted from 0.
    pub epoch: usize,
    /// Number of steps of the phase before this epoch.
    pub steps_before: usize,
    /// Step within the epoch, counted from 0.
    pub step: usize,
    /// Number of steps of this epoch.
    pub steps: usize,
    /// Scores of the phase's finished epochs.
    pub scores: &'a [f64],
}

/// The schedule of one phase of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The full rate throughout.
    Constant,
    /// Half a cosine down to a hundredth of the full rate, changed at every epoch.
    Cosine {
        /// Number of epochs of the phase.
        epochs: usize,
    },
    /// Like [`Schedule::Cosine`], but changed at every step.
    CosineStep {
        /// Number of epochs of the phase.
        epochs: usize,
    },
    /// See [`OneCycle`].
    OneCycle(OneCycle),
    /// See [`step`].
    Step {
        /// Number of epochs between two reductions.
        step_size: usize,
        /// Factor of each reduction.
        gamma: f64,
    },
    /// See [`exponential`].
    Exponential {
        /// Factor per epoch.
        gamma: f64,
    },
    /// See [`Plateau`].
    Plateau(Plateau),
}

/// Final rate of the cosine schedules, as a share of the full rate.
const ETA_MIN_SHARE: f64 = 0.01;
/// torch's pct_start.
const ONE_CYCLE_RISE: f64 = 0.3;

impl Schedule {
    /// Returns the schedule of a configuration for a phase of `epochs` epochs and `steps` steps.
    pub fn new(config: &crate::config::Config, epochs: usize, steps: usize) -> Self {
        let gamma = config.schedule.gamma;
        match config.schedule.scheduler {
            SchedulerKind::Cosine => Self::Cosine { epochs },
            SchedulerKind::CosineStep => Self::CosineStep { epochs },
            SchedulerKind::OneCycle => Self::OneCycle(OneCycle { steps, rise: ONE_CYCLE_RISE }),
            SchedulerKind::Step => Self::Step { step_size: config.schedule.step_size, gamma },
            SchedulerKind::Exponential => Self::Exponential { gamma },
            SchedulerKind::ReduceOnPlateau => Self::Plateau(Plateau {
                factor: gamma,
                patience: config.schedule.plateau_patience,
                min_lr: config.schedule.min_lr,
            }),
            SchedulerKind::None => Self::Constant,
        }
    }

    /// Returns the rate, at a position, of a parameter group whose full rate is `lr`.
    pub fn rate(&self, lr: f64, at: &Position) -> f64 {
        match *self {
            Self::Constant => lr,
            Self::Cosine { epochs } => cosine(lr, lr * ETA_MIN_SHARE, epochs, at.epoch),
            Self::CosineStep { epochs } => {
                let done = at.epoch as f64 + at.step as f64 / at.steps.max(1) as f64;
                anneal(lr, lr * ETA_MIN_SHARE, done / epochs.max(1) as f64)
            }
            Self::OneCycle(cycle) => cycle.rate(lr, at.steps_before + at.step),
            Self::Step { step_size, gamma } => step(lr, step_size, gamma, at.epoch),
            Self::Exponential { gamma } => exponential(lr, gamma, at.epoch),
            Self::Plateau(plateau) => plateau.rate(lr, at.scores),
        }
    }

    /// Returns the momentum (Adam's β1) set by the schedule; `None` keeps the optimizer's own.
    pub fn momentum(&self, at: &Position) -> Option<f64> {
        match self {
            Self::OneCycle(cycle) => Some(cycle.momentum(at.steps_before + at.step)),
            _ => None,
        }
    }
}

/// Returns the share of the full rate during a linear warm-up over `epochs` epochs, changed at every
/// step; 1 after the warm-up, or without one.
pub fn warm_up(epochs: usize, at: &Position) -> f64 {
    let done = at.epoch as f64 + (at.step + 1) as f64 / at.steps.max(1) as f64;
    if epochs == 0 { 1.0 } else { (done / epochs as f64).min(1.0) }
}
