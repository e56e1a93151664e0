//! Evaluating a trained network: predictions, metrics of a split, SoccerNet's official evaluator.

pub mod official;
mod predict;
mod predictions;
mod split_metrics;

pub use predict::{
    ActionPrediction, PredictOptions, annotation_inputs, clips_per_pass, predict_dataset,
};
pub use predictions::{WriteError, write_predictions};
pub use split_metrics::{Mistake, SplitMetrics, TaskMetrics, split_metrics};
