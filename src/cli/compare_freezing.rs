//! Results of `--compare-freezing`, as a table or an event.

use comfy_table::{Cell, CellAlignment, Table, presets};

use serde_json::{Value, json};

use crate::train::{Comparison, Outcome};

/// Returns the best epochs of both runs as an event for `--progress json`.
pub(super) fn event(comparison: &Comparison) -> Value {
    json!({
        "event": "comparison",
        "frozen": comparison.frozen.best(),
        "unfrozen": comparison.unfrozen.best(),
    })
}

/// Formats both runs side by side.
pub(super) fn table(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "with freezing", "without"]);
    let runs = [&comparison.frozen, &comparison.unfrozen];
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> Option<String>| {
        let mut cells = vec![Cell::new(name)];
        cells.extend(runs.iter().map(|run| {
            let text = cell(run).unwrap_or_else(|| "–".to_owned());
            Cell::new(text).set_alignment(CellAlignment::Right)
        }));
        table.add_row(cells);
    };
    let best = |run: &Outcome| run.best().cloned();
    row("epochs", &|run| Some(run.history.len().to_string()));
    row("best epoch", &|run| best(run).map(|record| record.epoch.to_string()));
    row("score", &|run| best(run).map(|record| format!("{:.3}", record.score)));
    let tasks = best(runs[0]).map_or(0, |record| record.valid.tasks.len());
    for task in 0..tasks {
        let name = best(runs[0]).map_or(String::new(), |r| r.valid.tasks[task].task.clone());
        row(&format!("{name}, balanced accuracy"), &|run| {
            let record = best(run)?;
            let figures = record.valid.tasks[task].labelled()?;
            Some(format!("{:.3}", figures.balanced_accuracy))
        });
    }
    row("validation loss", &|run| best(run).map(|record| format!("{:.3}", record.valid.loss)));
    row("training, clips/s", &|run| {
        let (clips, seconds) = run.history.iter().fold((0, 0.0), |(clips, seconds), record| {
            (clips + record.train.clips, seconds + record.train.seconds)
        });
        (seconds > 0.0).then(|| format!("{:.1}", clips as f64 / seconds))
    });
    table.to_string()
}
