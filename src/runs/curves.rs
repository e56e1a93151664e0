//! Curves of several runs in the same charts.

use super::Run;
use crate::report::EpochRecord;
use crate::report::charts::{COLOURS, Chart, Line, Scale};
use crate::report::curves::Curves;

/// Colours in the order in which runs get them, with the grey one last, which is easily overlooked.
const ORDER: [usize; COLOURS] = [1, 3, 4, 5, 6, 8, 7, 2];

/// Returns the indices of the runs whose curves are drawn, in order: the reference and the runs with the
/// best scores, as many as there are colours.
pub(super) fn drawn(runs: &[Run]) -> Vec<usize> {
    let score = |run: &usize| runs[*run].best().map_or(f64::NEG_INFINITY, |best| best.score);
    let mut drawn: Vec<usize> = (1..runs.len()).collect();
    drawn.sort_by(|a, b| score(b).total_cmp(&score(a)));
    drawn.truncate(COLOURS - 1);
    drawn.push(0);
    drawn.sort_unstable();
    drawn
}

/// Returns the colour of the run with this index; `None` if it is not drawn.
pub(super) fn colour(drawn: &[usize], run: usize) -> Option<usize> {
    let index = drawn.iter().position(|other| *other == run)?;
    ORDER.get(index).copied()
}

/// Returns charts of validation score, losses and each task's balanced accuracy, with a line per run.
pub(super) fn curves(runs: &[Run], drawn: &[usize], tasks: &[&str]) -> Vec<Curves> {
    let figure = |id: &str, title: &str, note: &str, scale, value: &dyn Fn(&EpochRecord) -> f64| {
        let line = |run: &usize| Line {
            name: runs[*run].name.clone(),
            colour: colour(drawn, *run).expect("every drawn run has a colour"),
            values: runs[*run].history.iter().map(value).collect(),
            dot: runs[*run].best().map(|best| best.epoch),
        };
        Curves {
            id: id.to_owned(),
            title: title.to_owned(),
            note: note.to_owned(),
            chart: Chart { scale, lines: drawn.iter().map(line).collect(), marks: Vec::new() },
        }
    };
    let loss = "mean per action, all tasks weighted";
    let mut all = vec![
        figure("score", "Validation score", "mean of the tasks", Scale::Percent, &|record| {
            record.score
        }),
        figure("valid-loss", "Validation loss", loss, Scale::Linear, &|record| record.valid.loss),
        figure("train-loss", "Training loss", loss, Scale::Linear, &|record| record.train.loss),
    ];
    for task in tasks {
        let value = |record: &EpochRecord| {
            let metrics = record.valid.tasks.iter().find(|metrics| metrics.task == *task);
            metrics.map_or(f64::NAN, |metrics| metrics.shown(|m| m.balanced_accuracy))
        };
        let note = "balanced accuracy, validation";
        all.push(figure(&format!("task-{task}"), task, note, Scale::Percent, &value));
    }
    all
}
