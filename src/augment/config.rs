//! Options of the augmentation.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::plan::STAGES;
use crate::options::{self, OptionError, choice, choices, option_defaults};

choices! {
    /// Strength of the augmentation: a level g that scales both probabilities and ranges.
    pub Strength {
        /// g = 0: no augmentation.
        None = "none",
        /// g = 0.4.
        Mild = "mild",
        /// g = 0.7.
        Moderate = "moderate",
        /// g = 1: the other options' values apply unscaled.
        Aggressive = "aggressive",
        /// g = 1.4.
        Extreme = "extreme",
    }
}

impl Strength {
    /// Returns the level g.
    pub fn level(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Mild => 0.4,
            Self::Moderate => 0.7,
            Self::Aggressive => 1.0,
            Self::Extreme => 1.4,
        }
    }
}

/// The augmentation's options; the field names are the option names.
///
/// Their effect on a clip, with the level g of [`Strength`]: probabilities are capped at 0.95,
/// "± a" means uniform in [−a, a], and "in [a, b]" uniform in [a, b].
///
/// | stage | probability | range |
/// |---|---|---|
/// | temporal shift, edge frames repeated | 0.8 g | ± round(`temporal-jitter-strength`·g) frames |
/// | reversal | `reversal-prob`·g | |
/// | time warp about the clip's middle | 0.3 g | speed in 1 ± 0.25 g |
/// | frame dropout (black) | `dropout-prob`·g for each frame | one frame is always kept |
/// | crop, resized back | 0.8 g | scale of both sides in [1 − (1 − `spatial-crop-strength`)·g, 1], never under 0.1 or one pixel |
/// | rotation | 0.5 g | ± 8 g degrees |
/// | flip, shared by an action's views | `flip-prob` | (0 at strength none) |
/// | cutout, filled with 0.5 | 0.3 g | each side in [0.1, 0.1 + 0.2 g] of the frame's side |
/// | brightness | 0.8 g | factor in 1 ± `color-aug-strength`·g, at most ± 0.9 |
/// | contrast about 0.5 | 0.8 g | as for brightness |
/// | Gaussian noise | 0.5 g | deviation in [0, `noise-strength`·g] |
/// | mixing with the previous or the next frame | 0.2 g | share in [0.1, 0.1 + 0.2 g] |
///
/// With `rand-augment` N, a clip gets N of the stages other than the flip, all equally likely, as
/// RandAugment (Cubuk et al. 2020) draws operations. The ranges stay the same, but the
/// probabilities above do not apply, except that of frame dropout and a `reversal-prob` of 0.
///
/// With `severity-aware-augmentation` g is multiplied by 1 + 0.5·rarity of the action's class in the
/// imbalanced task, if the schema has one.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Augmentation")]
pub struct AugmentConfig {
    /// Overall strength: scales all probabilities and ranges
    #[arg(long, value_name = "LEVEL", value_parser = choice::<Strength>())]
    #[arg(default_value_t = Strength::Aggressive)]
    pub augmentation_strength: Strength,
    /// Apply N randomly drawn stages to each clip instead of each stage with its own probability
    #[arg(long, value_name = "N", value_parser = options::between(1, STAGES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<usize>,
    /// Largest temporal shift in frames
    #[arg(long, value_name = "N", value_parser = options::between(0, 64), default_value_t = 3)]
    pub temporal_jitter_strength: usize,
    /// Probability that a frame is blacked out
    #[arg(long, value_name = "P", value_parser = options::unit, default_value = "0.2")]
    pub dropout_prob: f64,
    /// Probability of a horizontal flip; 0 where a label depends on left and right
    #[arg(long, value_name = "P", value_parser = options::unit, default_value = "0.5")]
    pub flip_prob: f64,
    /// Probability that a clip is reversed in time; 0 where a label depends on the order of events
    #[arg(long, value_name = "P", value_parser = options::unit, default_value = "0.1")]
    pub reversal_prob: f64,
    /// Smallest side length of a crop, relative to the frame; 1 disables cropping
    #[arg(long, value_name = "S", value_parser = options::scale, default_value = "0.7")]
    pub spatial_crop_strength: f64,
    /// Largest deviation of the brightness and contrast factors from 1
    #[arg(long, value_name = "S", value_parser = options::unit, default_value = "0.3")]
    pub color_aug_strength: f64,
    /// Largest standard deviation of the noise, in units of the range from black to white
    #[arg(long, value_name = "S", value_parser = options::unit, default_value = "0.06")]
    pub noise_strength: f64,
    /// Stronger augmentation for rare classes
    #[arg(long)]
    pub severity_aware_augmentation: bool,
    /// Whether to augment on the device, if it runs WGSL.
    #[arg(
        long,
        default_value_t = true,
        help = "Augment on the host, with the same result up to rounding"
    )]
    pub gpu_augmentation: bool,
}

option_defaults!(AugmentConfig);

impl AugmentConfig {
    /// Checks that all values are within their ranges.
    ///
    /// # Errors
    /// The option, its value and the allowed values.
    pub fn validate(&self) -> Result<(), OptionError> {
        options::validate(self)
    }
}
