//! Names for the class numbers in a list, from `classes.txt` or `label_map*.txt` beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::error::DataError;
use crate::text;
use crate::units::plural;

/// Names of classes by their numbers.
#[derive(Debug)]
pub(super) struct ClassNames {
    /// Name of the file, for messages.
    file: String,
    names: BTreeMap<usize, String>,
    /// Whether the file states the numbers; otherwise they are those of the lines, counted from 0.
    numbered: bool,
    /// Whether these numbers are 1, 2, 3 and so on.
    from_1: bool,
    /// The lowest label in the lists.
    lowest: Option<usize>,
}

impl ClassNames {
    /// Reads the names of classes in a folder, one per line; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>, DataError> {
        let is_map = |name: &str| {
            name == "classes.txt" || (name.starts_with("label_map") && name.ends_with(".txt"))
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| is_map(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        let Some(path) = paths.first() else { return Ok(None) };
        let fail = |reason: String| DataError::Layout { path: path.clone(), reason };
        let bytes =
            std::fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let text = text::decode(&bytes).map_err(|error| fail(error.to_string()))?.text;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(Self::parse(file, &text)))
    }

    /// Reads the names from a file's text. The lines are numbered if each begins with a number of
    /// its own, as in UCF101's classInd.txt, and the names differ without it: `1 finger, 2 fingers,
    /// 3 fingers` are names, and would otherwise become one class.
    fn parse(file: String, text: &str) -> Self {
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let split: Option<BTreeMap<usize, String>> =
            lines.iter().map(|line| number_and_name(line)).collect();
        let is_numbering = |names: &BTreeMap<usize, String>| {
            let distinct: BTreeSet<&String> = names.values().collect();
            !lines.is_empty() && names.len() == lines.len() && distinct.len() == lines.len()
        };
        let (names, numbered) = match split.filter(is_numbering) {
            Some(names) => (names, true),
            None => ((0..).zip(lines.into_iter().map(str::to_owned)).collect(), false),
        };
        let from_1 = numbered && names.keys().copied().eq(1..=names.len());
        Self { file, names, numbered, from_1, lowest: None }
    }

    /// Takes note of a label in a list.
    pub(super) fn expect(&mut self, label: usize) {
        self.lowest = Some(self.lowest.map_or(label, |lowest| lowest.min(label)));
    }

    /// Returns whether the labels count from 0, but the file from 1. UCF101 counts its classes from
    /// 1, but many lists made from it count from 0.
    fn is_shifted(&self) -> bool {
        self.from_1 && self.lowest == Some(0)
    }

    /// Returns a note that says how labels are matched with the file's lines, if these begin with
    /// numbers; `None` if the lists have no numeric labels.
    pub(super) fn note(&self) -> Option<String> {
        self.lowest?;
        let file = &self.file;
        let (first, name) = self.names.first_key_value()?;
        if self.is_shifted() {
            return Some(format!(
                "{file}: its lines are numbered from {first}, but a label is 0, so all labels count from \
                 0: label 0 is {name:?}"
            ));
        }
        if self.numbered {
            return Some(format!(
                "{file}: its lines are numbered, and the labels are these numbers: label {first} is \
                 {name:?}"
            ));
        }
        let begin_with_numbers = self.names.values().all(|line| number_and_name(line).is_some());
        begin_with_numbers.then(|| {
            format!(
                "{file}: its lines begin with numbers, but these or the names after them repeat, so they \
                 belong to the names, and the labels count lines from 0: label {first} is {name:?}"
            )
        })
    }

    /// Returns the name of the class with the given label.
    ///
    /// # Errors
    /// A message that the file names no such class.
    pub(super) fn name(&self, label: usize) -> Result<String, String> {
        let shifted = self.is_shifted();
        let number = label.checked_add(usize::from(shifted));
        if let Some(name) = number.and_then(|number| self.names.get(&number)) {
            return Ok(name.clone());
        }
        let (file, count) = (&self.file, self.names.len());
        Err(if shifted {
            format!(
                "the label is {label}, but {file} has {}, which other labels number from 0; count the \
                 labels of all lists from 0, or all from 1",
                plural(count, "class")
            )
        } else if self.numbered {
            format!("the label is {label}, but {file} has no class with this number")
        } else {
            format!("the label is {label}, but there are only {count} classes")
        })
    }
}

/// Splits a line such as `1 ApplyEyeMakeup` or `1,ApplyEyeMakeup`; `None` if it has no number or no
/// name.
fn number_and_name(line: &str) -> Option<(usize, String)> {
    let end = line.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = line.split_at(end);
    let is_mark = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':');
    let name = rest.strip_prefix(is_mark)?.trim_start_matches(is_mark);
    Some((number.parse().ok()?, name.to_owned())).filter(|(_, name)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::ClassNames;

    /// Names of labels where the lists contain exactly these.
    fn names(text: &str, labels: &[usize]) -> Result<Vec<String>, String> {
        let mut names = ClassNames::parse("classes.txt".to_owned(), text);
        labels.iter().for_each(|label| names.expect(*label));
        labels.iter().map(|label| names.name(*label)).collect()
    }

    #[test]
    fn numbers_before_names_are_those_of_the_labels() {
        for (text, labels, expected) in [
            ("1 one\n2 two\n3 three\n", vec![3, 1, 2], vec!["three", "one", "two"]),
            // The lists count from 0.
            ("1 one\n2 two\n3 three\n", vec![2, 0, 1], vec!["three", "one", "two"]),
            ("2 two\n0 zero\n1 one\n", vec![1, 2, 0], vec!["one", "two", "zero"]),
            ("5,five x\n 7: seven\n", vec![7, 5], vec!["seven", "five x"]),
            // Not all lines are numbered, differently, or they are only numbers.
            ("7 wonders\nwave\n", vec![0, 1], vec!["7 wonders", "wave"]),
            ("2 hands\n2 feet\n", vec![0, 1], vec!["2 hands", "2 feet"]),
            // Two classes would have the same name.
            (
                "1 finger\n2 fingers\n3 fingers\n",
                vec![0, 1, 2],
                vec!["1 finger", "2 fingers", "3 fingers"],
            ),
            ("3d\n2d\n", vec![0, 1], vec!["3d", "2d"]),
            ("20\n10\n", vec![0, 1], vec!["20", "10"]),
        ] {
            assert_eq!(names(text, &labels).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_taken_for_a_number_is_noted() {
        for (text, labels, expected) in [
            (
                "1 one\n2 two\n",
                vec![2, 1],
                Some("the labels are these numbers: label 1 is \"one\""),
            ),
            (
                "0 zero\n1 one\n",
                vec![0, 1],
                Some("the labels are these numbers: label 0 is \"zero\""),
            ),
            ("1 one\n2 two\n", vec![1, 0], Some("all labels count from 0: label 0 is \"one\"")),
            (
                "1 finger\n2 fingers\n3 fingers\n",
                vec![0, 1, 2],
                Some("the labels count lines from 0: label 0 is \"1 finger\""),
            ),
            ("one\n2 two\n", vec![0, 1], None),
            // All labels are names.
            ("1 one\n2 two\n", vec![], None),
        ] {
            let mut names = ClassNames::parse("classes.txt".to_owned(), text);
            labels.iter().for_each(|label| names.expect(*label));
            let note = names.note();
            assert_eq!(note.is_some(), expected.is_some(), "{text}: {note:?}");
            assert!(note.unwrap_or_default().ends_with(expected.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn labels_that_fit_no_numbering_are_refused() {
        for (text, labels, expected) in [
            (
                "1 one\n2 two\n",
                vec![0, 1, 2],
                "the label is 2, but classes.txt has 2 classes, which other labels number from 0; count",
            ),
            (
                "1 one\n2 two\n",
                vec![1, 3],
                "the label is 3, but classes.txt has no class with this",
            ),
            (
                "0 zero\n1 one\n",
                vec![1, 2],
                "the label is 2, but classes.txt has no class with this",
            ),
            ("3 kings\n7 wonders\n", vec![0, 1], "the label is 0, but classes.txt has no class"),
            ("a\nb\n", vec![1, 2], "the label is 2, but there are only 2 classes"),
        ] {
            let error = names(text, &labels).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
