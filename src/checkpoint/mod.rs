//! Checkpoints on disk. `NAME.safetensors` has the weights with what is needed to rebuild the
//! network, `NAME.state` everything else that a run needs to go on bit for bit
//! ([`crate::train::RunState`]). Both are safetensors files with a checksum over all they say; a
//! damaged one is refused.

pub(crate) mod container;
mod export;
mod files;
mod lock;
mod weights;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use export::{Layout, export};
pub(crate) use files::patiently;
pub use files::{prepare_folder, write_atomically, write_text};
pub use lock::FolderLock;
pub(crate) use weights::rebuild;
pub use weights::{encode, load, read, save};

use crate::data::sampling::WindowSpec;
use crate::model::ModelConfig;
use crate::model::state_dict::StateDictError;

/// Weights of the best epoch.
pub const BEST: &str = "best.safetensors";
/// Weights after the last finished epoch, or the last step before an interruption.
pub const LAST: &str = "last.safetensors";
/// Every epoch's figures.
pub const HISTORY: &str = "history.json";
/// The resolved configuration.
pub const CONFIG: &str = "config.toml";

/// Version of the checkpoint's layout; a higher one is refused.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused to write.
    #[error("{}: cannot be written: {source}; choose another --save-dir or make room", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file could not be read, or is no checkpoint of ours.
    #[error("{}: not a polyview checkpoint: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder is another run's.
    #[error(
        "--save-dir {}: {owner} is writing there: wait for it, or choose another --save-dir",
        .path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it.
        owner: String,
    },
    /// A checkpoint of another kind of run.
    #[error("--resume {}: {reason}", .path.display())]
    Resume {
        /// The file.
        path: PathBuf,
        /// What differs, and what to do.
        reason: String,
    },
    /// Weights and network do not fit together.
    #[error("{}: {source}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: StateDictError,
    },
}

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Layout version.
    pub format_version: u32,
    /// polyview's version.
    pub polyview_version: String,
    /// The schema's name.
    pub schema: String,
    /// Class names per task.
    pub classes: Vec<Vec<String>>,
    /// The network's shape.
    pub model: ModelConfig,
    /// What the network was trained to look at; absent where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputSpec>,
    /// Finished epochs.
    pub epoch: usize,
    /// Validation score of that epoch, when there was one.
    pub score: Option<f64>,
}

/// How clips are brought to the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Which frames of a clip.
    pub window: WindowSpec,
    /// `[H, W]` of a frame.
    pub size: [usize; 2],
    /// Most views of an action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_views: Option<usize>,
}

impl CheckpointInfo {
    /// Facts of a checkpoint written by this version.
    pub fn new(schema: &crate::schema::Schema, model: ModelConfig) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            polyview_version: env!("CARGO_PKG_VERSION").to_owned(),
            schema: schema.name.clone(),
            classes: schema
                .tasks
                .iter()
                .map(|task| task.classes.iter().map(|class| class.name.clone()).collect())
                .collect(),
            model,
            input: None,
            epoch: 0,
            score: None,
        }
    }
}
