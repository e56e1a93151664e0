//! How splits that a data set lacks are made.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::data::source::{Fold, Partition, Shares};
use crate::options;

/// `--split`, `--split-seed` and `--fold`.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PartitionChoice {
    /// Fractions of the splits that are created: train, valid and test [default: 0.8,0.1,0.1 or 0.85,0.15]
    #[arg(long, value_name = "SHARES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Shares>,
    /// Seed of the splits that are created
    #[arg(long, value_name = "N", value_parser = options::seed, default_value_t = 0)]
    pub split_seed: u64,
    /// Validate on one of several folds of the training and validation splits, e.g. 2/5
    #[arg(long, value_name = "K/N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

impl PartitionChoice {
    /// Returns the chosen partition.
    pub fn partition(&self) -> Partition {
        Partition { shares: self.split.clone(), seed: self.split_seed, fold: self.fold }
    }
}
