//! Evaluating a trained network: predictions, metrics of a split, SoccerNet's official evaluator.

mod answer;
mod averaging;
mod bootstrap;
mod calibration;
mod explain;
mod logits;
pub mod official;
mod predict;
mod prediction_table;
mod predictions;
mod split_metrics;
mod thresholds;

use burn::tensor::TensorReadError;

use crate::augment::AugmentError;
use crate::data::DatasetError;

pub use answer::{ActionAnswer, AnswerOptions, ClassAnswer, UnreadableView, ViewAnswer};
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
    /// A batch that the device cannot hold.
    #[error(transparent)]
    Input(#[from] AugmentError),
    /// The device failed while computing.
    #[error("the device failed: {0}")]
    Compute(#[from] TensorReadError),
    /// The weights are finite, but what they compute is not.
    #[error("action {action}: the network's scores are not finite")]
    NotFinite {
        /// The action.
        action: String,
    },
}
