//! Run folders written by hand.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use polyview::evaluate::{ActionPrediction, predictions_csv};
use polyview::metrics::ConfusionMatrix;
use polyview::report::{EpochRecord, PassRecord, TaskRecord};
use polyview::runs::Run;
use polyview::schema::Schema;

use super::run::defaults_with;

/// Returns predictions for actions named 0, 1, …: the label's class, or the one after it if
/// `wrong(action, task)`.
pub fn predictions(
    schema: &Schema,
    actions: usize,
    wrong: impl Fn(usize, usize) -> bool,
) -> Vec<ActionPrediction> {
    let prediction = |action: usize| {
        let (mut labels, mut probabilities) = (Vec::new(), Vec::new());
        for (index, task) in schema.tasks.iter().enumerate() {
            let classes = task.classes.len();
            let label = action % classes;
            let predicted = (label + usize::from(wrong(action, index))) % classes;
            labels.push(Some(label));
            let probability = |class| if class == predicted { 0.6 } else { 0.4 / classes as f64 };
            probabilities.push((0..classes).map(probability).collect());
        }
        let (views, shares) = (vec![0], vec![1.0]);
        let action = action.to_string();
        ActionPrediction { action, labels, probabilities, views, shares, averaged: 1 }
    };
    (0..actions).map(prediction).collect()
}

/// Returns the confusion matrix of a task's predictions.
pub fn matrix(schema: &Schema, task: usize, predictions: &[ActionPrediction]) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(schema.tasks[task].classes.len());
    for prediction in predictions {
        if let Some(label) = prediction.labels[task] {
            matrix.add(label, prediction.predicted(task)).unwrap();
        }
    }
    matrix
}

/// Returns the records of epochs with these validation predictions.
fn history(schema: &Schema, epochs: &[Vec<ActionPrediction>]) -> Vec<EpochRecord> {
    let mut best_score = f64::NEG_INFINITY;
    let epoch = |(number, predictions): (usize, &Vec<ActionPrediction>)| {
        let tasks = schema.tasks.iter().enumerate().map(|(index, task)| {
            TaskRecord::new(&task.name, 1.5, &matrix(schema, index, predictions))
        });
        let valid = PassRecord {
            loss: 3.0 / number as f64,
            tasks: tasks.collect(),
            auxiliary: Vec::new(),
            gradient_norm: None,
            left_out: 0,
            loss_scale: None,
            actions: predictions.len(),
            clips: predictions.len(),
            seconds: 1.0,
            data_wait: 0.0,
            exchange: None,
            slowest: None,
        };
        let score = valid.score();
        let best = score > best_score;
        best_score = best_score.max(score);
        EpochRecord {
            epoch: number,
            phase: 1,
            trainable: Vec::new(),
            rates: IndexMap::new(),
            gradients: None,
            train: PassRecord { loss: 4.0 / number as f64, ..valid.clone() },
            valid,
            score,
            calibration: None,
            best,
            wall_seconds: None,
        }
    };
    (1..).zip(epochs).map(epoch).collect()
}

/// Writes the folder of a run with these options and epochs.
pub fn write(folder: &Path, options: &str, schema: &Schema, epochs: &[Vec<ActionPrediction>]) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    write("config.toml", toml::to_string(&defaults_with(options)).unwrap());
    let history = history(schema, epochs);
    write("history.json", serde_json::to_string(&history).unwrap());
    if let Some(best) = history.iter().rposition(|record| record.best) {
        write("valid_predictions.csv", predictions_csv(schema, &epochs[best]).unwrap());
    }
}

/// Reads runs, each named after its folder.
pub fn read(folders: &[PathBuf]) -> Vec<Run> {
    let read = |folder: &PathBuf| {
        Run::read(folder.file_name().unwrap().to_str().unwrap(), folder).unwrap()
    };
    folders.iter().map(read).collect()
}
