//! The reports of a training run: events for observers (the trainer does not depend on a terminal),
//! epoch records for `history.json`, and the HTML report, CSV table and TensorBoard events made from
//! them.

pub mod caption;
#[doc(hidden)]
pub mod charts;
pub mod csv;
#[doc(hidden)]
pub mod curves;
pub(crate) mod figure;
pub mod html;
pub mod lr_chart;
pub(crate) mod matrices;
#[doc(hidden)]
pub mod matrix_picture;
#[doc(hidden)]
pub mod scalars;
pub mod tensorboard;
#[doc(hidden)]
pub mod ticks;

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::evaluate::Calibration;
use crate::metrics::{ConfusionMatrix, METRICS, score};
use crate::model::STAGES;

/// A task's metrics over a whole split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task's name.
    pub task: String,
    /// Mean loss over the task's labelled actions, weighted by the class weights if there are any.
    pub loss: f64,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// F1 weighted by support.
    pub f1_weighted: f64,
    /// Unweighted mean of the classes' F1.
    pub f1_macro: f64,
    /// Confusion matrix; rows are labels, columns predictions.
    pub confusion: Vec<Vec<u64>>,
}

impl TaskRecord {
    /// Whether the class of any action is known.
    pub fn has_labels(&self) -> bool {
        self.confusion.iter().flatten().any(|&count| count > 0)
    }

    /// Returns the record if the class of any action is known. Otherwise its loss and metrics are stored as
    /// 0, but say nothing.
    pub fn labelled(&self) -> Option<&Self> {
        self.has_labels().then_some(self)
    }

    /// Returns the metrics in the order of [`METRICS`]; `None` without labels.
    pub fn metrics(&self) -> Option<[f64; METRICS.len()]> {
        self.has_labels().then_some([
            self.accuracy,
            self.balanced_accuracy,
            self.f1_weighted,
            self.f1_macro,
        ])
    }

    /// Returns a metric for charts and tables; without labels NaN, which they show as a gap or a dash.
    pub(crate) fn shown(&self, metric: impl Fn(&Self) -> f64) -> f64 {
        self.labelled().map_or(f64::NAN, metric)
    }

    /// Computes the metrics from a confusion matrix and a mean loss.
    pub fn new(task: &str, loss: f64, matrix: &ConfusionMatrix) -> Self {
        Self {
            task: task.to_owned(),
            loss,
            accuracy: matrix.accuracy(),
            balanced_accuracy: matrix.balanced_accuracy(),
            f1_weighted: matrix.f1_weighted(),
            f1_macro: matrix.f1_macro(),
            confusion: matrix.rows(),
        }
    }
}

/// The rank of a run that computed longest in a pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlowestRank {
    /// Number of the rank.
    pub rank: usize,
    /// Host name of its machine.
    pub host: String,
    /// Excess of its computing time over the mean of all ranks, as a fraction of the mean.
    pub longer: f64,
}

/// One pass over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassRecord {
    /// Weighted sum of the mean losses of tasks and auxiliary heads, which do not depend on the batch
    /// size.
    pub loss: f64,
    /// Metrics of each task, in schema order. Losses are not multiplied by the tasks' weights.
    pub tasks: Vec<TaskRecord>,
    /// Metrics of each auxiliary head, over the actions whose property is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auxiliary: Vec<TaskRecord>,
    /// Mean global gradient norm before clipping, over the steps that were not skipped; `None` if there
    /// was no such step. 0 in validation.
    #[serde(default)]
    pub gradient_norm: Option<f64>,
    /// Number of steps that were skipped because of gradients beyond the range of f16.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Loss scale at the end of the pass, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Number of actions.
    pub actions: usize,
    /// Number of clips.
    pub clips: usize,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Share of the wall time spent waiting for data.
    pub data_wait: f64,
    /// Share of the wall time spent on the exchange between devices, including waiting for slower ones,
    /// while no device of this process computed; `None` with a single device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<f64>,
    /// The rank that computed longest; `None` with a single rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<SlowestRank>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Whether a score is better than the best one so far. Means of the same recalls in another order may
/// differ in their last digits; they count as equal.
pub(crate) fn improves(score: f64, best: f64) -> bool {
    score > best + 1e-9
}

impl PassRecord {
    /// Returns the mean of the tasks' balanced accuracies, by which the best checkpoint is selected.
    /// Tasks without a known label do not count; 0 if all are without.
    pub fn score(&self) -> f64 {
        let balanced = |task: &TaskRecord| task.labelled().map(|task| task.balanced_accuracy);
        score(self.tasks.iter().map(balanced)).unwrap_or(0.0)
    }

    /// Returns the throughput in clips per second.
    pub fn clips_per_second(&self) -> f64 {
        self.clips as f64 / self.seconds.max(1e-9)
    }
}

/// One epoch, as in `history.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, counted from 1.
    pub epoch: usize,
    /// Phase of the run: 1, or 2 in the second phase of gradual fine-tuning.
    pub phase: usize,
    /// Stages of the backbone that were trained, input side first; the heads are always trained.
    pub trainable: Vec<String>,
    /// Learning rate of each group that was trained, at the epoch's last step.
    pub rates: IndexMap<String, f64>,
    /// Root mean square of each stage's gradient after the epoch, if the freezing strategy needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<[f64; STAGES.len()]>,
    /// The training pass; its metrics are of the predictions made while training.
    pub train: PassRecord,
    /// The validation pass.
    pub valid: PassRecord,
    /// Validation score.
    pub score: f64,
    /// Calibration of the probabilities, fitted after the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Whether the epoch is the best so far.
    pub best: bool,
    /// Wall time in seconds from the end of the previous epoch, or from the run's start. It includes what
    /// happens between the passes, such as writing checkpoints. Older versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<f64>,
}

impl EpochRecord {
    /// Returns the epoch's wall time or, if that was not recorded, the time of its passes.
    pub fn seconds(&self) -> f64 {
        self.wall_seconds.unwrap_or(self.train.seconds + self.valid.seconds)
    }

    /// Returns the values that freezing strategies and schedules depend on.
    pub fn outcome(&self) -> EpochOutcome {
        EpochOutcome { score: self.score, gradients: self.gradients }
    }
}

/// Returns the epoch with the highest score, the earliest on a tie: the last one that was the best so far.
pub fn best_epoch(history: &[EpochRecord]) -> Option<&EpochRecord> {
    history.iter().rfind(|record| record.best)
}

/// The result of an epoch, on which freezing strategies and schedules depend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochOutcome {
    /// Validation score.
    pub score: f64,
    /// Root mean square of each stage's gradient, input side first; `None` unless a strategy needs it.
    pub gradients: Option<[f64; STAGES.len()]>,
}

/// Summary of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitSummary {
    /// Name of the split.
    pub split: String,
    /// Number of usable actions.
    pub actions: usize,
    /// Number of views of these actions.
    pub views: usize,
    /// Number of actions left out for any reason.
    pub left_out: usize,
    /// Name of each task, with the name and count of each of its classes.
    pub classes: Vec<(String, Vec<(String, usize)>)>,
}

/// Summary of how the classes of a task are weighted or resampled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BalanceSummary {
    /// The task's title.
    pub task: String,
    /// For each class: name, number of actions in the training split, weight in the loss, number of
    /// actions drawn in the first epoch.
    pub classes: Vec<(String, usize, f64, usize)>,
}

/// Summary of a run at its start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Names and values of groups of settings.
    pub settings: Vec<(String, String)>,
    /// Summaries of the training and validation split.
    pub splits: Vec<SplitSummary>,
    /// Summary of each task whose classes are weighted or resampled.
    pub balance: Vec<BalanceSummary>,
    /// Suggestions for this data set.
    pub advice: Vec<String>,
}

/// The kind of a pass over a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// Training: the weights are updated.
    Train,
    /// Validation: the weights are evaluated.
    Validate,
}

/// An event of a run, serialised as an object whose `event` is its name.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The data sets are open, the network is built.
    Started(RunSummary),
    /// The fastest kernel has been found for some of the convolutions' passes.
    Tuned {
        /// Number of passes tuned so far.
        done: usize,
        /// Total number of passes to tune.
        of: usize,
    },
    /// A pass begins.
    PassStarted {
        /// Epoch, from 1.
        epoch: usize,
        /// Total number of epochs.
        epochs: usize,
        /// Training or validation.
        phase: PassKind,
        /// Number of batches in the pass.
        batches: usize,
    },
    /// A batch is done.
    Step {
        /// Epoch, from 1.
        epoch: usize,
        /// Training or validation.
        phase: PassKind,
        /// Number of batches done in this pass.
        done: usize,
        /// Loss of the pass so far, as in [`PassRecord`].
        loss: f64,
        /// Clips per second so far in this pass.
        clips_per_second: f64,
        /// Share of this pass's time that was spent waiting for data.
        data_wait: f64,
        /// Share of this pass's time that was spent on the exchange between devices; `None` with a single
        /// device.
        #[serde(skip_serializing_if = "Option::is_none")]
        exchange: Option<f64>,
    },
    /// An epoch is finished and validated.
    Epoch(Box<EpochRecord>),
    /// A checkpoint was written.
    Saved {
        /// The checkpoint's weight file.
        #[serde(serialize_with = "crate::lossy::path")]
        path: PathBuf,
    },
    /// Early stopping ends the run.
    StoppedEarly {
        /// Number of epochs without a better score.
        epochs: usize,
    },
    /// The user interrupts the run.
    Interrupted,
    /// The run is over: the last event of a run that does not fail.
    Finished {
        /// Why the run is over.
        reason: EndReason,
        /// Number of epochs that are done.
        epochs: usize,
        /// The epoch with the highest score; `None` if none is done.
        best_epoch: Option<usize>,
        /// Score of the best epoch.
        score: Option<f64>,
        /// The weight files that the run wrote.
        #[serde(serialize_with = "crate::lossy::paths")]
        files: Vec<PathBuf>,
    },
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum EndReason {
    /// All epochs are done.
    #[serde(rename = "all epochs")]
    AllEpochs,
    /// The score has stopped improving.
    #[serde(rename = "early stopping")]
    EarlyStopping,
    /// The user stopped it.
    #[serde(rename = "interrupted")]
    Interrupted,
    /// The run was resumed, but all its epochs were already done.
    #[serde(rename = "was finished")]
    WasFinished,
}

/// Receives events; closures implement it.
pub trait Observer {
    /// Called in the training thread, in order.
    fn observe(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn observe(&mut self, event: &Event) {
        self(event);
    }
}
