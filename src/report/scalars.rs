//! An epoch as a list of named scalars, for the CSV table and TensorBoard.

use super::{EpochRecord, PassRecord};
use crate::metrics::METRICS;

/// Returns every scalar of an epoch with its name, which consists of the quantity, the task (if it belongs
/// to one) and the pass, as in `loss/train`, `balanced_accuracy/action_class/valid`, `learning_rate/heads`.
/// Times are in seconds, `data_wait` is a share. `None` for a task without labels.
pub fn scalars(record: &EpochRecord) -> Vec<(String, Option<f64>)> {
    let mut all = vec![("score/valid".to_owned(), Some(record.score))];
    for (name, pass) in [("train", &record.train), ("valid", &record.valid)] {
        pass_scalars(name, pass, &mut all);
    }
    if let Some(norm) = record.train.gradient_norm {
        all.push(("gradient_norm/train".to_owned(), Some(norm)));
    }
    if let Some(scale) = record.train.loss_scale {
        all.push(("loss_scale/train".to_owned(), Some(scale)));
        all.push(("steps_left_out/train".to_owned(), Some(record.train.left_out as f64)));
    }
    let rates = record.rates.iter();
    all.extend(rates.map(|(group, rate)| (format!("learning_rate/{group}"), Some(*rate))));
    all
}

fn pass_scalars(name: &str, pass: &PassRecord, all: &mut Vec<(String, Option<f64>)>) {
    all.push((format!("loss/{name}"), Some(pass.loss)));
    // Tasks and annotated properties share one namespace.
    for task in pass.tasks.iter().chain(&pass.auxiliary) {
        let mut add = |what, value| all.push((format!("{what}/{}/{name}", task.task), value));
        add("loss", task.labelled().map(|task| task.loss));
        let values = task.metrics();
        for (index, metric) in METRICS.iter().enumerate() {
            add(metric.name, values.map(|values| values[index]));
        }
    }
    for (what, value) in [
        ("seconds", pass.seconds),
        ("data_wait", pass.data_wait),
        ("clips_per_second", pass.clips_per_second()),
    ] {
        all.push((format!("{what}/{name}"), Some(value)));
    }
}
