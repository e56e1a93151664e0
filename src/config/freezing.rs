//! Gradual fine-tuning, freezing, and learning rates by depth.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::model::{STAGES, StageSet};
use crate::options::{self, choice, choices, option_defaults};

choices! {
    /// Which stages of the backbone train when.
    pub FreezingKind {
        /// Gradual fine-tuning's two phases: heads only, then the last `unfreeze-blocks` stages.
        Fixed = "fixed",
        /// Unfreezes the next stage whenever the score stalls.
        Adaptive = "adaptive",
        /// Unfreezes the next stage at fixed intervals.
        Progressive = "progressive",
        /// Unfreezes the frozen stage with the largest gradient whenever the score stalls.
        GradientGuided = "gradient_guided" | "advanced",
        /// Nothing is ever frozen.
        None = "none",
    }
}

/// The two phases, what trains in them and at which rates.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Fine-tuning and freezing")]
pub struct FreezingConfig {
    /// Train in two phases: the heads alone, then some stages of the backbone too.
    #[arg(long, default_value_t = true)]
    #[arg(help = "Train in one phase of --epochs epochs at --lr, instead of the heads first")]
    pub gradual_finetuning: bool,
    /// Epochs of the first phase
    #[arg(long, value_name = "N", value_parser = options::epochs, default_value_t = 8)]
    pub phase1_epochs: usize,
    /// Epochs of the second phase
    #[arg(long, value_name = "N", value_parser = options::epochs, default_value_t = 15)]
    pub phase2_epochs: usize,
    /// Learning rate of the heads in the first phase
    #[arg(long, value_name = "RATE", value_parser = options::positive, default_value = "1e-3")]
    pub head_lr: f64,
    /// Learning rate of the backbone in the second phase
    #[arg(long, value_name = "RATE", value_parser = options::positive, default_value = "1e-5")]
    pub backbone_lr: f64,
    /// Factor of `backbone-lr` in the second phase
    #[arg(long, value_name = "F", value_parser = options::positive, default_value = "1")]
    pub phase2_backbone_lr_scale_factor: f64,
    /// Ratio of the heads' learning rate to the backbone's in the second phase
    #[arg(long, value_name = "R", value_parser = options::positive, default_value = "5")]
    pub phase2_head_lr_ratio: f64,
    /// Epochs without improvement before the first phase lowers the rate
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::whole, default_value_t = 3)]
    pub phase1_plateau_patience: usize,
    /// Factor by which the first phase lowers the rate
    #[arg(long, value_name = "F", value_parser = options::inside_unit, default_value = "0.2")]
    pub phase1_plateau_factor: f64,
    /// Strategy that decides which backbone stages are trained, and from when on
    #[arg(long, value_name = "NAME", value_parser = choice::<FreezingKind>())]
    #[arg(default_value_t = FreezingKind::Fixed)]
    pub freezing_strategy: FreezingKind,
    /// Stages that `fixed` trains in the second phase, counted from the heads
    #[arg(long, value_name = "N")]
    #[arg(value_parser = options::between(1, STAGES.len()), default_value_t = 3)]
    pub unfreeze_blocks: usize,
    /// Epochs without improvement before adaptive and gradient_guided unfreeze a stage
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 3)]
    pub adaptive_patience: usize,
    /// Smallest rise in the score that adaptive and gradient_guided count as an improvement
    #[arg(long, value_name = "S", value_parser = options::not_negative, default_value = "0.001")]
    pub adaptive_min_improvement: f64,
    /// Halve the learning rate from each stage to the one below it
    #[arg(long)]
    pub exponential_lr_decay: bool,
    /// Divide the learning rate by 2.6 from each stage to the one below it
    #[arg(long)]
    pub discriminative_lr: bool,
    /// Multiply the learning rate by this from each stage to the one below it
    #[arg(long, value_name = "F", value_parser = options::inside_unit)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
}

option_defaults!(FreezingConfig);

impl FreezingConfig {
    /// Returns the largest set of stages that trains at any time.
    pub fn most_trainable(&self) -> StageSet {
        match self.freezing_strategy {
            FreezingKind::Fixed if self.gradual_finetuning => StageSet::last(self.unfreeze_blocks),
            _ => StageSet::ALL,
        }
    }
}
