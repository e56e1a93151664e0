//! The optimizer.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::{self, choice, choices, option_defaults};

choices! {
    /// Update rule.
    pub OptimizerKind {
        /// Adam with decoupled weight decay (Loshchilov & Hutter 2019).
        AdamW = "adamw",
        /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
        Adam = "adam",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
    }
}

/// What an update rule remembers of earlier gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moments {
    /// Moving averages of the gradient and of its square.
    GradientAndSquare,
    /// Decaying sum of the gradients.
    Momentum,
}

impl OptimizerKind {
    /// Returns what the rule remembers. A run can be resumed with another rule that remembers the same.
    pub fn moments(self) -> Moments {
        match self {
            Self::AdamW | Self::Adam => Moments::GradientAndSquare,
            Self::Sgd => Moments::Momentum,
        }
    }

    /// Returns whether `momentum` has an effect.
    pub fn uses_momentum(self) -> bool {
        match self.moments() {
            Moments::Momentum => true,
            Moments::GradientAndSquare => false,
        }
    }
}

/// Batch size and update rule.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerConfig {
    /// Actions per step
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 8)]
    pub batch_size: usize,
    /// Update rule
    #[arg(long, value_name = "NAME", value_parser = choice::<OptimizerKind>())]
    #[arg(default_value_t = OptimizerKind::AdamW)]
    pub optimizer: OptimizerKind,
    /// Momentum of SGD
    #[arg(long, value_name = "M", value_parser = options::below_one, default_value = "0.9")]
    pub momentum: f64,
    /// Weight decay: decoupled with adamw, added to the gradient with adam and sgd
    #[arg(long, value_name = "W", value_parser = options::not_negative, default_value = "1e-4")]
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 turns clipping off
    #[arg(long, value_name = "NORM", value_parser = options::not_negative, default_value = "1")]
    pub gradient_clip_norm: f64,
    /// Validate and save an exponential moving average of the weights, with this decay per step
    #[arg(long, value_name = "DECAY", value_parser = options::inside_unit)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

option_defaults!(OptimizerConfig);
