//! Problems that the official evaluator silently ignores.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ACTION_CLASS, ACTION_CLASSES, OFFENCE, SEVERITY};

/// Lists what silently makes predictions wrong or leaves them out: files of different splits, actions that
/// are not annotated, unknown classes. Returns one line for each; both files are parsed JSON.
pub fn inconsistencies(annotations: &Value, predictions: &Value) -> Vec<String> {
    let actions = |file: &Value| file.get("Actions").and_then(Value::as_object).cloned();
    let mut lines: Vec<String> = sets(annotations, predictions).into_iter().collect();
    if let (Some(annotated), Some(predicted)) = (actions(annotations), actions(predictions)) {
        lines.extend(unknown_actions(&annotated, &predicted));
        lines.extend(unknown_classes(&predicted));
    }
    lines
}

/// Returns whether the official metrics can apply to a parsed file of annotations or predictions: `false` if
/// its actions have fields, none of which the evaluator reads, as in files of another data set.
pub fn has_labels(file: &Value) -> bool {
    let actions = file.get("Actions").and_then(Value::as_object);
    let entries = || actions.into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let has_one = |entry: &Map<_, _>| {
        [ACTION_CLASS, OFFENCE, SEVERITY].iter().any(|key| entry.contains_key(*key))
    };
    entries().all(Map::is_empty) || entries().any(has_one)
}

fn sets(annotations: &Value, predictions: &Value) -> Option<String> {
    let set = |file: &Value| file.get("Set").and_then(Value::as_str).map(str::to_owned);
    let (annotated, predicted) = (set(annotations)?, set(predictions)?);
    (!annotated.eq_ignore_ascii_case(&predicted)).then(|| {
        format!("the annotations are for the set {annotated:?}, the predictions for {predicted:?}")
    })
}

fn unknown_actions(
    annotated: &Map<String, Value>,
    predicted: &Map<String, Value>,
) -> Option<String> {
    let unknown: Vec<&String> =
        predicted.keys().filter(|id| !annotated.contains_key(*id)).collect();
    let first = unknown.first()?;
    Some(match unknown.len() {
        1 => format!("1 predicted action is not annotated and does not count: {first:?}"),
        count => {
            format!(
                "{count} predicted actions are not annotated and do not count, such as {first:?}"
            )
        }
    })
}

fn unknown_classes(predicted: &Map<String, Value>) -> Vec<String> {
    let known: [(&str, &[&str]); 3] = [
        (ACTION_CLASS, &ACTION_CLASSES),
        (OFFENCE, &["Offence", "No offence", "No Offence", "Between", ""]),
        (SEVERITY, &["1.0", "2.0", "3.0", "4.0", "5.0", ""]),
    ];
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for entry in predicted.values() {
        for (key, classes) in known {
            // A missing key raises an exception in the evaluator, which is reported elsewhere.
            let Some(value) = entry.get(key) else { continue };
            if value.as_str().is_none_or(|class| !classes.contains(&class)) {
                *counts.entry((key, value.to_string())).or_default() += 1;
            }
        }
    }
    let line = |((key, value), count): ((&str, String), usize)| {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        format!(
            "{key} {value} (predicted {times}) is not one of the evaluator's classes and always counts as \
             wrong"
        )
    };
    counts.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_other_data_sets_are_recognised() {
        for (actions, expected) in [
            (json!({"1": {"hand": "left"}, "2": {"hand": "right"}}), false),
            (json!({"1": {"Clips": []}}), false),
            (json!({"1": {"hand": "left"}, "2": {"Severity": ""}}), true),
            // Errors that the evaluator's exception describes better.
            (json!({"1": {}}), true),
            (json!({"1": null}), true),
            (json!({}), true),
            (json!(null), true),
        ] {
            assert_eq!(has_labels(&json!({"Actions": actions})), expected, "{actions}");
        }
    }

    #[test]
    fn what_never_counts_is_named() {
        let entry = |class: &str, severity: Value| json!({"Action class": class, "Offence": "Offence", "Severity": severity});
        let truth = json!({"Set": "test", "Actions": {"1": entry("Dive", json!("1.0"))}});
        assert_eq!(inconsistencies(&truth, &truth), Vec::<String>::new());
        let predicted = json!({"Set": "valid", "Actions": {
            "1": entry("Sliding", json!("1.0")),
            "2": entry("Sliding", json!(1.0)),
            "3": entry("Dive", json!("")),
        }});
        assert_eq!(
            inconsistencies(&truth, &predicted),
            [
                "the annotations are for the set \"test\", the predictions for \"valid\"",
                "2 predicted actions are not annotated and do not count, such as \"2\"",
                "Action class \"Sliding\" (predicted 2 times) is not one of the evaluator's classes and always \
                 counts as wrong",
                "Severity 1.0 (predicted once) is not one of the evaluator's classes and always counts as \
                 wrong",
            ]
        );
    }
}
