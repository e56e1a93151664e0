//! Formats a check's report as text: an overview, then the problems, the most severe first, then
//! counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use indexmap::IndexMap;

use super::{CheckReport, SplitReport};
use crate::data::problem::{Level, Problem, ProblemKind};
use crate::units::plural;

/// Maximum number of problems of one kind that are listed; the others are only counted.
const SHOWN: usize = 20;
/// Maximum number of formats that are listed. Clips with a variable frame rate each have their own.
const FORMATS: usize = 12;

pub(super) fn render(report: &CheckReport) -> String {
    let mut blocks = vec![
        format!("Data set {} (schema {})", report.root.display(), report.schema),
        summary(report),
    ];
    blocks.extend(problems(report, Level::Error, "Errors"));
    blocks.extend(problems(report, Level::Warning, "Warnings"));
    blocks.extend(notes(report));
    blocks.extend(counts(report));
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

/// Formats a table whose first column is text and whose other columns are numbers. Its width
/// depends on its content only, not on the terminal.
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

/// Lists the problems of one level, by kind.
fn problems(report: &CheckReport, level: Level, title: &str) -> Option<String> {
    let mut kinds: BTreeMap<ProblemKind, Vec<(&SplitReport, &Problem)>> = BTreeMap::new();
    for split in &report.splits {
        for problem in split.problems.iter().filter(|problem| problem.level == level) {
            kinds.entry(problem.kind).or_default().push((split, problem));
        }
    }
    if kinds.is_empty() {
        return None;
    }
    let mut lines = vec![title.to_owned()];
    for (kind, problems) in kinds {
        let advice = kind.advice().map_or_else(String::new, |advice| format!(": {advice}"));
        lines.push(format!("  {} ({}){advice}", kind.title(), problems.len()));
        let shown = problems.iter().take(SHOWN);
        lines.extend(shown.map(|(split, problem)| format!("    {}", line(split, problem))));
        if problems.len() > SHOWN {
            lines.push(format!("    … and {} more", problems.len() - SHOWN));
        }
    }
    Some(lines.join("\n"))
}

/// Formats a problem as one line that begins with its split, whose folder is removed from paths.
fn line(split: &SplitReport, problem: &Problem) -> String {
    let separator = if problem.action.is_some() { "," } else { ":" };
    format!("{}{separator} {}", split.name, without_folder(&problem.to_string(), &split.dir))
}

/// Makes paths within `folder` in a text relative to it.
fn without_folder(text: &str, folder: &Path) -> String {
    // The folder of a table in the current folder is empty.
    if folder.as_os_str().is_empty() {
        return text.to_owned();
    }
    let folder = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    let begins = |at: usize| {
        let before = text[..at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '('))
    };
    let (mut rest, mut shown) = (0, String::new());
    for (at, _) in text.match_indices(&folder).filter(|(at, _)| begins(*at)) {
        shown.push_str(&text[rest..at]);
        rest = at + folder.len();
    }
    shown + &text[rest..]
}

/// Lists notes about the splits; splits with the same note are grouped.
fn notes(report: &CheckReport) -> Option<String> {
    let mut notes: IndexMap<String, Vec<&str>> = IndexMap::new();
    for split in &report.splits {
        let Some(repeats) = &split.repeats else { continue };
        let clips = match split.clips.get("ok") {
            Some(ok) if *ok == repeats.clips => "all clips".to_owned(),
            _ => plural(repeats.clips, "clip"),
        };
        let advice = match repeats.target_fps {
            Some(fps) => format!("use --target-fps {}", rounded(fps)),
            None => format!("the window has only {}", plural(repeats.window, "frame")),
        };
        let wanted = plural(repeats.wanted, "sampled frame");
        let distinct = match (repeats.fewest, repeats.most) {
            (1, 1) => format!("1 of {wanted} is"),
            (fewest, most) if fewest == most => format!("{most} of {wanted} are"),
            (fewest, most) => format!("{fewest} to {most} of {wanted} are"),
        };
        let note = format!("in {clips} only {distinct} distinct; {advice}");
        notes.entry(note).or_default().push(&split.name);
    }
    let line = |(note, splits): (String, Vec<&str>)| format!("  {}: {note}", splits.join(", "));
    let lines: Vec<String> = notes.into_iter().map(line).collect();
    (!lines.is_empty()).then(|| format!("Notes\n{}", lines.join("\n")))
}

/// Rounds to three decimal places.
fn rounded(fps: f64) -> f64 {
    (fps * 1000.0).round() / 1000.0
}

/// Returns tables of counts with a column per split.
fn counts(report: &CheckReport) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut push = |title: &str, of: &dyn Fn(&SplitReport) -> IndexMap<String, usize>| {
        blocks.extend(by_split(report, title, of));
    };
    let tasks = report.splits.iter().flat_map(|split| &split.tasks);
    let titles: IndexMap<&str, &str> =
        tasks.map(|task| (task.task.as_str(), task.title.as_str())).collect();
    for (name, title) in titles {
        push(title, &|split| {
            let task = split.tasks.iter().find(|task| task.task == name);
            task.map(|task| task.classes.clone()).unwrap_or_default()
        });
    }
    // In ascending order over all splits.
    let views = report.splits.iter().flat_map(|split| split.views.iter().map(|(views, _)| *views));
    let views: BTreeSet<usize> = views.collect();
    push("actions by number of clips", &|split| {
        let counts: BTreeMap<usize, usize> = split.views.iter().copied().collect();
        let count = |n: &usize| (plural(*n, "clip"), counts.get(n).copied().unwrap_or(0));
        if counts.is_empty() { IndexMap::new() } else { views.iter().map(count).collect() }
    });
    push("left out because", &|split| split.left_out.clone());
    push("values unknown to the schema", &|split| split.values.clone());
    push("clips by format", &|split| {
        let count = |f: &super::FormatCount| (f.to_string(), f.clips);
        let mut counts: IndexMap<_, _> = split.formats.iter().take(FORMATS).map(count).collect();
        let rest: usize = split.formats.iter().skip(FORMATS).map(|format| format.clips).sum();
        if rest > 0 {
            counts.insert("others".to_owned(), rest);
        }
        counts
    });
    blocks
}

/// Formats counts as a table with a row for each name that occurs in a split.
fn by_split(
    report: &CheckReport,
    title: &str,
    of: &dyn Fn(&SplitReport) -> IndexMap<String, usize>,
) -> Option<String> {
    let columns: Vec<_> =
        report.splits.iter().map(|split| (split.name.as_str(), of(split))).collect();
    let columns: Vec<_> = columns.into_iter().filter(|(_, counts)| !counts.is_empty()).collect();
    let mut rows: IndexMap<&str, Vec<String>> = IndexMap::new();
    for name in columns.iter().flat_map(|(_, counts)| counts.keys()) {
        let count = |(_, counts): &(&str, IndexMap<String, usize>)| match counts.get(name) {
            Some(count) => count.to_string(),
            None => "0".to_owned(),
        };
        rows.entry(name).or_insert_with(|| columns.iter().map(count).collect());
    }
    if rows.is_empty() {
        return None;
    }
    let header: Vec<&str> =
        std::iter::once(title).chain(columns.iter().map(|(name, _)| *name)).collect();
    let rows = rows
        .into_iter()
        .map(|(name, counts)| std::iter::once(name.to_owned()).chain(counts).collect::<Vec<_>>());
    Some(table(&header, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_folder_is_only_removed_at_the_start_of_paths() {
        for (text, folder, shown) in [
            ("action 1: data/a/b.mp4: empty", "data", "action 1: a/b.mp4: empty"),
            ("\"data/a\" and (data/b)", "data", "\"a\" and (b)"),
            ("mydata/a: x/data/b", "data", "mydata/a: x/data/b"),
            ("a/b.mp4: empty", "", "a/b.mp4: empty"),
        ] {
            let text = text.replace('/', std::path::MAIN_SEPARATOR_STR);
            let shown = shown.replace('/', std::path::MAIN_SEPARATOR_STR);
            assert_eq!(without_folder(&text, Path::new(folder)), shown);
        }
    }
}
