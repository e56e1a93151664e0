//! Checkpoints on disk. `NAME.safetensors` contains the weights and the description needed to rebuild
//! the network, `NAME.state` everything else that is needed to resume a run bit for bit
//! (`src/train/state.rs`). Both are safetensors files with a checksum over their content; a
//! damaged file is refused.

pub(crate) mod container;
mod export;
mod files;
mod lock;
mod previous;
pub(crate) mod run_folder;
mod weights;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use crate::atomic_file::patiently;
pub(crate) use container::{verify, write_tensors};
pub(crate) use export::is_export;
pub use export::{Layout, export};
pub(crate) use files::{prepare_folder, remove_leftovers, write_atomically, write_text};
pub use lock::FolderLock;
pub(crate) use previous::{holds_run, move_aside, move_files_aside, would_move};
pub use run_folder::{
    BEST, CONFIG, HISTORY, LAST, METRICS, REPORT, TENSORBOARD, VALID_PREDICTIONS,
};
pub(crate) use run_folder::{FAILURE, LOG, RunFileError, is_directly_in};
pub(crate) use weights::rebuild;
pub(crate) use weights::{decode, encode, read};
pub use weights::{load, save};

use crate::data::InputSpec;
use crate::data::source::Partition;
use crate::evaluate::Calibration;
use crate::model::ModelConfig;
use crate::model::state_dict::StateDictError;
use crate::schema::{Schema, SchemaError};

/// Version of the checkpoint format; higher ones are refused.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or folder cannot be written.
    #[error("{}: cannot be written: {source}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file cannot be read, or is not a polyview checkpoint.
    #[error("{}: cannot be read as a checkpoint: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Some weights are NaN or infinite. They are neither written nor read.
    #[error("{}: the weights of `{tensor}` are not finite", .path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
    },
    /// A value is beyond the range of f16.
    #[error("{}: `{tensor}` has values beyond the range of f16 (±65504)", .path.display())]
    BeyondHalf {
        /// The file with the value.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
    },
    /// Another run has locked the folder.
    #[error("{}: {owner} is writing there", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The run that has locked it.
        owner: String,
    },
    /// A new run would replace the one in the folder.
    #[error("{}: it holds another run", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// The pretrained weights are among the files of an earlier run, which would be moved aside.
    #[error("{}: it would be moved aside with the earlier run's files", .path.display())]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// The run cannot resume from the checkpoint.
    #[error("{}: {reason}", .path.display())]
    Resume {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The weights do not fit the network.
    #[error("{}: {source}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateDictError,
    },
}

/// A checkpoint's header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Version of the checkpoint format.
    pub format_version: u32,
    /// Version of polyview that wrote the checkpoint.
    pub polyview_version: String,
    /// The schema's name.
    pub schema: String,
    /// Class names per task.
    pub classes: Vec<Vec<String>>,
    /// The text of the schema, unless it is the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_file: Option<String>,
    /// How polyview made the run's splits; absent if the data set came with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Digests of the actions of every training split that the run has had; empty if polyview did not make
    /// the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trained_digests: Vec<u32>,
    /// The network's architecture.
    pub model: ModelConfig,
    /// The input that the network was trained on; absent where unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputSpec>,
    /// Calibration of the probabilities, fitted on the validation split; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Number of finished epochs.
    pub epoch: usize,
    /// Validation score of that epoch, if there was one.
    pub score: Option<f64>,
}

impl CheckpointInfo {
    /// Returns the schema of the run; `file` is the checkpoint, for errors.
    ///
    /// # Errors
    /// If this version does not understand the schema.
    pub fn load_schema(&self, file: &Path) -> Result<Schema, SchemaError> {
        match &self.schema_file {
            Some(text) => Schema::parse(text, &format!("{} (its schema)", file.display())),
            None => Schema::mvfoul(),
        }
    }

    /// Creates the header of a checkpoint written by this version, before the first epoch.
    pub fn new(schema: &Schema, model: ModelConfig) -> Self {
        let built_in = Schema::mvfoul().is_ok_and(|built_in| built_in == *schema);
        Self {
            format_version: FORMAT_VERSION,
            polyview_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: schema.name.clone(),
            classes: schema
                .tasks
                .iter()
                .map(|task| task.classes.iter().map(|class| class.name.clone()).collect())
                .collect(),
            schema_file: (!built_in).then(|| schema.to_toml()),
            partition: None,
            trained_digests: Vec::new(),
            model,
            input: None,
            calibration: None,
            epoch: 0,
            score: None,
        }
    }
}
