//! The configuration of a training run. The command line, a TOML file and library users all produce
//! a [`Config`]; no later code asks where a value came from.
//!
//! Each section is a struct of options (see `src/options`). In configuration files and checkpoints
//! the sections are flattened: the options appear under their own names at the top level.

pub mod advice;
mod auto;
mod balance;
mod cache;
pub(crate) mod clips;
mod compute;
pub(crate) mod data;
mod freezing;
mod loss;
mod mixing;
mod network;
mod optimizer;
mod partition;
mod rules;
mod run;
mod schedule;
pub(crate) mod shortcuts;
pub(crate) mod source;
mod window;
mod without_effect;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::augment::AugmentConfig;
pub use crate::data::balance::WeightingStrategy;
use crate::data::source::SourceSpec;
use crate::data::{DataError, DataSource, InputSpec};
use crate::model::ModelConfig;
pub use crate::options::OptionError;
use crate::options::{self, ONE_START, RESUME_MAY_CHANGE, option_defaults};
use crate::schema::{Schema, SchemaError};

pub use auto::Auto;
pub use balance::BalanceConfig;
pub use cache::CacheChoice;
pub use clips::ClipConfig;
pub(crate) use clips::MAX_FRAMES;
pub use compute::ComputeConfig;
pub use data::DataConfig;
pub use freezing::{FreezingConfig, FreezingKind};
pub use loss::{LossConfig, LossFunction};
pub use mixing::MixingConfig;
pub use network::NetworkConfig;
pub use optimizer::{Moments, OptimizerConfig, OptimizerKind};
pub use partition::PartitionChoice;
pub(crate) use run::AUTO;
pub use run::RunConfig;
pub use schedule::{ScheduleConfig, SchedulerKind};
pub use source::Typed;
pub use window::WindowChoice;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that the option does not take, or that contradicts another option.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A required option is absent.
    #[error("{option} is required: {reason}")]
    Required {
        /// The option's name without dashes.
        option: &'static str,
        /// Purpose of the option.
        reason: &'static str,
    },
    /// The configuration file could not be read or understood.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line if known.
        reason: String,
    },
    /// The schema file was refused.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// All options of a training run. `Default` has the values of `polyview train` without options; the
/// data set's folder is empty.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Data set, loader and frame cache.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataConfig,
    /// Which part of a clip the network sees, and at what size.
    #[command(flatten)]
    #[serde(flatten)]
    pub clips: ClipConfig,
    /// Seed, files, checkpoints and resuming.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunConfig,
    /// Device and memory.
    #[command(flatten)]
    #[serde(flatten)]
    pub compute: ComputeConfig,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkConfig,
    /// Batch size and update rule.
    #[command(flatten)]
    #[serde(flatten)]
    pub optimizer: OptimizerConfig,
    /// Epochs, learning rate and its schedule.
    #[command(flatten)]
    #[serde(flatten)]
    pub schedule: ScheduleConfig,
    /// Loss functions and their weights.
    #[command(flatten)]
    #[serde(flatten)]
    pub loss: LossConfig,
    /// Mixup and cutmix.
    #[command(flatten)]
    #[serde(flatten)]
    pub mixing: MixingConfig,
    /// Class weights and the class-balanced sampler.
    #[command(flatten)]
    #[serde(flatten)]
    pub balance: BalanceConfig,
    /// Gradual fine-tuning and freezing.
    #[command(flatten)]
    #[serde(flatten)]
    pub freezing: FreezingConfig,
    /// Augmentation.
    #[command(flatten)]
    #[serde(flatten)]
    pub augment: AugmentConfig,
}

option_defaults!(Config);

/// Folder of decoded frames below the save-dir.
const FRAMES: &str = "frames";
/// Early-stopping patience without gradual fine-tuning.
const PATIENCE: usize = 10;

impl Config {
    /// Reads a TOML file of options, in which shortcuts (`simple-training = true`) stand for several.
    ///
    /// # Errors
    /// What [`Config::validate`] refuses, unknown options and values, with file and line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::resolve(Some(path), Typed::default())
    }

    /// Merges a TOML file of options with those typed on a command line, which win.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn resolve(file: Option<&Path>, typed: Typed<Self>) -> Result<Self, ConfigError> {
        // Only typed options count, because a run's own configuration file may have one of the two.
        if typed.has_value("resume", AUTO) && typed.has_value("overwrite", "true") {
            let reason = "one continues the run in SAVE_DIR, the other moves it aside: leave one of the two \
                          out";
            return Err(OptionError::new("resume", "auto with --overwrite", reason).into());
        }
        let config: Self = typed.over(file)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses a configuration that makes no sense, before any data are read.
    ///
    /// # Errors
    /// An option outside its range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        options::validate(self)?;
        self.check()
    }

    /// Checks the rules of [`Config::validate`] that involve several options.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        rules::check(self)
    }

    /// Returns warnings about combinations of options that are valid but unlikely to be intended.
    pub fn warnings(&self) -> Vec<String> {
        rules::warnings(self)
    }

    /// Refuses options that do not fit the schema.
    ///
    /// # Errors
    /// A task or a property that the schema lacks.
    pub fn validate_with(&self, schema: &Schema) -> Result<(), ConfigError> {
        rules::check_schema(self, schema)
    }

    /// Returns the number of epochs of the run.
    pub fn total_epochs(&self) -> usize {
        match (self.run.test_run, self.freezing.gradual_finetuning) {
            (true, _) => 1,
            (false, true) => self.freezing.phase1_epochs + self.freezing.phase2_epochs,
            (false, false) => self.schedule.epochs,
        }
    }

    /// Returns the number of epochs without a better score after which the run stops; 0 means never.
    /// `auto` is phase 1 and half of phase 2 with gradual fine-tuning, otherwise 10.
    pub fn patience(&self) -> usize {
        match self.schedule.early_stopping_patience {
            Auto::Number(epochs) => epochs,
            Auto::Auto if self.freezing.gradual_finetuning => {
                self.freezing.phase1_epochs + self.freezing.phase2_epochs / 2
            }
            Auto::Auto => PATIENCE,
        }
    }

    /// Returns the folder of decoded frames; `None` if none are kept. A test run writes no files unless
    /// a folder is named.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        match &self.data.cache {
            CacheChoice::Off => None,
            CacheChoice::Folder(folder) => Some(folder.clone()),
            CacheChoice::Auto if self.run.test_run => None,
            CacheChoice::Auto => Some(self.run.save_dir.join(FRAMES)),
        }
    }

    /// Opens the data set.
    ///
    /// # Errors
    /// A schema file that cannot be read or understood, a folder that is not a data set, and a task that
    /// the schema does not have.
    pub fn open_data(&self) -> Result<DataSource, DataError> {
        let schema = self.data.schema.as_deref().map(Schema::load).transpose()?;
        let (root, format) = (self.data.dataset_root.clone(), self.data.format);
        let partition = self.data.partition.partition();
        let source = DataSource::open(&SourceSpec { root, format, schema, partition })?;
        if self.data.tasks.is_empty() { Ok(source) } else { source.with_tasks(&self.data.tasks) }
    }

    /// Returns how clips are fed to the network. The schema decides what no option does.
    ///
    /// # Errors
    /// Those of [`ClipConfig::window`].
    pub fn input(&self, schema: &Schema) -> Result<InputSpec, ConfigError> {
        let window = self.clips.window(schema)?;
        Ok(InputSpec { window, size: self.clips.frame_size(), max_views: self.clips.max_views })
    }

    /// Returns the network's shape.
    pub fn model(&self, schema: &Schema) -> ModelConfig {
        self.network.model(schema, self.loss.has_auxiliary_heads())
    }

    /// Returns the configuration with which this run can be repeated from its beginning.
    pub(crate) fn without_start(&self) -> Self {
        let mut table =
            toml::Table::try_from(self).expect("a configuration is a table of scalars and lists");
        for name in options::member_of::<Self>(ONE_START) {
            table.remove(&name);
        }
        table.try_into().expect("an option that is left out has its default")
    }

    /// Returns the options that differ from an earlier configuration of the same run and change its
    /// outcome, as "name was x, is y".
    pub(crate) fn changes_from(&self, other: &Self) -> Vec<String> {
        let free = options::member_of::<Self>(RESUME_MAY_CHANGE);
        let [now, before] = [self, other].map(|config| {
            toml::Table::try_from(config).expect("a configuration is a table of scalars and lists")
        });
        let mut names: Vec<&String> = now.keys().chain(before.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let text =
            |value: Option<&toml::Value>| value.map_or("unset".to_owned(), ToString::to_string);
        names
            .into_iter()
            .filter(|name| !free.contains(name) && before.get(*name) != now.get(*name))
            .map(|name| {
                format!("{name} was {}, is {}", text(before.get(name)), text(now.get(name)))
            })
            .collect()
    }
}

/// Loads a schema file, or the built-in schema without one.
///
/// # Errors
/// A schema file that cannot be read or understood.
pub fn load_schema(path: Option<&Path>) -> Result<Schema, ConfigError> {
    Ok(match path {
        Some(path) => Schema::load(path)?,
        None => Schema::mvfoul()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_repeated_without_the_options_of_its_start() {
        let config = Config::default();
        let mut started = config.clone();
        started.run.resume = Some("auto".into());
        started.run.resume_best_acc = Some(0.5);
        started.run.overwrite = true;
        started.run.record = Some("steps".into());
        assert_eq!(started.without_start(), config);
        assert_eq!(options::member_of::<Config>(ONE_START).len(), 4);
    }

    #[test]
    fn only_marked_options_may_change_in_a_resumed_run() {
        let config = Config::default();
        let mut resumed = config.clone();
        resumed.data.num_workers += 1;
        resumed.compute.device = "cpu".to_owned();
        resumed.compute.lanes = Auto::Number(4);
        resumed.run.resume = Some("auto".into());
        assert!(resumed.changes_from(&config).is_empty());
        resumed.clips.max_views = Some(2);
        resumed.schedule.lr = 1.0;
        let changes = resumed.changes_from(&config);
        assert_eq!(changes, ["lr was 0.0002, is 1.0", "max-views was unset, is 2"]);
        assert_eq!(options::member_of::<Config>(RESUME_MAY_CHANGE).len(), 17);
    }
}
