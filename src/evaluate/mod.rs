//! Evaluating a trained network: predictions, metrics of a split, SoccerNet's official evaluator.

mod answer;
mod averaging;
mod bootstrap;
mod calibration;
mod explain;
mod logits;
pub mod official;
mod passes;
mod predict;
mod prediction_table;
mod predictions;
mod split_metrics;
mod thresholds;

use burn::tensor::{ExecutionError, TensorReadError};

use crate::augment::AugmentError;
use crate::data::DatasetError;
use crate::device::{MemoryWatch, in_one_line};

pub use answer::{ActionOutput, ClassOutput, OutputOptions, UnreadableView, ViewOutput};
pub use averaging::Averaging;
pub(crate) use bootstrap::{Answers, differences, intervals, matrices};
pub use bootstrap::{Difference, Interval, TaskIntervals};
pub use calibration::{Calibration, Judged, TaskCalibration, expected_error};
pub use explain::{Saliency, saliency};
pub(crate) use logits::ActionLogits;
pub use predict::{
    ActionPrediction, PredictOptions, annotation_inputs, clips_per_pass, predict_dataset,
};
pub use prediction_table::{PredictionTable, TableError};
pub(crate) use predictions::are_predictions;
pub use predictions::{WriteError, predictions_csv, write_predictions};
pub use split_metrics::{Decided, Mistake, SplitMetrics, TaskMetrics, split_metrics};
pub use thresholds::Thresholds;

/// Why a network could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The device cannot hold a batch.
    #[error(transparent)]
    Input(#[from] AugmentError),
    /// The device failed while computing.
    #[error("the device failed: {}", in_one_line(.0))]
    Compute(#[from] TensorReadError),
    /// The device failed while computing, in an error that only surfaces when the host waits for it.
    #[error("the device failed: {}", in_one_line(.0))]
    Execution(#[from] ExecutionError),
    /// Not even one clip fits into the device's memory.
    #[error("the device is out of memory with a single clip")]
    OutOfMemory,
    /// The device was out of memory before the first clip.
    #[error("the device is out of memory with the network alone")]
    NetworkOutOfMemory,
    /// The weights are finite, but the network's scores are not.
    #[error("action {action}: the network's scores are not finite")]
    NotFinite {
        /// The action.
        action: String,
    },
}

impl EvaluateError {
    /// Whether the error means that the device is out of memory.
    fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory => true,
            Self::Compute(error) => MemoryWatch::is_out_of_memory(error),
            Self::Execution(error) => MemoryWatch::is_out_of_memory(error),
            _ => false,
        }
    }
}
