//! Errors of training.

use burn::tensor::{ExecutionError, TensorReadError};

use crate::augment::AugmentError;
use crate::checkpoint::CheckpointError;
use crate::cluster::ClusterError;
use crate::config::ConfigError;
use crate::data::DatasetError;
use crate::device::{DeviceError, MemoryWatch, in_one_line};
use crate::metrics::MetricsError;
use crate::model::pretrained::PretrainedError;

/// Error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device could not be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The pretrained weights cannot be used.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A checkpoint or one of the run's files could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A clip does not fit into the device's buffers.
    #[error("a clip of {size} needs a buffer of {need} MB, but {device} allows only {limit} MB")]
    TooLarge {
        /// Size of the clip, T×H×W.
        size: String,
        /// Buffer size needed, MB.
        need: u64,
        /// Largest buffer size allowed, MB.
        limit: u64,
        /// Name of the device.
        device: String,
    },
    /// Clips are so small that the network's strides leave nothing of them.
    #[error("clips of {size} are too small for the network")]
    TooSmall {
        /// Size of the clips, T×H×W.
        size: String,
    },
    /// The folder for a record already holds that of another run.
    #[error("{folder}: it already holds the record of another run")]
    RecordOccupied {
        /// Folder of the record.
        folder: String,
    },
    /// Steps in several lanes cannot be reproduced from a record.
    #[error(
        "{folder}: a run with {lanes} lanes cannot be recorded: each lane has its own batch statistics"
    )]
    RecordLanes {
        /// Folder of the record.
        folder: String,
        /// Number of lanes of each step.
        lanes: usize,
    },
    /// The loss or gradient of a training step is NaN or infinite. The step has updated nothing.
    #[error("{what} is {value} in epoch {epoch}, step {step} (actions {actions})")]
    NotFinite {
        /// Name of the value: the loss, or the gradient norm with the first parameter affected.
        what: String,
        /// The value.
        value: f64,
        /// Epoch, counted from 1.
        epoch: usize,
        /// Step within the epoch, counted from 1.
        step: usize,
        /// Actions of the batch.
        actions: String,
        /// Whether activations and their gradients were in half precision.
        half: bool,
    },
    /// The validation loss is NaN or infinite.
    #[error("the validation loss is {value} after epoch {epoch}; its weights were not saved")]
    ValidationNotFinite {
        /// The value.
        value: f64,
        /// Epoch, counted from 1.
        epoch: usize,
        /// Whether activations were in half precision.
        half: bool,
    },
    /// The run ended without a single update: gradients overflowed in every step.
    #[error(
        "nothing was trained: gradients overflowed f16 in all {steps} steps, \
             which were skipped"
    )]
    AllLeftOut {
        /// Number of steps of the run.
        steps: usize,
    },
    /// A batch could not be augmented.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// A label or prediction is outside the task's classes.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The ranks of a cluster cannot work together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The data of a rank differ from the lead's.
    #[error("the {split} split of {rank} differs from rank 0's in actions, labels or views")]
    OtherData {
        /// Rank and its host.
        rank: String,
        /// Name of the split.
        split: String,
    },
    /// The weights of the ranks have drifted apart.
    #[error("the weights of {rank} differ from rank 0's: its machine computes differently")]
    Drift {
        /// Rank and its host.
        rank: String,
    },
    /// A batch has fewer actions than lanes.
    #[error("{lanes} lanes need a batch of at least {lanes} actions, but it has {actions}")]
    FewActions {
        /// Number of lanes.
        lanes: usize,
        /// Number of actions of a batch.
        actions: usize,
    },
    /// There are fewer lanes than devices, so some devices would have nothing to compute.
    #[error("{devices} devices need at least {devices} lanes, but the run has {lanes}")]
    FewLanes {
        /// Number of devices.
        devices: usize,
        /// Number of lanes.
        lanes: usize,
    },
    /// One of several devices can no longer be used.
    #[error("{device}: {reason}")]
    Worker {
        /// Name of the device.
        device: String,
        /// Reason why it cannot be used.
        reason: String,
    },
    /// Not even one clip fits into the device's memory.
    #[error("the device is out of memory with a single clip")]
    OutOfMemory,
    /// The device failed while computing.
    #[error("the device failed: {}", in_one_line(.0))]
    Compute(#[from] TensorReadError),
    /// Like [`TrainError::Compute`], for several values read back in one transaction.
    #[error("the device failed: {}", in_one_line(.0))]
    Execution(#[from] ExecutionError),
    /// The device failed during the timing of kernels.
    #[error("the device failed while kernels were timed: {}", in_one_line(.0))]
    Tune(ExecutionError),
}

impl TrainError {
    /// Returns whether the error means that a device is out of memory.
    pub(super) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory => true,
            Self::Compute(error) => MemoryWatch::is_out_of_memory(error),
            Self::Execution(error) => MemoryWatch::is_out_of_memory(error),
            _ => false,
        }
    }
}
