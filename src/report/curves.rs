//! The curves of a run's history.

use super::charts::{COLOURS, Chart, Line, Mark, Scale};
use super::{EpochRecord, PassRecord, best_epoch};
use crate::schema::Task;

/// A chart with its heading.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Id of the HTML element.
    pub id: String,
    /// Heading of the chart.
    pub title: String,
    /// Short description of the quantity.
    pub note: String,
    /// The lines.
    pub chart: Chart,
}

const VALID: usize = 1;
const TRAIN: usize = 2;

/// Returns all curves of a history: losses, scores, each task, learning rates, time spent waiting for data,
/// loss scale.
pub fn curves(history: &[EpochRecord], tasks: &[Task]) -> Vec<Curves> {
    let best = best_epoch(history).map(|record| record.epoch);
    let mut all = vec![
        Curves {
            id: "loss".to_owned(),
            title: "Loss".to_owned(),
            note: "mean per action, all tasks weighted".to_owned(),
            chart: both(history, Scale::Linear, |pass| pass.loss),
        },
        score(history, tasks, best),
    ];
    for (index, task) in tasks.iter().enumerate() {
        all.push(Curves {
            id: format!("task-{}", task.name),
            title: task.title.clone(),
            note: "balanced accuracy".to_owned(),
            chart: both(history, Scale::Percent, |pass| balanced_accuracy(pass, index)),
        });
    }
    all.push(rates(history));
    all.push(Curves {
        id: "data-wait".to_owned(),
        title: "Waiting for data".to_owned(),
        note: "share of the time".to_owned(),
        chart: both(history, Scale::Percent, |pass| pass.data_wait),
    });
    all.extend(loss_scale(history));
    all
}

/// Returns a task's balanced accuracy; NaN without the task or without labels.
fn balanced_accuracy(pass: &PassRecord, task: usize) -> f64 {
    pass.tasks.get(task).map_or(f64::NAN, |record| record.shown(|r| r.balanced_accuracy))
}

/// Charts a quantity of the training and of the validation pass.
fn both(history: &[EpochRecord], scale: Scale, value: impl Fn(&PassRecord) -> f64) -> Chart {
    let line = |name: &str, colour, pass: fn(&EpochRecord) -> &PassRecord| Line {
        name: name.to_owned(),
        colour,
        values: history.iter().map(|record| value(pass(record))).collect(),
        dot: None,
    };
    Chart {
        scale,
        lines: vec![
            line("training", TRAIN, |record| &record.train),
            line("validation", VALID, |record| &record.valid),
        ],
        marks: phase_marks(history),
    }
}

/// Charts the validation score and the tasks that it is the mean of.
fn score(history: &[EpochRecord], tasks: &[Task], best: Option<usize>) -> Curves {
    let task = |(index, task): (usize, &Task)| Line {
        name: task.title.clone(),
        colour: 3 + index % (COLOURS - 2),
        values: history.iter().map(|record| balanced_accuracy(&record.valid, index)).collect(),
        dot: None,
    };
    // With a single task, the score is that task's balanced accuracy: the lines would coincide.
    let several = tasks.len() > 1;
    let mut lines: Vec<Line> = match several {
        true => tasks.iter().enumerate().map(task).collect(),
        false => Vec::new(),
    };
    let best = best.and_then(|epoch| history.iter().position(|record| record.epoch == epoch));
    lines.push(Line {
        name: "score".to_owned(),
        colour: VALID,
        values: history.iter().map(|record| record.score).collect(),
        dot: best.map(|index| index + 1),
    });
    Curves {
        id: "score".to_owned(),
        title: "Validation score".to_owned(),
        note: match several {
            true => "mean of the tasks; the dot is the best epoch".to_owned(),
            false => "balanced accuracy; the dot is the best epoch".to_owned(),
        },
        chart: Chart { scale: Scale::Percent, lines, marks: phase_marks(history) },
    }
}

/// Charts the learning rates. Groups whose rates are always equal share a line.
fn rates(history: &[EpochRecord]) -> Curves {
    let mut groups: Vec<&String> = Vec::new();
    for group in history.iter().flat_map(|record| record.rates.keys()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut lines: Vec<(Vec<&str>, Vec<f64>)> = Vec::new();
    for group in groups {
        let rate = |record: &EpochRecord| record.rates.get(group).copied().unwrap_or(f64::NAN);
        let values: Vec<f64> = history.iter().map(rate).collect();
        // Compared by bits, so that NaN, for a frozen group, equals itself.
        let same = |other: &[f64]| {
            other.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits()))
        };
        match lines.iter_mut().find(|(_, other)| same(other)) {
            Some((names, _)) => names.push(group),
            None => lines.push((vec![group], values)),
        }
    }
    let line = |(index, (names, values)): (usize, (Vec<&str>, Vec<f64>))| Line {
        name: span(&names),
        // The heads in the accent colour, then the colours not used for training and validation.
        colour: if index == 0 { VALID } else { 3 + (index - 1) % (COLOURS - 2) },
        values,
        dot: None,
    };
    Curves {
        id: "rates".to_owned(),
        title: "Learning rates".to_owned(),
        note: "at each epoch’s last step, by group".to_owned(),
        chart: Chart {
            scale: Scale::Log,
            lines: lines.into_iter().enumerate().map(line).collect(),
            marks: all_marks(history),
        },
    }
}

/// Charts the loss scale, for runs that have one.
fn loss_scale(history: &[EpochRecord]) -> Option<Curves> {
    let left_out: usize = history.iter().map(|record| record.train.left_out).sum();
    let scale = |record: &EpochRecord| record.train.loss_scale;
    history.iter().any(|record| scale(record).is_some()).then(|| Curves {
        id: "loss-scale".to_owned(),
        title: "Loss scale".to_owned(),
        note: format!("at each epoch’s end; steps skipped: {left_out}"),
        chart: Chart {
            scale: Scale::Log,
            lines: vec![Line {
                name: "loss scale".to_owned(),
                colour: TRAIN,
                values: history.iter().map(|r| scale(r).unwrap_or(f64::NAN)).collect(),
                dot: None,
            }],
            marks: phase_marks(history),
        },
    })
}

/// Returns the only name, or the first and last of several.
fn span(names: &[&str]) -> String {
    match names {
        [first, .., last] => format!("{first} – {last}"),
        _ => names.concat(),
    }
}

fn phase_marks(history: &[EpochRecord]) -> Vec<Mark> {
    marks(history, |before, now| phase_label(before, now).into_iter().collect())
}

/// Returns marks where phases begin and where stages are unfrozen.
fn all_marks(history: &[EpochRecord]) -> Vec<Mark> {
    marks(history, |before, now| {
        let is_new = |stage: &&String| !before.trainable.contains(stage);
        let new: Vec<&str> = now.trainable.iter().filter(is_new).map(String::as_str).collect();
        let stages = (!new.is_empty()).then(|| format!("+ {}", span(&new)));
        phase_label(before, now).into_iter().chain(stages).collect()
    })
}

fn phase_label(before: &EpochRecord, now: &EpochRecord) -> Option<String> {
    (before.phase != now.phase).then(|| format!("phase {}", now.phase))
}

/// Returns a mark before each epoch for which `labels` returns any, given the previous epoch and this one.
fn marks(
    history: &[EpochRecord],
    labels: impl Fn(&EpochRecord, &EpochRecord) -> Vec<String>,
) -> Vec<Mark> {
    let pairs = history.windows(2).zip(2..);
    let mark = |(pair, epoch): (&[EpochRecord], usize)| {
        let [before, now] = pair else { return None };
        let label = labels(before, now).join(", ");
        (!label.is_empty()).then_some(Mark { epoch, label })
    };
    pairs.filter_map(mark).collect()
}
