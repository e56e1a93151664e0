//! The options of the augmentation.

use serde::{Deserialize, Serialize};

use crate::choices::choices;

/// An option of the augmentation outside what it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{option} {value}: {reason}")]
pub struct OptionError {
    /// The option's name without dashes.
    pub option: &'static str,
    /// The value as given.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

choices! {
    /// How strong the augmentation is: a level g that scales probabilities and ranges alike.
    Strength {
        /// g = 0: nothing happens.
        None = "none",
        /// g = 0.4.
        Mild = "mild",
        /// g = 0.7.
        Moderate = "moderate",
        /// g = 1: the other options' values as they are.
        Aggressive = "aggressive",
        /// g = 1.4.
        Extreme = "extreme",
    }
}

impl Strength {
    /// g.
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

/// The augmentation's options; field names are the options' names.
///
/// What they mean for a clip, with the level g of [`Strength`]. Probabilities end at 0.95, "±a"
/// is uniform in [−a, a], "s in [a, b]" likewise.
///
/// | stage | probability | range |
/// |---|---|---|
/// | shift in time, edge frames repeated | 0.8 g | ± round(`temporal-jitter-strength`·g) frames |
/// | reversal | 0.1 g | |
/// | time warp about the clip's middle | 0.3 g | speed in 1 ± 0.25 g |
/// | frame dropout (black) | `dropout-prob`·g for each frame | one frame is always kept |
/// | crop, resized back | 0.8 g | scale of both sides in [1 − (1 − `spatial-crop-strength`)·g, 1], never under 0.1 or one pixel |
/// | rotation | 0.5 g | ± 8 g degrees |
/// | flip, shared by an action's views | 0.5 | (0 at strength none) |
/// | cutout, filled with 0.5 | 0.3 g | each side in [0.1, 0.1 + 0.2 g] of the frame's |
/// | brightness | 0.8 g | factor in 1 ± `color-aug-strength`·g, at most ± 0.9 |
/// | contrast about 0.5 | 0.8 g | likewise |
/// | Gaussian noise | 0.5 g | deviation in [0, `noise-strength`·g] |
/// | mixing with the previous or the next frame | 0.2 g | share in [0.1, 0.1 + 0.2 g] |
///
/// With `severity-aware-augmentation` g is multiplied by 1 + 0.5·rarity of the action's class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// The level.
    pub augmentation_strength: Strength,
    /// Largest shift in time, frames, 0 to 64.
    pub temporal_jitter_strength: usize,
    /// Probability that a frame becomes black, 0 to 1.
    pub dropout_prob: f64,
    /// Smallest scale of a crop's sides, above 0 to 1.
    pub spatial_crop_strength: f64,
    /// Largest deviation of the brightness and contrast factors from 1, 0 to 1.
    pub color_aug_strength: f64,
    /// Largest standard deviation of the noise, 0 to 1, where 1 is the whole range from black to
    /// white.
    pub noise_strength: f64,
    /// Whether rarer classes get stronger settings.
    pub severity_aware_augmentation: bool,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            augmentation_strength: Strength::Aggressive,
            temporal_jitter_strength: 3,
            dropout_prob: 0.2,
            spatial_crop_strength: 0.7,
            color_aug_strength: 0.3,
            noise_strength: 0.06,
            severity_aware_augmentation: false,
        }
    }
}

impl AugmentConfig {
    /// Refuses values outside their ranges, in one line that names the option.
    pub fn validate(&self) -> Result<(), OptionError> {
        let refuse = |option, value: String, reason: &str| {
            Err(OptionError { option, value, reason: reason.to_owned() })
        };
        if self.temporal_jitter_strength > 64 {
            let value = self.temporal_jitter_strength.to_string();
            return refuse("temporal-jitter-strength", value, "it is a number of frames, 0 to 64");
        }
        let crop = self.spatial_crop_strength;
        if crop == 0.0 || !(0.0..=1.0).contains(&crop) {
            let reason = "it is the smallest scale of a crop, above 0 to 1 (1 = no crop)";
            return refuse("spatial-crop-strength", crop.to_string(), reason);
        }
        let shares = [
            ("dropout-prob", self.dropout_prob, "it is a probability, 0 to 1"),
            ("color-aug-strength", self.color_aug_strength, "it is a deviation from 1, 0 to 1"),
            ("noise-strength", self.noise_strength, "it is a standard deviation, 0 to 1"),
        ];
        for (option, value, reason) in shares {
            if !(0.0..=1.0).contains(&value) {
                return refuse(option, value.to_string(), reason);
            }
        }
        Ok(())
    }
}
