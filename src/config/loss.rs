//! The loss.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::{self, choice, choices, option_defaults};

choices! {
    /// Loss of the imbalanced task; the other tasks use plain cross-entropy.
    pub LossFunction {
        /// Cross-entropy with class weights.
        Weighted = "weighted",
        /// Focal loss with class weights.
        Focal = "focal",
        /// Focal loss whose exponent is larger for rarer classes.
        AdaptiveFocal = "adaptive_focal",
        /// Cross-entropy.
        Plain = "plain",
    }
}

impl LossFunction {
    /// Returns whether the imbalanced task's classes are weighted.
    pub fn uses_class_weights(self) -> bool {
        match self {
            Self::Weighted | Self::Focal | Self::AdaptiveFocal => true,
            Self::Plain => false,
        }
    }

    /// Returns whether `focal-gamma` has an effect.
    pub fn uses_gamma(self) -> bool {
        match self {
            Self::Focal | Self::AdaptiveFocal => true,
            Self::Weighted | Self::Plain => false,
        }
    }
}

/// Weight of a task's loss if `main-task-weights` is empty.
const TASK_WEIGHT: f64 = 3.0;

/// Loss functions and their weights.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Loss")]
pub struct LossConfig {
    /// Loss of the imbalanced task; the other tasks use cross-entropy
    #[arg(long, value_name = "NAME", value_parser = choice::<LossFunction>())]
    #[arg(default_value_t = LossFunction::Weighted)]
    pub loss_function: LossFunction,
    /// Weight of each task's loss, in the schema's order [default: 3 each]
    #[arg(long, value_name = "W", value_parser = options::not_negative)]
    #[arg(num_args = 1.., action = clap::ArgAction::Set)]
    pub main_task_weights: Vec<f64>,
    /// Label smoothing: share of the target spread over all classes
    #[arg(long, value_name = "S", value_parser = options::below_one, default_value = "0.1")]
    pub label_smoothing: f64,
    /// Exponent γ of the focal losses
    #[arg(long, value_name = "G", value_parser = options::not_negative, default_value = "2")]
    pub focal_gamma: f64,
    /// Weight of auxiliary heads that predict other annotated properties; 0: no such heads
    #[arg(long, value_name = "W", value_parser = options::not_negative, default_value = "0")]
    pub auxiliary_task_weight: f64,
}

option_defaults!(LossConfig);

impl LossConfig {
    /// Returns the weight of a task's loss.
    pub fn task_weight(&self, task: usize) -> f64 {
        self.main_task_weights.get(task).copied().unwrap_or(TASK_WEIGHT)
    }

    /// Returns whether there are auxiliary heads.
    pub fn has_auxiliary_heads(&self) -> bool {
        self.auxiliary_task_weight > 0.0
    }
}
