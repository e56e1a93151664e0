//! SoccerNet-MVFoul's official metrics.
//!
//! This follows the evaluator of the SoccerNet package action by action, including its quirks, so that
//! the results can be compared with a leaderboard. Its rules and classes belong to that evaluator, not
//! to a [`crate::schema::Schema`]: for any other data set use [`crate::metrics`].
//!
//! The quirks that change results: a class without actions makes the balanced accuracies NaN; the
//! annotated `Offence` is compared literally, so "No Offence" does not match "No offence", nor does
//! "Between" match "Offence"; a Dive is correct only with severity "1.0", whatever is annotated.

mod inconsistencies;

use crate::units::plural;
use serde_json::{Map, Value};

pub use inconsistencies::{has_labels, inconsistencies};

/// Classes of the action, in the evaluator's order.
pub const ACTION_CLASSES: [&str; 8] = [
    "Tackling",
    "Standing tackling",
    "High leg",
    "Holding",
    "Pushing",
    "Elbowing",
    "Challenge",
    "Dive",
];

/// Classes of offence and severity, in the evaluator's order.
pub const OFFENCE_SEVERITY_CLASSES: [&str; 4] =
    ["No offence", "Offence + No card", "Offence + Yellow card", "Offence + Red card"];

/// The five official metrics, in per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Share of actions with correct offence and severity.
    pub accuracy_offence_severity: f64,
    /// Share of actions with a correct action class.
    pub accuracy_action: f64,
    /// Mean of correct / counted over the classes of offence and severity.
    pub balanced_accuracy_offence_severity: f64,
    /// Mean of correct / counted over the action classes.
    pub balanced_accuracy_action: f64,
    /// Mean of both balanced accuracies.
    pub leaderboard_value: f64,
}

impl Scores {
    /// Returns the metrics with the evaluator's names, in its order.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("accuracy_offence_severity", self.accuracy_offence_severity),
            ("accuracy_action", self.accuracy_action),
            ("balanced_accuracy_offence_severity", self.balanced_accuracy_offence_severity),
            ("balanced_accuracy_action", self.balanced_accuracy_action),
            ("leaderboard_value", self.leaderboard_value),
        ]
    }
}

/// Why the official evaluator raises an exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfficialError {
    /// A file has no object `Actions`.
    #[error("the {file} have no object \"Actions\"")]
    NoActions {
        /// `annotations` or `predictions`.
        file: &'static str,
    },
    /// An entry is not an object.
    #[error("action {id:?}: the entry in the {file} is not an object")]
    NotAnObject {
        /// `annotations` or `predictions`.
        file: &'static str,
        /// Key of the action.
        id: String,
    },
    /// An entry lacks a key that the evaluator reads.
    #[error("action {id:?}: the entry in the {file} lacks {key:?}")]
    MissingKey {
        /// `annotations` or `predictions`.
        file: &'static str,
        /// Key of the action.
        id: String,
        /// The key.
        key: &'static str,
    },
    /// An action that counts has a class outside [`ACTION_CLASSES`].
    #[error("action {id:?}: the action class {class} is none of the evaluator's eight")]
    UnknownActionClass {
        /// Key of the action.
        id: String,
        /// The class as annotated, as JSON.
        class: String,
    },
}

/// Numbers of actions that count and of correct predictions among them, per class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassCounts<const CLASSES: usize> {
    /// Number of actions of each class that count.
    pub counted: [u64; CLASSES],
    /// Number of these actions that are predicted correctly.
    pub correct: [u64; CLASSES],
}

impl<const CLASSES: usize> Default for ClassCounts<CLASSES> {
    fn default() -> Self {
        Self { counted: [0; CLASSES], correct: [0; CLASSES] }
    }
}

impl<const CLASSES: usize> ClassCounts<CLASSES> {
    fn add(&mut self, class: usize, correct: bool) {
        self.counted[class] += 1;
        self.correct[class] += u64::from(correct);
    }

    /// Returns correct / counted over all classes; NaN without actions.
    fn accuracy(&self) -> f64 {
        self.correct.iter().sum::<u64>() as f64 / self.counted.iter().sum::<u64>() as f64
    }

    /// Returns the mean of correct / counted over all classes, as in the evaluator: 0/0 is NaN.
    fn balanced(&self) -> f64 {
        let shares = self.correct.iter().zip(&self.counted).map(|(r, c)| *r as f64 / *c as f64);
        shares.sum::<f64>() / CLASSES as f64
    }

    /// Returns the mean of correct / counted over the classes that occur; NaN if none does.
    fn balanced_over_occurring(&self) -> f64 {
        let occur = self.correct.iter().zip(&self.counted).filter(|(_, counted)| **counted > 0);
        let (sum, count) =
            occur.fold((0.0, 0.0), |(sum, n), (r, c)| (sum + *r as f64 / *c as f64, n + 1.0));
        sum / count
    }

    /// Returns the names of the classes without an action.
    fn absent(&self, names: &[&'static str; CLASSES]) -> Vec<&'static str> {
        let absent = names.iter().zip(&self.counted).filter(|(_, counted)| **counted == 0);
        absent.map(|(name, _)| *name).collect()
    }
}

/// The evaluator's result for a prediction file, and metrics that are defined where the evaluator's are
/// not.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The official metrics, including NaN.
    ///
    /// # Errors
    /// If the official evaluator raises an exception.
    pub official: Result<Scores, OfficialError>,
    /// The same metrics with balanced accuracies over the classes that occur. They equal the official
    /// ones wherever those are numbers. Entries for which the evaluator would raise an exception are
    /// left out (annotations) or count as wrong (predictions). NaN only if no action counts.
    pub over_occurring: Scores,
    /// One sentence for each reason why the two differ, or why 100 per cent cannot be reached.
    pub notes: Vec<String>,
    /// Counts of the action classes.
    pub action: ClassCounts<8>,
    /// Counts of the classes of offence and severity.
    pub offence_severity: ClassCounts<4>,
    /// Actions that count but have no prediction and so are wrong in both tasks; in annotation order.
    pub not_predicted: Vec<String>,
    /// Number of actions that the evaluator leaves out.
    pub skipped: usize,
}

const TRUTH: &str = "annotations";
const PREDICTIONS: &str = "predictions";
const ACTION_CLASS: &str = "Action class";
const OFFENCE: &str = "Offence";
const SEVERITY: &str = "Severity";

/// Evaluates predictions (see [`super::write_predictions`]) against the annotations of a split, both
/// parsed from their JSON files. Predictions for actions that are not annotated do not count.
///
/// ```
/// use polyview::evaluate::official::evaluate;
/// use serde_json::json;
/// let entry = json!({"Action class": "Dive", "Offence": "No offence", "Severity": ""});
/// let file = json!({"Actions": {"7": entry}});
/// let evaluation = evaluate(&file, &file);
/// let official = evaluation.official?;
/// assert_eq!(official.accuracy_action, 100.0);
/// assert!(official.leaderboard_value.is_nan()); // seven action classes do not occur
/// assert_eq!(evaluation.over_occurring.leaderboard_value, 100.0);
/// # Ok::<(), polyview::evaluate::official::OfficialError>(())
/// ```
pub fn evaluate(annotations: &Value, predictions: &Value) -> Evaluation {
    let mut walk = Walk::default();
    match annotations.get("Actions").and_then(Value::as_object) {
        None => walk.raise(OfficialError::NoActions { file: TRUTH }),
        Some(actions) => {
            let predictions = predictions.get("Actions").and_then(Value::as_object);
            for (id, entry) in actions {
                walk.action(id, entry, predictions);
            }
        }
    }
    walk.finish()
}

/// The classes of an annotated action that counts.
struct Truth<'a> {
    action: usize,
    offence_severity: usize,
    /// The strings that a correct prediction must have.
    needs: [&'a str; 3],
}

/// The counts while iterating over the annotations.
#[derive(Default)]
struct Walk {
    /// The first exception; the evaluator would stop there.
    raised: Option<OfficialError>,
    raises: usize,
    action: ClassCounts<8>,
    offence_severity: ClassCounts<4>,
    not_predicted: Vec<String>,
    skipped: usize,
    /// Number of actions for which no regular prediction is correct.
    out_of_reach: usize,
}

impl Walk {
    fn raise(&mut self, error: OfficialError) {
        self.raises += 1;
        self.raised.get_or_insert(error);
    }

    fn action(&mut self, id: &str, entry: &Value, predictions: Option<&Map<String, Value>>) {
        let truth = match read_truth(id, entry) {
            Ok(Some(truth)) => truth,
            Ok(None) => {
                self.skipped += 1;
                return;
            }
            Err(error) => return self.raise(error),
        };
        let [_, offence, severity] = truth.needs;
        let regular = match truth.offence_severity {
            0 => offence == "No offence",
            class => offence == "Offence" && severity == ["1.0", "3.0", "5.0"][class - 1],
        };
        self.out_of_reach += usize::from(!regular);

        let mut correct = [false; 2];
        if predictions.is_none() && self.not_predicted.is_empty() {
            // The evaluator reads the predictions only when it reaches an action that counts.
            self.raise(OfficialError::NoActions { file: PREDICTIONS });
        }
        match predictions.and_then(|predictions| predictions.get(id)) {
            None => self.not_predicted.push(id.to_owned()),
            Some(entry) => correct = self.compare(id, entry, &truth),
        }
        self.offence_severity.add(truth.offence_severity, correct[0]);
        self.action.add(truth.action, correct[1]);
    }

    /// Whether offence and severity are correct, and whether the action class is.
    fn compare(&mut self, id: &str, entry: &Value, truth: &Truth) -> [bool; 2] {
        let Some(entry) = entry.as_object() else {
            self.raise(OfficialError::NotAnObject { file: PREDICTIONS, id: id.to_owned() });
            return [false; 2];
        };
        let [action_class, offence, severity] = truth.needs;
        // The evaluator reads in this order, and the severity only if the offence agrees.
        let mut agrees = |key, needed: &str| match read(PREDICTIONS, id, entry, key) {
            Ok(value) => value.as_str() == Some(needed),
            Err(error) => {
                self.raise(error);
                false
            }
        };
        let offence_severity = agrees(OFFENCE, offence) && agrees(SEVERITY, severity);
        [offence_severity, agrees(ACTION_CLASS, action_class)]
    }

    fn finish(self) -> Evaluation {
        let scores = |balanced: [f64; 2]| Scores {
            accuracy_offence_severity: self.offence_severity.accuracy() * 100.0,
            accuracy_action: self.action.accuracy() * 100.0,
            balanced_accuracy_offence_severity: balanced[0] * 100.0,
            balanced_accuracy_action: balanced[1] * 100.0,
            leaderboard_value: (balanced[0] * 0.5 + balanced[1] * 0.5) * 100.0,
        };
        let official = scores([self.offence_severity.balanced(), self.action.balanced()]);
        let over_occurring = scores([
            self.offence_severity.balanced_over_occurring(),
            self.action.balanced_over_occurring(),
        ]);
        Evaluation {
            notes: self.notes(),
            official: self.raised.map_or(Ok(official), Err),
            over_occurring,
            action: self.action,
            offence_severity: self.offence_severity,
            not_predicted: self.not_predicted,
            skipped: self.skipped,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(error) = &self.raised {
            let more = match self.raises - 1 {
                0 => String::new(),
                more => format!(" ({more} more like it)"),
            };
            notes.push(format!(
                "The official evaluator raises an exception, so it gives no result: {error}{more}."
            ));
        }
        if self.action.counted.iter().sum::<u64>() == 0 {
            notes.push("No annotated action counts, so there is nothing to divide by.".to_owned());
            return notes;
        }
        let absent = self.offence_severity.absent(&OFFENCE_SEVERITY_CLASSES);
        for (task, absent) in [
            ("offence and severity", absent),
            ("the action class", self.action.absent(&ACTION_CLASSES)),
        ] {
            if !absent.is_empty() {
                notes.push(format!(
                    "The official balanced accuracy of {task} and the leaderboard value are NaN: \
                     no action that counts is of {}; the value beside it is the mean over the \
                     classes that occur.",
                    listed(&absent)
                ));
            }
        }
        if self.out_of_reach > 0 {
            notes.push(format!(
                "{} of {} cannot be correct in offence and severity with any regular prediction of \
                 its class: the evaluator compares the annotated offence literally and requires \
                 severity 1.0 of every Dive.",
                self.out_of_reach,
                plural(self.action.counted.iter().sum::<u64>(), "action")
            ));
        }
        notes
    }
}

/// Returns the names in quotes, joined with commas and an `or`.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn read<'a>(
    file: &'static str,
    id: &str,
    entry: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a Value, OfficialError> {
    entry.get(key).ok_or_else(|| OfficialError::MissingKey { file, id: id.to_owned(), key })
}

/// Returns the classes of an annotated action; `None` if the evaluator leaves it out. All three keys are
/// read first, so a missing one raises an exception even for an action that is left out.
fn read_truth<'a>(id: &str, entry: &'a Value) -> Result<Option<Truth<'a>>, OfficialError> {
    let Some(entry) = entry.as_object() else {
        return Err(OfficialError::NotAnObject { file: TRUTH, id: id.to_owned() });
    };
    let class = read(TRUTH, id, entry, ACTION_CLASS)?;
    // Values other than strings equal none of the strings in the rules.
    let offence = read(TRUTH, id, entry, OFFENCE)?.as_str();
    let severity = read(TRUTH, id, entry, SEVERITY)?.as_str();

    let dive = class == "Dive";
    let undecided = matches!(severity, Some("" | "2.0" | "4.0"));
    let clean = matches!(offence, Some("No offence" | "No Offence"));
    let between = matches!(offence, Some("" | "Between"));
    if class == "" || class == "Dont know" {
        return Ok(None);
    }
    if between && !dive || undecided && !dive && !clean {
        return Ok(None);
    }
    let severity = if undecided { Some("1.0") } else { severity };
    let offence_severity = match severity {
        _ if clean => 0,
        _ if !between && offence != Some("Offence") => return Ok(None),
        Some("1.0") => 1,
        Some("3.0") => 2,
        Some("5.0") => 3,
        _ => return Ok(None),
    };
    let action = class.as_str().and_then(|name| ACTION_CLASSES.iter().position(|c| *c == name));
    let (Some(action), Some(class), Some(offence)) = (action, class.as_str(), offence) else {
        let (id, class) = (id.to_owned(), class.to_string());
        return Err(OfficialError::UnknownActionClass { id, class });
    };
    let severity = match severity {
        _ if clean => "",
        _ if dive => "1.0",
        other => other.expect("the match above returns for any other severity"),
    };
    Ok(Some(Truth { action, offence_severity, needs: [class, offence, severity] }))
}
