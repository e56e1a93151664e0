//! The curves of several runs over each other.

use super::Run;
use crate::report::EpochRecord;
use crate::report::charts::{COLOURS, Chart, Line, Scale};
use crate::report::curves::Curves;

/// Colours in the order in which runs get them: the grey one, which the eye passes over, last.
const ORDER: [usize; COLOURS] = [1, 3, 4, 5, 6, 8, 7, 2];

/// The runs whose curves are drawn, as many as there are colours: the reference and those with the best
/// scores. Their places, in order.
pub(super) fn drawn(runs: &[Run]) -> Vec<usize> {
    let score = |place: &usize| runs[*place].best().map_or(f64::NEG_INFINITY, |best| best.score);
    let mut places: Vec<usize> = (1..runs.len()).collect();
    places.sort_by(|a, b| score(b).total_cmp(&score(a)));
    places.truncate(COLOURS - 1);
    places.push(0);
    places.sort_unstable();
    places
}

/// The colour of the run at a place; `None` where it is not drawn.
pub(super) fn colour(drawn: &[usize], place: usize) -> Option<usize> {
    let index = drawn.iter().position(|other| *other == place)?;
    ORDER.get(index).copied()
}

/// Validation score, losses and each task's balanced accuracy, a line per run.
pub(super) fn curves(runs: &[Run], drawn: &[usize], tasks: &[&str]) -> Vec<Curves> {
    let figure = |id: &str, title: &str, note: &str, scale, value: &dyn Fn(&EpochRecord) -> f64| {
        let line = |place: &usize| Line {
            name: runs[*place].name.clone(),
            colour: colour(drawn, *place).expect("each that is drawn has a colour"),
            values: runs[*place].history.iter().map(value).collect(),
            dot: runs[*place].best().map(|best| best.epoch),
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
            let found = record.valid.tasks.iter().find(|found| found.task == *task);
            found.map_or(f64::NAN, |found| found.balanced_accuracy)
        };
        let note = "balanced accuracy, validation";
        all.push(figure(&format!("task-{task}"), task, note, Scale::Percent, &value));
    }
    all
}
