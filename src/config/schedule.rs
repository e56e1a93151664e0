//! Length of the run and learning-rate schedule.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Auto;
use crate::options::{self, choice, choices, option_defaults};

choices! {
    /// How the learning rate changes over the run.
    pub SchedulerKind {
        /// Half a cosine from the full rate to a hundredth of it.
        Cosine = "cosine",
        /// Like `cosine`, but updated at every step.
        CosineStep = "cosine_step",
        /// Up and down once within the run, updated at every step (Smith & Topin 2018).
        OneCycle = "onecycle",
        /// Multiplied by `gamma` after every `step-size` epochs.
        Step = "step",
        /// Multiplied by `gamma` after every epoch.
        Exponential = "exponential",
        /// Multiplied by `gamma` when the score has not risen for `plateau-patience` epochs.
        ReduceOnPlateau = "reduce_on_plateau",
        /// Constant.
        None = "none",
    }
}

impl SchedulerKind {
    /// Returns whether the rate rises at the start anyway, so that `lr-warmup` would be a second warm-up.
    pub fn has_own_warm_up(self) -> bool {
        match self {
            Self::OneCycle => true,
            Self::Cosine
            | Self::CosineStep
            | Self::Step
            | Self::Exponential
            | Self::ReduceOnPlateau
            | Self::None => false,
        }
    }

    /// Returns whether the schedule sets the momentum at each step, in place of the option.
    pub fn sets_momentum(self) -> bool {
        match self {
            Self::OneCycle => true,
            Self::Cosine
            | Self::CosineStep
            | Self::Step
            | Self::Exponential
            | Self::ReduceOnPlateau
            | Self::None => false,
        }
    }

    /// Returns whether `gamma` has an effect.
    pub fn uses_gamma(self) -> bool {
        match self {
            Self::Step | Self::Exponential | Self::ReduceOnPlateau => true,
            Self::Cosine | Self::CosineStep | Self::OneCycle | Self::None => false,
        }
    }
}

/// Epochs, learning rate and its schedule. With gradual fine-tuning the phases have their own epochs
/// and rates, and the scheduler applies to the second phase.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Schedule")]
pub struct ScheduleConfig {
    /// Epochs, without gradual fine-tuning
    #[arg(long, value_name = "N", value_parser = options::epochs, default_value_t = 50)]
    pub epochs: usize,
    /// Epochs without a better score after which training stops; 0: never
    #[arg(long, value_name = "N", default_value = "auto")]
    pub early_stopping_patience: Auto,
    /// Peak learning rate, without gradual fine-tuning
    #[arg(long, value_name = "RATE", value_parser = options::positive, default_value = "2e-4")]
    pub lr: f64,
    /// Learning-rate schedule; with gradual fine-tuning, that of the second phase
    #[arg(long, value_name = "NAME", value_parser = choice::<SchedulerKind>())]
    #[arg(default_value_t = SchedulerKind::Cosine)]
    pub scheduler: SchedulerKind,
    /// Linear warm-up of the learning rate from 0
    #[arg(long)]
    pub lr_warmup: bool,
    /// Epochs of warm-up
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 5)]
    pub warmup_epochs: usize,
    /// Epochs between two decays of `step`
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 10)]
    pub step_size: usize,
    /// Decay factor of step, exponential and reduce_on_plateau
    #[arg(long, value_name = "G", value_parser = options::inside_unit, default_value = "0.5")]
    pub gamma: f64,
    /// Epochs without improvement before reduce_on_plateau lowers the rate
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::whole, default_value_t = 5)]
    pub plateau_patience: usize,
    /// Minimum learning rate of reduce_on_plateau
    #[arg(long, value_name = "RATE", value_parser = options::not_negative, default_value = "1e-6")]
    pub min_lr: f64,
}

option_defaults!(ScheduleConfig);
