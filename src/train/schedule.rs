//! Learning rates as pure functions of the position in the run; PyTorch's schedulers in closed
//! form. A schedule has no state: a resumed run asks the same questions and gets the same rates.

use std::f64::consts::PI;

use crate::config::SchedulerKind;

/// Cosine annealing (Loshchilov & Hutter 2017, eq. 5, without restarts; torch's
/// CosineAnnealingLR): the rate in force during `epoch`, counted from 0, falls from `lr` to
/// `eta_min` over `t_max` epochs.
pub fn cosine(lr: f64, eta_min: f64, t_max: usize, epoch: usize) -> f64 {
    anneal(lr, eta_min, epoch as f64 / t_max.max(1) as f64)
}

/// torch's StepLR: multiplied by `gamma` after every `step_size` epochs.
pub fn step(lr: f64, step_size: usize, gamma: f64, epoch: usize) -> f64 {
    lr * gamma.powf((epoch / step_size.max(1)) as f64)
}

/// torch's ExponentialLR: multiplied by `gamma` after every epoch.
pub fn exponential(lr: f64, gamma: f64, epoch: usize) -> f64 {
    lr * gamma.powf(epoch as f64)
}

/// From `from` to `to` along half a cosine, at `progress` in [0, 1].
fn anneal(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * progress).cos()) / 2.0
}

/// torch's OneCycleLR with cosine annealing in two phases (Smith & Topin 2018): up during
/// the first `rise` of the steps, down to almost nothing after it, momentum the other way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycle {
    /// Steps of the whole cycle.
    pub steps: usize,
    /// Share of the steps that rise, torch's pct_start.
    pub rise: f64,
}

/// torch's div_factor: the start is the highest rate over this.
pub const DIV_FACTOR: f64 = 25.0;
/// torch's final_div_factor: the end is the start over this.
pub const FINAL_DIV_FACTOR: f64 = 1e4;
/// Adam's β1 (or SGD's momentum) at both ends, and at the peak.
pub(super) const CYCLE_MOMENTUM: [f64; 2] = [0.95, 0.85];

impl OneCycle {
    /// What goes from `start` to `peak` and on to `end`, at a step counted from 0.
    pub fn between(&self, step: usize, start: f64, peak: f64, end: f64) -> f64 {
        let total = self.steps as f64;
        let (step, top) = (step as f64, self.rise * total - 1.0);
        // A run of very few steps has no room for a rise.
        if step <= top && top > 0.0 {
            anneal(start, peak, step / top)
        } else {
            let down = total - 1.0 - top;
            anneal(peak, end, if down > 0.0 { ((step - top) / down).min(1.0) } else { 1.0 })
        }
    }

    /// Rate at a step, counted from 0, where `lr` is the highest.
    pub fn rate(&self, lr: f64, step: usize) -> f64 {
        let start = lr / DIV_FACTOR;
        self.between(step, start, lr, start / FINAL_DIV_FACTOR)
    }

    /// Adam's β1 (or SGD's momentum) at a step.
    pub fn momentum(&self, step: usize) -> f64 {
        let [ends, peak] = CYCLE_MOMENTUM;
        self.between(step, ends, peak, ends)
    }
}

/// torch's ReduceLROnPlateau for a score that should rise, with its relative threshold of 1e-4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    /// The rate is multiplied by this.
    pub factor: f64,
    /// Epochs without improvement before the rate is lowered by the next one.
    pub patience: usize,
    /// Lowest rate.
    pub min_lr: f64,
}

impl Plateau {
    /// The rate in force after epochs with these scores. NaN is no improvement.
    pub fn rate(&self, lr: f64, scores: &[f64]) -> f64 {
        let (mut rate, mut best, mut bad) = (lr, f64::NEG_INFINITY, 0);
        for &score in scores {
            // `best` of minus infinity times 1.0001 stays minus infinity.
            if score > best * (1.0 + 1e-4) {
                (best, bad) = (score, 0);
            } else {
                bad += 1;
            }
            if bad > self.patience {
                bad = 0;
                let cut = (rate * self.factor).max(self.min_lr);
                // torch's eps: a change that small is not made.
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
    /// Epoch of the phase, counted from 0.
    pub epoch: usize,
    /// Steps of the phase done before this epoch.
    pub steps_before: usize,
    /// Step of the epoch, counted from 0.
    pub step: usize,
    /// Steps that this epoch has.
    pub steps: usize,
    /// Scores of the phase's finished epochs.
    pub scores: &'a [f64],
}

/// The schedule of one phase of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The full rate all the time.
    Constant,
    /// Half a cosine down to a hundredth.
    Cosine {
        /// Epochs of the phase.
        epochs: usize,
    },
    /// The same, changed at every step.
    CosineStep {
        /// Epochs of the phase.
        epochs: usize,
    },
    /// See [`OneCycle`].
    OneCycle(OneCycle),
    /// See [`step`].
    Step {
        /// Epochs between two cuts.
        step_size: usize,
        /// Factor of a cut.
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

/// The cosine ends at this share of its start.
const ETA_MIN_SHARE: f64 = 0.01;
/// torch's pct_start.
const ONE_CYCLE_RISE: f64 = 0.3;

impl Schedule {
    /// The schedule of a configuration, over a phase of `epochs` epochs and `steps` steps.
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

    /// The rate at a position of a parameter group whose full rate is `lr`.
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

    /// The momentum (Adam's β1) that the schedule asks for; `None` leaves the optimizer's own.
    pub fn momentum(&self, at: &Position) -> Option<f64> {
        match self {
            Self::OneCycle(cycle) => Some(cycle.momentum(at.steps_before + at.step)),
            _ => None,
        }
    }
}

/// Share of the full rate during a linear warm-up over `epochs` epochs, changed at every step; 1
/// after it, and without one.
pub fn warm_up(epochs: usize, at: &Position) -> f64 {
    let done = at.epoch as f64 + (at.step + 1) as f64 / at.steps.max(1) as f64;
    if epochs == 0 { 1.0 } else { (done / epochs as f64).min(1.0) }
}
