//! What a run says of itself. The trainer emits events and knows no terminal; the command line
//! shows them, `history.json` keeps them.

pub mod charts;
pub mod csv;
pub mod curves;
pub mod figures;
pub mod html;
pub mod matrices;
pub mod matrix_picture;
pub mod tensorboard;
pub mod ticks;

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::metrics::ConfusionMatrix;
use crate::model::STAGES;

/// A task's figures over a whole split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task's name.
    pub task: String,
    /// Mean loss per action.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean recall over the classes that occur.
    pub balanced_accuracy: f64,
    /// F1 weighted by support.
    pub f1_weighted: f64,
    /// Plain mean of the classes' F1.
    pub f1_macro: f64,
    /// Rows: labels, columns: predictions.
    pub confusion: Vec<Vec<u64>>,
}

impl TaskRecord {
    /// The figures of a confusion matrix and a mean loss.
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

/// One pass over a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassRecord {
    /// Mean over actions of the weighted sum of all losses.
    pub loss: f64,
    /// Per task, in the schema's order. Losses without the tasks' weights.
    pub tasks: Vec<TaskRecord>,
    /// Per auxiliary head, over the actions whose property is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auxiliary: Vec<TaskRecord>,
    /// Mean norm of the gradients before clipping; 0 in validation.
    pub gradient_norm: f64,
    /// Actions that took part.
    pub actions: usize,
    /// Clips that took part.
    pub clips: usize,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Share of that time spent waiting for data.
    pub data_wait: f64,
}

impl PassRecord {
    /// Mean of the tasks' balanced accuracies: what decides which checkpoint is the best.
    pub fn score(&self) -> f64 {
        let sum: f64 = self.tasks.iter().map(|t| t.balanced_accuracy).sum();
        sum / self.tasks.len().max(1) as f64
    }

    /// Clips per second.
    pub fn clips_per_second(&self) -> f64 {
        self.clips as f64 / self.seconds.max(1e-9)
    }
}

/// One epoch, as `history.json` keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Phase of the run: 1, or 2 of gradual fine-tuning.
    pub phase: usize,
    /// Stages of the backbone that trained, input side first; the heads always do.
    pub trainable: Vec<String>,
    /// Learning rate of each group that trained, at the epoch's last step.
    pub rates: IndexMap<String, f64>,
    /// Root mean square of each stage's gradient after the epoch, where the freezing strategy
    /// asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<[f64; STAGES.len()]>,
    /// The training pass; its predictions are those made while training.
    pub train: PassRecord,
    /// The validation pass.
    pub valid: PassRecord,
    /// Validation score.
    pub score: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

impl EpochRecord {
    /// What a freezing strategy or a schedule learns of the epoch.
    pub fn outcome(&self) -> EpochOutcome {
        EpochOutcome { score: self.score, gradients: self.gradients }
    }
}

/// What a freezing strategy learns of a finished epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochOutcome {
    /// Validation score.
    pub score: f64,
    /// Per stage, input side first: the gradient's norm over the number of parameters' root (root
    /// mean square). Only for strategies that ask for it.
    pub gradients: Option<[f64; STAGES.len()]>,
}

/// What a split brings, for the summary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitSummary {
    /// Its name.
    pub split: String,
    /// Actions that take part.
    pub actions: usize,
    /// Their views.
    pub views: usize,
    /// Actions left out, whatever the reason.
    pub left_out: usize,
    /// Per task: its name, and each class's name and count.
    pub classes: Vec<(String, Vec<(String, usize)>)>,
}

/// How the classes of a task are balanced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BalanceSummary {
    /// The task's title.
    pub task: String,
    /// Per class: name, actions in the training split, weight in the loss, draws in the first
    /// epoch.
    pub classes: Vec<(String, usize, f64, usize)>,
}

/// The start of a run in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Option and value, grouped by lines.
    pub settings: Vec<(String, String)>,
    /// Training and validation split.
    pub splits: Vec<SplitSummary>,
    /// Per task whose classes are weighted or drawn unevenly.
    pub balance: Vec<BalanceSummary>,
    /// What may be worth trying with these data.
    pub advice: Vec<String>,
}

/// Training or validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Weights change.
    Train,
    /// Weights are only judged.
    Validate,
}

/// Something the user may want to see. Serialised as an object whose `event` names it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Data are open, the network is built.
    Started(RunSummary),
    /// So many passes of convolutions have their fastest kernel.
    Tuned {
        /// Passes that have.
        done: usize,
        /// Of so many.
        of: usize,
    },
    /// A pass begins with this many batches.
    PassStarted {
        /// Epoch, from 1.
        epoch: usize,
        /// Of so many.
        epochs: usize,
        /// Which pass.
        phase: Phase,
        /// Batches in it.
        batches: usize,
    },
    /// A batch is done.
    Step {
        /// Batches done in this pass.
        done: usize,
        /// Mean loss per action so far in this pass.
        loss: f64,
        /// Clips per second so far in this pass.
        clips_per_second: f64,
        /// Share of this pass's time that was spent waiting for data.
        data_wait: f64,
    },
    /// An epoch is over and judged.
    Epoch(Box<EpochRecord>),
    /// A checkpoint was written.
    Saved {
        /// Its weights.
        path: PathBuf,
    },
    /// The score has not risen for so many epochs: the run ends.
    StoppedEarly {
        /// Epochs without a better score.
        epochs: usize,
    },
    /// Training stops early at the user's wish.
    Interrupted,
}

/// Takes events; a closure will do.
pub trait Observer {
    /// Called in the training thread, in order.
    fn observe(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    fn observe(&mut self, event: &Event) {
        self(event);
    }
}
