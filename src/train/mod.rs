//! The training run: epochs of training and validation, checkpoints, history. The file to read
//! first; [`run`] is the whole job.

mod advice;
mod augmenting;
mod compare;
mod early_stopping;
mod epoch;
mod examples;
pub mod freezing;
mod keeper;
mod memory;
mod objective;
mod opening;
mod optimizer;
mod pair;
mod phases;
mod probe;
mod reporting;
mod resume;
mod run;
pub mod schedule;
mod state;
mod step;
mod summary;
mod tally;

use burn::tensor::{ExecutionError, TensorReadError};

pub use advice::{advice, against_waiting};
pub use augmenting::{Augmenter, multi_scale_sizes, plain_clips, plain_clips_of};
pub use compare::{Comparison, compare_freezing};
pub use early_stopping::EarlyStopping;
pub use epoch::{
    AfterStep, Interrupted, See, StepSettings, continue_epoch, predict, train_one_epoch,
    validate_and_see, validate_one_epoch,
};
pub use memory::Needs;
pub use objective::{Cost, Known, Losses, Objective, TaskObjective, task_weights};
pub use optimizer::{Moments, Optimizer, Rule, global_norm};
pub use pair::{Saved, load_pair, save_pair};
pub use phases::{Course, EpochCourse, Phase, Rates};
pub use probe::stage_gradients;
pub use reporting::{METRICS, REPORT, TENSORBOARD};
pub use run::{Outcome, run};
pub use state::{MemoryState, RunState};
pub use step::StepMemory;
pub use tally::PassProgress;

use crate::augment::AugmentError;
use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::data::DatasetError;
use crate::device::DeviceError;
use crate::metrics::MetricsError;
use crate::model::pretrained::PretrainedError;

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// An option that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device could not be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The starting weights were refused.
    #[error("--pretrained {0}")]
    Pretrained(#[from] PretrainedError),
    /// A checkpoint or one of the run's files could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A clip that the device's buffers cannot hold.
    #[error(
        "a clip of {size} needs a buffer of {need} MB, {device} allows {limit} MB: take a smaller \
         --img-height and --img-width or --frames-per-clip, or --device cpu (--force-batch-size tries it)"
    )]
    TooLarge {
        /// T×H×W.
        size: String,
        /// Megabytes needed.
        need: u64,
        /// Megabytes allowed.
        limit: u64,
        /// The device.
        device: String,
    },
    /// Clips of which nothing is left before the network's end.
    #[error(
        "clips of {size} are too small for the network: take a larger --img-height, --img-width"
    )]
    TooSmall {
        /// T×H×W.
        size: String,
    },
    /// NaN or infinity where a loss should be.
    #[error(
        "the loss is {loss} in epoch {epoch}, step {step} (actions {actions}): try a lower --lr"
    )]
    NotFinite {
        /// The value.
        loss: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// The batch's actions.
        actions: String,
    },
    /// A batch that could not be augmented.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// A label or a prediction outside the task's classes.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Not even one clip fits into the device's memory.
    #[error(
        "the device is out of memory with a single clip: take --gradient-checkpointing, a smaller \
         --img-height and --img-width or --frames-per-clip, or --device cpu"
    )]
    OutOfMemory,
    /// The device failed while computing.
    #[error("the device failed: {0}")]
    Compute(#[from] TensorReadError),
    /// The device failed while it was tried what is fastest there.
    #[error("the device failed while --tune tried kernels: {0}")]
    Tune(#[from] ExecutionError),
}
