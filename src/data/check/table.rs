//! A check's report as text tables.

use std::fmt::Display;

use comfy_table::{CellAlignment, Table, presets};
use indexmap::IndexMap;

use super::{CheckReport, SplitReport};
use crate::data::problem::{Level, Problem, ProblemKind};

/// Number of problems of one kind that are listed per split; the others are only counted.
const SHOWN: usize = 20;

pub(super) fn render(report: &CheckReport) -> String {
    let mut blocks = vec![
        format!("Data set {} (schema {})", report.root.display(), report.schema),
        summary(report),
    ];
    for split in &report.splits {
        blocks.extend(details(split));
    }
    if !report.missing_splits.is_empty() {
        blocks.push(format!("Missing splits: {}", report.missing_splits.join(", ")));
    }
    blocks.push(match (report.errors, report.warnings) {
        (0, 0) => "No problems found.".to_owned(),
        (errors, warnings) => {
            format!("{}, {}.", plural(errors, "error"), plural(warnings, "warning"))
        }
    });
    blocks.join("\n\n") + "\n"
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A table whose first column is text and whose other columns are numbers. Its width depends on
/// its content alone, not on the terminal.
fn table<H: Display, R: Display>(header: &[H], rows: Vec<Vec<R>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().map(H::to_string));
    for row in rows {
        table.add_row(row.iter().map(R::to_string));
    }
    for (k, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if k == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn summary(report: &CheckReport) -> String {
    let failures = |split: &SplitReport| {
        // A split whose annotations cannot be read has no counts.
        let get = |key: &str| split.clips.get(key).copied().unwrap_or(0);
        get("all") - get("ok")
    };
    let row = |split: &SplitReport| {
        let clip = |key: &str| split.clips.get(key).map_or(0, |n| *n).to_string();
        let mut row = vec![split.name.clone()];
        row.extend([split.actions, split.kept].map(|n| n.to_string()));
        row.extend(["all", "ok"].map(clip));
        row.push(failures(split).to_string());
        row.extend(["short", "odd"].map(clip));
        row
    };
    let header = ["split", "actions", "kept", "clips", "ok", "failed", "short", "odd"];
    table(&header, report.splits.iter().map(row).collect())
}

fn details(split: &SplitReport) -> Vec<String> {
    let mut blocks = Vec::new();
    let name = &split.name;
    let mut counts = |title: String, counts: &IndexMap<String, usize>| {
        if !counts.is_empty() {
            let row = |(what, count): (&String, &usize)| vec![what.clone(), count.to_string()];
            blocks.push(table(&[title, "actions".to_owned()], counts.iter().map(row).collect()));
        }
    };
    for task in &split.tasks {
        counts(format!("{name}: {}", task.title), &task.classes);
    }
    let views = split.views.iter().map(|(views, actions)| (plural(*views, "clip"), *actions));
    counts(format!("{name}: clips per action"), &views.collect());
    counts(format!("{name}: left out because"), &split.left_out);
    counts(format!("{name}: values unknown to the schema"), &split.values);

    for (level, title) in [(Level::Error, "errors"), (Level::Warning, "warnings")] {
        let mut kinds: IndexMap<ProblemKind, Vec<&Problem>> = IndexMap::new();
        for problem in split.problems.iter().filter(|problem| problem.level == level) {
            kinds.entry(problem.kind).or_default().push(problem);
        }
        if kinds.is_empty() {
            continue;
        }
        let mut lines = vec![format!("{name}: {title}")];
        for (kind, problems) in kinds {
            lines.push(format!("  {} ({})", kind.title(), problems.len()));
            lines.extend(problems.iter().take(SHOWN).map(|problem| format!("    {problem}")));
            if problems.len() > SHOWN {
                lines.push(format!("    … and {} more", problems.len() - SHOWN));
            }
        }
        blocks.push(lines.join("\n"));
    }
    blocks
}
