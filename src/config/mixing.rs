//! Mixing of actions.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::{self, option_defaults};

/// Mixup and cutmix. With both, each is applied to half of the batches.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Mixing of actions")]
pub struct MixingConfig {
    /// Blend each action with another of its batch; shares are drawn from Beta(A, A)
    #[arg(long, value_name = "A", value_parser = options::positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
    /// Paste a rectangle of another action into each; its share is drawn from Beta(A, A)
    #[arg(long, value_name = "A", value_parser = options::positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutmix: Option<f64>,
}

option_defaults!(MixingConfig);

impl MixingConfig {
    /// Returns whether actions are mixed at all.
    pub fn mixes(&self) -> bool {
        self.mixup.is_some() || self.cutmix.is_some()
    }

    /// Describes the mixing in words; `None` if nothing is mixed.
    pub(crate) fn describe(&self) -> Option<String> {
        let parts = [("mixup", self.mixup), ("cutmix", self.cutmix)];
        let parts = parts.iter().filter_map(|(name, alpha)| Some(format!("{name} {}", (*alpha)?)));
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(" or "))
    }
}
