//! The predictions of a network for a split, their files and their metrics.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::official;
use crate::atomic_file::linked;
use crate::checkpoint::write_text;
use crate::cli::advice::output_failure;
use crate::cli::trained::{Trained, averaged};
use crate::cli::{Failure, Terminal};
use crate::data::Dataset;
use crate::evaluate::official::Evaluation;
use crate::evaluate::{
    ActionPrediction, SplitMetrics, predict_dataset, predictions_csv, split_metrics,
    write_predictions,
};
use crate::half::Precision;

/// A split with a network's predictions.
pub(super) struct Predicted {
    trained: Trained,
    dataset: Arc<Dataset>,
    actions: Vec<ActionPrediction>,
    /// Number of predictions averaged for each action.
    averaged: usize,
}

impl Predicted {
    /// Predicts every action of a split. Warns about views that cannot be read.
    pub(super) fn predict(
        trained: Trained,
        dataset: Dataset,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        let dataset = Arc::new(dataset.allow_unreadable());
        let Trained { net, options, compute, .. } = &trained;
        let bar = terminal.counter("actions");
        bar.set_length((dataset.samples.len() * options.averaging.passes()) as u64);
        let mut progress = |actions, _| bar.set_position(actions as u64);
        let actions = predict_dataset(net, &dataset, options, &compute.device, &mut progress);
        bar.finish_and_clear();
        let actions = actions?;
        let unreadable = dataset.unreadable().len();
        if unreadable > 0 {
            log::warn!(
                "{unreadable} of the {} views of the {} split cannot be read; the results are for the others",
                dataset.views(),
                dataset.split
            );
        }
        let (averaged, note) = averaged(&actions);
        note.iter().for_each(|note| terminal.line(note));
        Ok(Self { trained, dataset, actions, averaged })
    }

    /// Returns the predictions in the format of SoccerNet's evaluator.
    pub(super) fn file(&self) -> Result<Value, Failure> {
        let tasks = self.trained.schema.tasks.len();
        let labels: Vec<Vec<usize>> = self
            .actions
            .iter()
            .map(|action| (0..tasks).map(|task| action.predicted(task)).collect())
            .collect();
        let pairs =
            self.actions.iter().zip(&labels).map(|(p, l)| (p.action.as_str(), l.as_slice()));
        write_predictions(&self.trained.schema, &self.dataset.split, pairs)
            .map_err(Failure::runtime)
    }

    /// Writes the predictions: `file` or, if the name ends with `.csv`, a table.
    pub(super) fn write(&self, path: &Path, file: &Value) -> Result<(), Failure> {
        let is_table = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let written = if is_table {
            write_text(&linked(path), predictions_csv(&self.trained.schema, &self.actions))
        } else {
            write_text(&linked(path), serde_json::to_string_pretty(file))
        };
        written.map_err(|error| output_failure("--predictions", &error))
    }

    /// Returns the metrics, with up to `mistakes` wrong predictions per task; `None` if the split has no
    /// labels.
    pub(super) fn metrics(
        &self,
        min_confidence: Option<f64>,
        mistakes: usize,
    ) -> Result<Option<SplitMetrics>, Failure> {
        if !self.dataset.annotations.labelled {
            return Ok(None);
        }
        let metrics = split_metrics(&self.trained.schema, &self.actions, min_confidence);
        let mut metrics = metrics.map_err(Failure::runtime)?;
        for task in &mut metrics.tasks {
            task.mistakes.truncate(mistakes);
        }
        Ok(Some(metrics))
    }

    /// Evaluates `file` like a leaderboard, whose rules apply to its own data set only.
    pub(super) fn official(&self, file: &Value) -> Result<Option<Evaluation>, Failure> {
        match &self.dataset.annotations.file {
            Some(truth) if self.trained.schema.official => official::against(truth, file).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the report as JSON.
    pub(super) fn json(
        &self,
        metrics: Option<&SplitMetrics>,
        official: Option<&Evaluation>,
    ) -> Value {
        let mut report = json!({
            "split": self.dataset.split,
            "device": self.trained.compute.info,
            "precision": Precision::of(self.trained.net.backbone.is_half()),
            "averaged": self.averaged,
            "unreadable_views": self.dataset.unreadable().len(),
            "figures": metrics,
        });
        if let Some(official) = official {
            report["official"] = official::json(official);
        }
        report
    }
}
