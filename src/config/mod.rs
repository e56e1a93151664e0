//! One resolved, validated configuration of a training run. The command line, a TOML file and
//! library users all end here; nothing after this point asks where a value came from.

mod auto;
mod cache;
mod choices;
mod fields;
mod rules;
mod shortcuts;

use std::path::{Path, PathBuf};

use crate::augment::{AugmentConfig, OptionError};
use crate::checkpoint::InputSpec;
use crate::data::balance::Sampling;
pub use crate::data::balance::WeightingStrategy;
use crate::data::loader::Ahead;
use crate::data::sampling::WindowSpec;
use crate::model::{DROPOUT_FEATURE, DROPOUT_HEAD, ModelConfig};
use crate::schema::{Schema, SchemaError};
pub use auto::Auto;
pub use cache::CacheChoice;
pub use choices::{FreezingKind, LossFunction, OptimizerKind, SchedulerKind};
pub use fields::Config;

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

/// The weight of a task's loss where `main-task-weights` says nothing.
const TASK_WEIGHT: f64 = 3.0;
/// Folder of decoded frames below the save-dir.
const FRAMES: &str = "frames";
/// Word of `balance-task` for all tasks in turn.
const ALTERNATE: &str = "alternate";
/// Epochs without a better score that a run without phases bears.
const PATIENCE: usize = 10;

impl Config {
    /// Reads a TOML file of options over which `overrides` (the command line's) win. Shortcuts such
    /// as `simple-training` stand for several options; see [`Config::shortcuts`].
    pub fn resolve(file: Option<&Path>, mut overrides: toml::Table) -> Result<Self, ConfigError> {
        // Each source by itself: a shortcut on the command line wins over the file, and what is
        // spelled out beside a shortcut wins over the shortcut.
        shortcuts::expand(&mut overrides)?;
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

    /// The words that stand for several options or for one of another name, with what they mean.
    pub fn shortcuts() -> Vec<(&'static str, &'static str)> {
        shortcuts::list()
    }

    /// Refuses what makes no sense, before any data are read.
    pub fn validate(&self) -> Result<(), ConfigError> {
        rules::check(self)
    }

    /// Refuses what does not fit the schema.
    pub fn validate_with(&self, schema: &Schema) -> Result<(), ConfigError> {
        rules::check_schema(self, schema)
    }

    /// Passes over the training split that the run makes.
    pub fn total_epochs(&self) -> usize {
        match (self.test_run, self.gradual_finetuning) {
            (true, _) => 1,
            (false, true) => self.phase1_epochs + self.phase2_epochs,
            (false, false) => self.epochs,
        }
    }

    /// Epochs without a better score that the run bears; 0 is without end. Auto is phase 1 and
    /// half of phase 2 with gradual fine-tuning, else 10.
    pub fn patience(&self) -> usize {
        match self.early_stopping_patience {
            Auto::Number(epochs) => epochs,
            Auto::Auto if self.gradual_finetuning => self.phase1_epochs + self.phase2_epochs / 2,
            Auto::Auto => PATIENCE,
        }
    }

    /// How far the loader reads ahead.
    pub fn ahead(&self) -> Ahead {
        let (workers, batches) = (self.num_workers, self.prefetch);
        Ahead { workers, batches, bytes: self.loader_memory << 20 }
    }

    /// The folder of decoded frames; `None` where none are kept. A test run leaves no files unless
    /// it is told where.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        match &self.cache {
            CacheChoice::Off => None,
            CacheChoice::Folder(folder) => Some(folder.clone()),
            CacheChoice::Auto if self.test_run => None,
            CacheChoice::Auto => Some(self.save_dir.join(FRAMES)),
        }
    }

    /// `[T, H, W]` of a clip in the network.
    pub fn clip_size(&self) -> [usize; 3] {
        [self.frames_per_clip, self.img_height, self.img_width]
    }

    /// The weight of a task's loss.
    pub fn task_weight(&self, task: usize) -> f64 {
        self.main_task_weights.get(task).copied().unwrap_or(TASK_WEIGHT)
    }

    /// The tasks whose classes the sampler balances, in turn; none when it is off.
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

    /// How the sampler balances.
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

    /// How clips are brought to the network.
    pub fn input(&self) -> InputSpec {
        InputSpec {
            window: self.window(),
            size: [self.img_height, self.img_width],
            max_views: self.max_views,
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
        let mut model = ModelConfig {
            attention: self.attention_aggregation,
            dropout_feature: self.dropout_rate.unwrap_or(DROPOUT_FEATURE),
            dropout_head: self.dropout_rate.unwrap_or(DROPOUT_HEAD),
            ..ModelConfig::new(self.backbone_name, schema)
        };
        if self.annotation_inputs {
            model = model.with_inputs(schema);
        }
        if self.auxiliary_task_weight > 0.0 {
            model = model.with_auxiliary(schema);
        }
        model
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
    let mut table: toml::Table = toml::from_str(&text).map_err(place)?;
    let before = table.len();
    shortcuts::expand(&mut table)?;
    if table.len() == before {
        // Nothing was rewritten, so that the text itself tells the line of a mistake.
        toml::from_str::<Config>(&text).map_err(place)?;
    }
    Ok(table)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
