//! Options for class imbalance.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::data::balance::{Sampling, WeightingStrategy};
use crate::options::{self, choice, option_defaults};
use crate::schema::Schema;

/// Value of `balance-task` for all tasks in turn.
pub(super) const ALTERNATE: &str = "alternate";

/// Class weights and the class-balanced sampler.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Class imbalance")]
pub struct BalanceConfig {
    /// How class weights follow from class counts
    #[arg(long, value_name = "NAME", value_parser = choice::<WeightingStrategy>())]
    #[arg(default_value_t = WeightingStrategy::BalancedCapped)]
    pub class_weighting_strategy: WeightingStrategy,
    /// Largest class weight over the smallest (balanced_capped)
    #[arg(long, value_name = "R", value_parser = options::factor, default_value = "10")]
    pub max_weight_ratio: f64,
    /// Draw rare classes more often.
    #[arg(long, default_value_t = true, help = "Draw each action once per epoch")]
    pub use_class_balanced_sampler: bool,
    /// Largest factor by which rare classes are oversampled
    #[arg(long, value_name = "F", value_parser = options::factor, default_value = "4")]
    pub oversample_factor: f64,
    /// Raise the oversampling factor over the first epochs
    #[arg(long)]
    pub progressive_class_balancing: bool,
    /// Oversampling factor of the first epoch
    #[arg(long, value_name = "F", value_parser = options::factor, default_value = "1.5")]
    pub progressive_start_factor: f64,
    /// Oversampling factor after `progressive-epochs`
    #[arg(long, value_name = "F", value_parser = options::factor, default_value = "3")]
    pub progressive_end_factor: f64,
    /// Epochs over which the factor rises
    #[arg(long, value_name = "N", value_parser = options::at_least(1), default_value_t = 15)]
    pub progressive_epochs: usize,
    /// Task whose classes the sampler balances, or `alternate` [default: the imbalanced task]
    #[arg(long, value_name = "TASK")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance_task: Option<String>,
}

option_defaults!(BalanceConfig);

impl BalanceConfig {
    /// Returns the tasks whose classes the sampler balances, in turn; none if it is off.
    pub fn balanced_tasks(&self, schema: &Schema) -> Vec<usize> {
        if !self.use_class_balanced_sampler {
            return Vec::new();
        }
        match self.balance_task.as_deref() {
            Some(ALTERNATE) => (0..schema.tasks.len()).collect(),
            Some(name) => schema.tasks.iter().position(|t| t.name == name).into_iter().collect(),
            None => schema.imbalanced_task().into_iter().collect(),
        }
    }

    /// Returns how the sampler draws actions.
    pub fn sampling(&self) -> Sampling {
        match (self.use_class_balanced_sampler, self.progressive_class_balancing) {
            (false, _) => Sampling::Plain,
            (true, false) => Sampling::Balanced { factor: self.oversample_factor },
            (true, true) => Sampling::Progressive {
                start: self.progressive_start_factor,
                end: self.progressive_end_factor,
                epochs: self.progressive_epochs,
            },
        }
    }
}
