//! The augmentation's options, as `train` and `augment` share them.

use clap::Args;
use serde::Serialize;

use crate::augment::Strength;

/// Options as typed.
#[derive(Debug, Args, Serialize)]
#[command(allow_negative_numbers = true)]
#[serde(rename_all = "kebab-case")]
pub struct AugmentationArgs {
    /// none, mild, moderate, aggressive or extreme [default: aggressive]
    #[arg(long, value_name = "LEVEL", help_heading = "Augmentation")]
    augmentation_strength: Option<Strength>,
    /// The same as --augmentation-strength aggressive
    #[arg(long, help_heading = "Augmentation", conflicts_with = "augmentation_strength")]
    #[serde(skip)]
    aggressive_augmentation: bool,
    /// The same as --augmentation-strength extreme
    #[arg(
        long,
        help_heading = "Augmentation",
        conflicts_with_all = ["augmentation_strength", "aggressive_augmentation"]
    )]
    #[serde(skip)]
    extreme_augmentation: bool,
    /// The same as --augmentation-strength none
    #[arg(
        long,
        help_heading = "Augmentation",
        conflicts_with_all =
            ["augmentation_strength", "aggressive_augmentation", "extreme_augmentation"]
    )]
    #[serde(skip)]
    disable_augmentation: bool,
    /// Largest shift in time, frames [default: 3]
    #[arg(long, value_name = "N", help_heading = "Augmentation")]
    temporal_jitter_strength: Option<usize>,
    /// Probability that a frame becomes black [default: 0.2]
    #[arg(long, value_name = "P", help_heading = "Augmentation")]
    dropout_prob: Option<f64>,
    /// Smallest scale of a crop's sides, 1 = no crop [default: 0.7]
    #[arg(long, value_name = "S", help_heading = "Augmentation")]
    spatial_crop_strength: Option<f64>,
    /// Largest deviation of brightness and contrast from 1 [default: 0.3]
    #[arg(long, value_name = "S", help_heading = "Augmentation")]
    color_aug_strength: Option<f64>,
    /// Largest standard deviation of the noise [default: 0.06]
    #[arg(long, value_name = "S", help_heading = "Augmentation")]
    noise_strength: Option<f64>,
    /// Stronger settings for rarer classes
    #[arg(long, help_heading = "Augmentation", overrides_with = "no_severity_aware_augmentation")]
    #[serde(skip)]
    severity_aware_augmentation: bool,
    /// The same settings for all classes [default]
    #[arg(long, help_heading = "Augmentation")]
    #[serde(skip)]
    no_severity_aware_augmentation: bool,
    /// Augment on the device where it takes WGSL [default]
    #[arg(long, help_heading = "Augmentation", overrides_with = "no_gpu_augmentation")]
    #[serde(skip)]
    gpu_augmentation: bool,
    /// Augment on the host; the pixels are the same
    #[arg(long, help_heading = "Augmentation")]
    #[serde(skip)]
    no_gpu_augmentation: bool,
}

impl AugmentationArgs {
    /// What was typed, under the options' names, added to `table`.
    pub(super) fn add_to(&self, table: &mut toml::Table) {
        let strength = [
            (self.aggressive_augmentation, Strength::Aggressive),
            (self.extreme_augmentation, Strength::Extreme),
            (self.disable_augmentation, Strength::None),
        ];
        if let Some((_, strength)) = strength.into_iter().find(|(typed, _)| *typed) {
            table.insert("augmentation-strength".to_owned(), strength.to_string().into());
        }
        super::add_switch(
            table,
            "severity-aware-augmentation",
            self.severity_aware_augmentation,
            self.no_severity_aware_augmentation,
        );
        super::add_switch(
            table,
            "gpu-augmentation",
            self.gpu_augmentation,
            self.no_gpu_augmentation,
        );
    }
}
