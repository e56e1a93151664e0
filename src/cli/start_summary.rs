//! Text of the summary that a run prints at its start.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::report::{BalanceSummary, RunSummary};
use crate::units::plural;

/// Width of the column with the settings' names.
const NAMES: usize = 10;

/// Formats the summary in lines of at most `width` columns, unless a word is longer. `None` leaves lines
/// unbroken, for files and other programs.
pub(super) fn start_summary(summary: &RunSummary, width: Option<usize>) -> String {
    let mut text = String::new();
    let entry = |text: &mut String, name: &str, value: &str| {
        let value = hanging(value, NAMES + 2, width);
        let _ = writeln!(text, "{name:>NAMES$}  {value}");
    };
    for (name, value) in &summary.settings {
        entry(&mut text, name, value);
    }
    for split in &summary.splits {
        let (actions, views) = (plural(split.actions, "action"), plural(split.views, "view"));
        entry(&mut text, &split.split, &format!("{actions}, {views}, {} left out", split.left_out));
        for (task, classes) in &split.classes {
            let counts: Vec<String> =
                classes.iter().map(|(name, count)| format!("{name} {count}")).collect();
            entry(&mut text, "", &format!("{task}: {}", counts.join(", ")));
        }
    }
    for balance in &summary.balance {
        let _ = writeln!(text, "\n{}", balanced(balance));
    }
    if !summary.advice.is_empty() {
        text.push('\n');
    }
    for advice in &summary.advice {
        let _ = writeln!(text, "{}", hanging(&format!("advice: {advice}"), 2, width));
    }
    let legend = "each epoch: training loss → validation loss; each task's balanced accuracy (and loss) in \
                  validation; their mean as score, * for the best so far; learning rate of each trained group";
    text.push('\n');
    text.push_str(&hanging(legend, 0, width));
    text
}

/// Builds the table of a task's classes with their weights and draws.
fn balanced(balance: &BalanceSummary) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([&balance.task, "actions", "weight", "draws per epoch"]);
    for (class, count, weight, draws) in &balance.classes {
        let weight = format!("{weight:.2}");
        table.add_row([class, &count.to_string(), &weight, &draws.to_string()]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Breaks text between words into lines of at most `width` columns. Each line but the first is indented
/// by `indent` spaces; the first is assumed to begin in that column already.
fn hanging(text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut lines = String::new();
    let mut column = indent;
    for (index, word) in text.split(' ').enumerate() {
        let length = console::measure_text_width(word);
        if index > 0 && column + 1 + length > width {
            let _ = write!(lines, "\n{:indent$}", "");
            column = indent;
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_hang() {
        let text = "lr 0.001 → 0.0001 (cosine), aVeryLongWordThatDoesNotFit, end";
        let broken = hanging(text, 4, Some(20));
        assert_eq!(
            broken,
            "lr 0.001 →\n    0.0001 (cosine),\n    aVeryLongWordThatDoesNotFit,\n    end"
        );
        assert_eq!(broken.split_whitespace().collect::<Vec<_>>().join(" "), text);
        assert_eq!(hanging(text, 4, None), text);
    }

    #[test]
    fn the_whole_summary_fits() {
        let summary = RunSummary {
            settings: vec![("training".to_owned(), "word ".repeat(60).trim().to_owned())],
            splits: Vec::new(),
            balance: Vec::new(),
            advice: vec!["advice ".repeat(30).trim().to_owned()],
        };
        let wide = start_summary(&summary, None);
        let narrow = start_summary(&summary, Some(80));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(wide.lines().any(|line| line.chars().count() > 300), "{wide}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&wide), words(&narrow));
    }
}
