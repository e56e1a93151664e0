//! Why training fails.

use burn::tensor::{ExecutionError, TensorReadError};

use crate::augment::AugmentError;
use crate::checkpoint::CheckpointError;
use crate::cluster::ClusterError;
use crate::config::ConfigError;
use crate::data::DatasetError;
use crate::device::{DeviceError, MemoryWatch, in_one_line};
use crate::metrics::MetricsError;
use crate::model::pretrained::PretrainedError;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// An invalid configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device could not be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The pretrained weights were refused.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A checkpoint or one of the run's files could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A clip that the device's buffers cannot hold.
    #[error("a clip of {size} needs a buffer of {need} MB, {device} allows {limit} MB")]
    TooLarge {
        /// T×H×W.
        size: String,
        /// Megabytes needed.
        need: u64,
        /// Megabytes allowed.
        limit: u64,
        /// The device's name.
        device: String,
    },
    /// Clips of which nothing is left before the network's end.
    #[error("clips of {size} are too small for the network")]
    TooSmall {
        /// T×H×W.
        size: String,
    },
    /// A folder for a record that holds another one.
    #[error("{folder}: it holds the record of another run")]
    RecordOccupied {
        /// Folder of the record.
        folder: String,
    },
    /// Steps in several lanes, which a record would not repeat.
    #[error("{folder}: a run of {lanes} lanes is not recorded: batch norm differs between lanes")]
    RecordLanes {
        /// Folder of the record.
        folder: String,
        /// Lanes of each step.
        lanes: usize,
    },
    /// NaN or infinity in a training step, before it updated anything.
    #[error("{what} is {value} in epoch {epoch}, step {step} (actions {actions})")]
    NotFinite {
        /// "the loss", or the gradient of the first parameter concerned.
        what: String,
        /// The value.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// The batch's actions.
        actions: String,
        /// Whether activations and their gradients were in half precision.
        half: bool,
    },
    /// NaN or infinity where a validation loss should be.
    #[error("the validation loss is {value} after epoch {epoch}; its weights were not saved")]
    ValidationNotFinite {
        /// The value.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Whether activations were in half precision.
        half: bool,
    },
    /// A run that ended without a single update: its loss scale was too large for each of its steps.
    #[error(
        "nothing was trained: gradients were beyond the range of f16 in each of the {steps} steps, \
             which were left out"
    )]
    AllLeftOut {
        /// Steps of the run.
        steps: usize,
    },
    /// A batch that could not be augmented.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// A label or a prediction outside the task's classes.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The ranks of a cluster cannot work together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A rank reads other data than the lead.
    #[error("the {split} split of {rank} is not that of rank 0: other actions, labels or views")]
    OtherData {
        /// The rank and its machine.
        rank: String,
        /// The split.
        split: String,
    },
    /// The ranks of a cluster do not have the same weights any more.
    #[error("the weights of {rank} are not those of rank 0: its machine computes differently")]
    Drift {
        /// The rank and its machine.
        rank: String,
    },
    /// A batch cannot be cut into so many lanes.
    #[error(
        "{lanes} lanes need a batch of at least {lanes} actions, but --batch-size is {actions}"
    )]
    FewActions {
        /// Lanes.
        lanes: usize,
        /// Actions of a batch.
        actions: usize,
    },
    /// A device would have nothing to compute.
    #[error("{devices} devices need at least {devices} lanes, but the run has {lanes}")]
    FewLanes {
        /// Devices.
        devices: usize,
        /// Lanes.
        lanes: usize,
    },
    /// One of several devices can no longer be used.
    #[error("{device}: {reason}")]
    Worker {
        /// The device.
        device: String,
        /// What happened.
        reason: String,
    },
    /// Not even one clip fits into the device's memory.
    #[error("the device is out of memory with a single clip")]
    OutOfMemory,
    /// The device failed while computing.
    #[error("the device failed: {}", in_one_line(.0))]
    Compute(#[from] TensorReadError),
    /// The same, as it says when several values are read at once.
    #[error("the device failed: {}", in_one_line(.0))]
    Execution(#[from] ExecutionError),
    /// The device failed while kernels were timed.
    #[error("the device failed while kernels were timed: {}", in_one_line(.0))]
    Tune(ExecutionError),
}

impl TrainError {
    /// Whether it says that a device is out of memory.
    pub(super) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory => true,
            Self::Compute(error) => MemoryWatch::is_out_of_memory(error),
            Self::Execution(error) => MemoryWatch::is_out_of_memory(error),
            _ => false,
        }
    }
}
