//! The schedule of a run: its phases, and which parameters train at which rate in each step. It is a
//! pure function of configuration and history, so a resumed run gets the same schedule.

use super::freezing::{EpochOutcome, Fixed, FreezingStrategy, strategy};
use super::schedule::{Plateau, Position, Schedule, warm_up};
use crate::config::{Config, FreezingKind};
use crate::model::{STAGES, StageSet, stage_of};

/// Factor from a stage's rate to that of the stage below it with `discriminative-lr`: Howard &
/// Ruder 2018, section 3.2.
const DISCRIMINATIVE: f64 = 1.0 / 2.6;
/// Factor from a stage's rate to that of the stage below it with `exponential-lr-decay`.
const EXPONENTIAL: f64 = 0.5;

/// Learning rates of the parameter groups at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Rate of the heads, view attention and embeddings.
    pub heads: f64,
    /// Rate of each stage of the backbone, numbered as in [`STAGES`].
    pub stages: [f64; STAGES.len()],
    /// Momentum (Adam's β1) set by the schedule; `None` keeps the optimizer's own.
    pub momentum: Option<f64>,
}

impl Rates {
    /// Creates rates with one value for the heads and one for all stages of the backbone.
    pub fn new(heads: f64, backbone: f64) -> Self {
        Self { heads, stages: [backbone; STAGES.len()], momentum: None }
    }

    /// Returns the rate of a parameter, given its path in [`crate::model::MultiViewNet`].
    pub fn of(&self, path: &str) -> f64 {
        stage_of(path).map_or(self.heads, |stage| self.stages[stage])
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { heads: f(self.heads), stages: self.stages.map(f), ..*self }
    }
}

/// Consecutive epochs with one freezing strategy and one schedule.
#[derive(Debug)]
pub struct Phase {
    /// Number of the phase, 1 or 2; a run without gradual fine-tuning has only phase 1.
    pub number: usize,
    /// First epoch, counted from 0.
    pub first_epoch: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Full learning rates, which warm-up and schedule scale down.
    pub rates: Rates,
    /// Strategy that decides which stages train.
    pub freezing: Box<dyn FreezingStrategy>,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Number of epochs of linear warm-up at the beginning of the phase.
    pub warmup_epochs: usize,
}

impl Phase {
    /// Returns the rates at a position. The schedule starts after the warm-up, whose epochs' scores it
    /// does not see.
    pub fn at(&self, at: &Position) -> Rates {
        let share = warm_up(self.warmup_epochs, at);
        let waiting = self.warmup_epochs.min(self.epochs);
        let (epoch, step) = match at.epoch.checked_sub(waiting) {
            Some(epoch) => (epoch, at.step),
            None => (0, 0),
        };
        let scores = &at.scores[waiting.min(at.scores.len())..];
        let after = Position { epoch, step, scores, ..*at };
        let rates = self.rates.map(|rate| self.schedule.rate(rate, &after) * share);
        Rates { momentum: self.schedule.momentum(&after), ..rates }
    }
}

/// The phases of a run.
#[derive(Debug)]
pub struct RunSchedule {
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// Number of steps of each epoch.
    steps: Vec<usize>,
}

impl RunSchedule {
    /// Creates the schedule of a configuration. `steps(epoch)` is the number of training steps of an
    /// epoch, counted from 0.
    pub fn new(config: &Config, steps: impl Fn(usize) -> usize) -> Self {
        let total = config.total_epochs();
        let steps: Vec<usize> = (0..total).map(steps).collect();
        let sum = |first: usize, epochs: usize| steps.iter().skip(first).take(epochs).sum();
        let warmup_epochs =
            if config.schedule.lr_warmup { config.schedule.warmup_epochs } else { 0 };
        let freezing = &config.freezing;
        let decay = match (freezing.discriminative_lr, freezing.exponential_lr_decay) {
            (true, _) => DISCRIMINATIVE,
            (_, true) => EXPONENTIAL,
            _ => freezing.layer_decay.unwrap_or(1.0),
        };
        let rates = |heads: f64, backbone: f64| {
            let mut rate = backbone;
            let mut stages = [0.0; STAGES.len()];
            for stage in stages.iter_mut().rev() {
                *stage = rate;
                rate *= decay;
            }
            Rates { heads, stages, momentum: None }
        };
        // The schedule covers only the epochs after the warm-up.
        let scheduled = |epochs: usize| epochs.saturating_sub(warmup_epochs).max(1);
        let phases = if config.freezing.gradual_finetuning {
            let first = config.freezing.phase1_epochs.min(total);
            let second = total - first;
            let backbone =
                config.freezing.backbone_lr * config.freezing.phase2_backbone_lr_scale_factor;
            let start = match config.freezing.freezing_strategy {
                FreezingKind::Fixed => StageSet::last(config.freezing.unfreeze_blocks),
                _ => StageSet::last(1),
            };
            vec![
                Phase {
                    number: 1,
                    first_epoch: 0,
                    epochs: first,
                    rates: rates(config.freezing.head_lr, config.freezing.backbone_lr),
                    freezing: Box::new(Fixed(StageSet::NONE)),
                    schedule: Schedule::Plateau(Plateau {
                        factor: config.freezing.phase1_plateau_factor,
                        patience: config.freezing.phase1_plateau_patience,
                        min_lr: config.schedule.min_lr,
                    }),
                    warmup_epochs,
                },
                Phase {
                    number: 2,
                    first_epoch: first,
                    epochs: second,
                    rates: rates(backbone * config.freezing.phase2_head_lr_ratio, backbone),
                    freezing: strategy(config, start),
                    schedule: Schedule::new(config, second, sum(first, second)),
                    warmup_epochs: 0,
                },
            ]
        } else {
            let start = match config.freezing.freezing_strategy {
                // Without gradual fine-tuning `fixed` freezes nothing.
                FreezingKind::Fixed => StageSet::ALL,
                _ => StageSet::NONE,
            };
            vec![Phase {
                number: 1,
                first_epoch: 0,
                epochs: total,
                rates: rates(config.schedule.lr, config.schedule.lr),
                freezing: strategy(config, start),
                schedule: Schedule::new(config, scheduled(total), sum(0, total)),
                warmup_epochs,
            }]
        };
        Self { phases, steps }
    }

    /// Returns the number of epochs.
    pub fn epochs(&self) -> usize {
        self.steps.len()
    }

    /// Returns the number of training steps before an epoch.
    pub fn steps_before(&self, epoch: usize) -> usize {
        self.steps.iter().take(epoch).sum()
    }

    /// Returns the plan of an epoch, given the outcomes of all epochs before it.
    pub fn epoch<'a>(&'a self, epoch: usize, past: &[EpochOutcome]) -> EpochPlan<'a> {
        let mut phase = &self.phases[0];
        for later in &self.phases {
            if later.epochs > 0 && later.first_epoch <= epoch {
                phase = later;
            }
        }
        let past = past.get(phase.first_epoch..).unwrap_or_default();
        EpochPlan {
            phase,
            trainable: phase.freezing.trainable(past),
            epoch: epoch - phase.first_epoch,
            steps_before: self.steps_before(epoch) - self.steps_before(phase.first_epoch),
            steps: *self.steps.get(epoch).expect("the epoch is within the run"),
            scores: past.iter().map(|outcome| outcome.score).collect(),
        }
    }
}

/// The plan of an epoch: which stages train, and at which rates.
#[derive(Debug)]
pub struct EpochPlan<'a> {
    /// Phase that the epoch belongs to.
    pub phase: &'a Phase,
    /// Stages that train.
    pub trainable: StageSet,
    epoch: usize,
    steps_before: usize,
    steps: usize,
    scores: Vec<f64>,
}

impl EpochPlan<'_> {
    /// Returns the rates of a step of the epoch, counted from 0.
    pub fn at(&self, step: usize) -> Rates {
        self.phase.at(&Position {
            epoch: self.epoch,
            steps_before: self.steps_before,
            step,
            steps: self.steps,
            scores: &self.scores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plateau_schedule_starts_after_the_warm_up() {
        let mut config = Config::default();
        (config.schedule.lr_warmup, config.schedule.warmup_epochs) = (true, 5);
        (config.freezing.phase1_epochs, config.freezing.phase1_plateau_patience) = (8, 1);
        let schedule = RunSchedule::new(&config, |_| 10);
        let outcome = |score: f64| EpochOutcome { score, gradients: None };
        // The scores of the five warm-up epochs, the first of which happens to be the best, do not
        // count.
        let past: Vec<EpochOutcome> = [0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4].map(outcome).into();
        let rate = |epoch: usize| schedule.epoch(epoch, &past[..epoch]).at(9).heads;
        let full = config.freezing.head_lr;
        assert_eq!([5, 6, 7].map(rate), [full; 3]);
        let ahead = schedule.phases[0].at(&Position {
            epoch: 7,
            steps_before: 70,
            step: 0,
            steps: 10,
            scores: &past.iter().map(|outcome| outcome.score).collect::<Vec<_>>(),
        });
        assert!((ahead.heads - full * config.freezing.phase1_plateau_factor).abs() < 1e-12);
    }
}
