//! One resolved, validated configuration of a training run. The command line, a TOML file and
//! library users all end here; nothing after this point asks where a value came from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::augment::{AugmentConfig, OptionError, Strength};
use crate::data::sampling::WindowSpec;
use crate::model::{BackboneKind, DROPOUT_FEATURE, DROPOUT_HEAD, ModelConfig};
use crate::schema::{Schema, SchemaError};

/// Why a configuration was refused. One line that names the option and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value outside what the option takes.
    #[error("--{option} {value}: {reason}")]
    Value {
        /// The option's name without dashes.
        option: &'static str,
        /// The value as given.
        value: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A required option is absent.
    #[error("--{option} is required: {reason}")]
    Required {
        /// The option's name without dashes.
        option: &'static str,
        /// What it is for.
        reason: &'static str,
    },
    /// The configuration file could not be read or understood.
    #[error("--config {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        reason: String,
    },
    /// An option of the augmentation.
    #[error(transparent)]
    Augment(#[from] OptionError),
    /// The schema file was refused.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// All options of a training run; field names are the options' names. `Default` has the values
/// that a plain `polyview train` uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the data set.
    pub dataset_root: PathBuf,
    /// Schema file; empty means the built-in one for SoccerNet-MVFoul.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Passes over the training split.
    pub epochs: usize,
    /// Actions per step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Decoding threads; 0 decodes in the training thread.
    pub num_workers: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Device, in the form `polyview devices` lists.
    pub device: String,
    /// Folder for checkpoints, history and configuration.
    pub save_dir: PathBuf,
    /// The 3D ResNet.
    pub backbone_name: BackboneKind,
    /// Frames that a clip has in the network, T.
    pub frames_per_clip: usize,
    /// Rate at which the window's frames are taken, frames per second.
    pub target_fps: f64,
    /// First frame of the window.
    pub start_frame: usize,
    /// Last frame of the window, included.
    pub end_frame: usize,
    /// Height of a frame in the network, pixels.
    pub img_height: usize,
    /// Width of a frame in the network, pixels.
    pub img_width: usize,
    /// Most views of an action that are used; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
    /// Merge views by attention; off: by their mean.
    pub attention_aggregation: bool,
    /// Dropout on each view's feature and inside the heads; absent: 0.4 and 0.6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout_rate: Option<f64>,
    /// Weight file to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<PathBuf>,
    /// Bound on the global gradient norm; 0 is off.
    pub gradient_clip_norm: f64,
    /// Share of the target spread over all classes.
    pub label_smoothing: f64,
    /// How strong the augmentation is.
    pub augmentation_strength: Strength,
    /// Largest shift in time, frames.
    pub temporal_jitter_strength: usize,
    /// Probability that a frame becomes black.
    pub dropout_prob: f64,
    /// Smallest scale of a crop's sides.
    pub spatial_crop_strength: f64,
    /// Largest deviation of brightness and contrast from 1.
    pub color_aug_strength: f64,
    /// Largest standard deviation of the noise.
    pub noise_strength: f64,
    /// Stronger settings for rarer classes.
    pub severity_aware_augmentation: bool,
    /// Augment on the device where it can; off: on the host, with the same pixels.
    pub gpu_augmentation: bool,
    /// Each batch takes one of three sizes.
    pub multi_scale: bool,
}

impl Default for Config {
    fn default() -> Self {
        let augment = AugmentConfig::default();
        Self {
            dataset_root: PathBuf::new(),
            schema: None,
            epochs: 50,
            batch_size: 8,
            lr: 2e-4,
            weight_decay: 1e-4,
            num_workers: 4,
            seed: 42,
            device: "auto".to_owned(),
            save_dir: PathBuf::from("checkpoints"),
            backbone_name: BackboneKind::R2plus1d18,
            frames_per_clip: 16,
            target_fps: 15.0,
            start_frame: 67,
            end_frame: 82,
            img_height: 224,
            img_width: 398,
            max_views: None,
            attention_aggregation: true,
            dropout_rate: None,
            pretrained: None,
            gradient_clip_norm: 1.0,
            label_smoothing: 0.1,
            augmentation_strength: augment.augmentation_strength,
            temporal_jitter_strength: augment.temporal_jitter_strength,
            dropout_prob: augment.dropout_prob,
            spatial_crop_strength: augment.spatial_crop_strength,
            color_aug_strength: augment.color_aug_strength,
            noise_strength: augment.noise_strength,
            severity_aware_augmentation: augment.severity_aware_augmentation,
            gpu_augmentation: true,
            multi_scale: false,
        }
    }
}

/// Smallest frame side: four halvings must leave a pixel.
const MIN_SIDE: usize = 16;
/// Largest frame side, and longest clip: beyond these a number is a typing error.
const MAX_SIDE: usize = 4096;
const MAX_FRAMES: usize = 512;

impl Config {
    /// Reads a TOML file of options over which `overrides` (the command line's) win.
    pub fn resolve(file: Option<&Path>, overrides: toml::Table) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_table(path)?,
            None => toml::Table::new(),
        };
        table.extend(overrides);
        let config = Self::from_table(table)?;
        config.validate()?;
        Ok(config)
    }

    fn from_table(table: toml::Table) -> Result<Self, ConfigError> {
        table.try_into().map_err(|error: toml::de::Error| ConfigError::Value {
            option: "config",
            value: "(merged with the command line)".to_owned(),
            reason: one_line(error.message()),
        })
    }

    /// Refuses what makes no sense, before any data are read.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.dataset_root.as_os_str().is_empty() {
            return Err(ConfigError::Required {
                option: "dataset-root",
                reason: "the folder that holds mvfouls/train and mvfouls/valid",
            });
        }
        at_least("epochs", self.epochs, 1)?;
        at_least("batch-size", self.batch_size, 1)?;
        within("num-workers", self.num_workers, 0, 256)?;
        within("frames-per-clip", self.frames_per_clip, 1, MAX_FRAMES)?;
        within("img-height", self.img_height, MIN_SIDE, MAX_SIDE)?;
        within("img-width", self.img_width, MIN_SIDE, MAX_SIDE)?;
        if let Some(views) = self.max_views {
            at_least("max-views", views, 1)?;
        }
        if self.end_frame < self.start_frame {
            return Err(value("end-frame", self.end_frame, "must not lie before --start-frame"));
        }
        positive("lr", self.lr)?;
        positive("target-fps", self.target_fps)?;
        not_negative("weight-decay", self.weight_decay)?;
        not_negative("gradient-clip-norm", self.gradient_clip_norm)?;
        below_one("label-smoothing", self.label_smoothing)?;
        if let Some(rate) = self.dropout_rate {
            below_one("dropout-rate", rate)?;
        }
        Ok(self.augmentation().validate()?)
    }

    /// The schema that the run uses.
    pub fn load_schema(&self) -> Result<Schema, ConfigError> {
        load_schema(self.schema.as_deref())
    }

    /// Which frames of a clip are used.
    pub fn window(&self) -> WindowSpec {
        WindowSpec {
            start_frame: self.start_frame,
            end_frame: self.end_frame,
            target_fps: self.target_fps,
            frames_per_clip: self.frames_per_clip,
        }
    }

    /// The augmentation's options.
    pub fn augmentation(&self) -> AugmentConfig {
        AugmentConfig {
            augmentation_strength: self.augmentation_strength,
            temporal_jitter_strength: self.temporal_jitter_strength,
            dropout_prob: self.dropout_prob,
            spatial_crop_strength: self.spatial_crop_strength,
            color_aug_strength: self.color_aug_strength,
            noise_strength: self.noise_strength,
            severity_aware_augmentation: self.severity_aware_augmentation,
        }
    }

    /// The network's shape.
    pub fn model(&self, schema: &Schema) -> ModelConfig {
        ModelConfig {
            attention: self.attention_aggregation,
            dropout_feature: self.dropout_rate.unwrap_or(DROPOUT_FEATURE),
            dropout_head: self.dropout_rate.unwrap_or(DROPOUT_HEAD),
            ..ModelConfig::new(self.backbone_name, schema)
        }
    }
}

/// A schema file, or the built-in schema.
pub fn load_schema(path: Option<&Path>) -> Result<Schema, ConfigError> {
    Ok(match path {
        Some(path) => Schema::load(path)?,
        None => Schema::mvfoul()?,
    })
}

/// Reads a file by itself first, so that a mistake in it is told with its line.
fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    let fail = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let place = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before
            .map_or(String::new(), |before| format!("line {}: ", before.matches('\n').count() + 1));
        fail(format!("{line}{}", one_line(error.message())))
    };
    toml::from_str::<Config>(&text).map_err(place)?;
    toml::from_str(&text).map_err(place)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn value(option: &'static str, value: impl ToString, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { option, value: value.to_string(), reason: reason.into() }
}

fn at_least(option: &'static str, given: usize, least: usize) -> Result<(), ConfigError> {
    if given < least {
        return Err(value(option, given, format!("must be at least {least}")));
    }
    Ok(())
}

fn within(
    option: &'static str,
    given: usize,
    least: usize,
    most: usize,
) -> Result<(), ConfigError> {
    if !(least..=most).contains(&given) {
        return Err(value(option, given, format!("must lie between {least} and {most}")));
    }
    Ok(())
}

fn positive(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(given.is_finite() && given > 0.0) {
        return Err(value(option, given, "must be a number above 0"));
    }
    Ok(())
}

fn not_negative(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(given.is_finite() && given >= 0.0) {
        return Err(value(option, given, "must be 0 (off) or a number above it"));
    }
    Ok(())
}

fn below_one(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(0.0..1.0).contains(&given) {
        return Err(value(option, given, "must be at least 0 and below 1"));
    }
    Ok(())
}
