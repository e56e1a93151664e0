use polyview::schema::{Fields, Labelled, Schema};
use serde_json::Value;

use crate::common::data::{fields, unknown};
use crate::common::reference::{self, entries, field, named};

fn foul(class: &str, offence: &str, severity: &str) -> Fields {
    fields(&[("Action class", class), ("Offence", offence), ("Severity", severity)])
}

#[test]
fn label_rules() {
    let schema = Schema::mvfoul().unwrap();
    let labels =
        |severity: usize, class: usize| Labelled::Labels(vec![Some(severity), Some(class)]);
    let out = |reason: &str| Labelled::LeftOut { reason: reason.to_owned() };
    let cases = [
        // Regular annotations.
        ("Tackling", "No offence", "", labels(0, 0)),
        ("Standing tackling", "Offence", "1.0", labels(1, 1)),
        ("High leg", "Offence", "3.0", labels(2, 2)),
        ("Holding", "Offence", "5.0", labels(3, 3)),
        ("Pushing", "No Offence", "", labels(0, 4)),
        ("Elbowing", "Offence", "1.0", labels(1, 5)),
        ("Challenge", "Offence", "3.0", labels(2, 6)),
        ("Dive", "Offence", "5.0", labels(3, 7)),
        // No offence whatever the severity.
        ("Tackling", "No offence", "1.0", labels(0, 0)),
        ("Tackling", "No offence", "2.0", labels(0, 0)),
        ("Tackling", "No Offence", "4.0", labels(0, 0)),
        ("Tackling", "No offence", "5.0", labels(0, 0)),
        ("Tackling", "No offence", "6.0", labels(0, 0)),
        // Rule 1: also with valid offence and severity.
        ("", "Offence", "3.0", out("no action class")),
        ("Dont know", "No offence", "", out("no action class")),
        ("", "", "", out("no action class")),
        // Rule 2.
        ("Tackling", "", "3.0", out("offence undecided")),
        ("Tackling", "Between", "3.0", out("offence undecided")),
        ("Challenge", "Between", "", out("offence undecided")),
        // Rule 3.
        ("Tackling", "Offence", "", out("severity undecided")),
        ("Tackling", "Offence", "2.0", out("severity undecided")),
        ("Tackling", "Offence", "4.0", out("severity undecided")),
        // A Dive is kept, with defaults.
        ("Dive", "", "", labels(1, 7)),
        ("Dive", "Between", "", labels(1, 7)),
        ("Dive", "Between", "3.0", labels(2, 7)),
        ("Dive", "", "5.0", labels(3, 7)),
        ("Dive", "Offence", "", labels(1, 7)),
        ("Dive", "Offence", "2.0", labels(1, 7)),
        ("Dive", "Offence", "4.0", labels(1, 7)),
        ("Dive", "No offence", "", labels(0, 7)),
        ("Dive", "No Offence", "4.0", labels(0, 7)),
        // Anything else. Values are exact strings.
        ("Tackling", "Offence", "6.0", unknown("offence_severity", "Severity", "6.0")),
        ("Tackling", "Offence", "1", unknown("offence_severity", "Severity", "1")),
        ("Dive", "Offence", "6.0", unknown("offence_severity", "Severity", "6.0")),
        ("Holding", "Offense", "1.0", unknown("offence_severity", "Offence", "Offense")),
        ("Holding", "offence", "1.0", unknown("offence_severity", "Offence", "offence")),
        ("Kicking", "Offence", "1.0", unknown("action_class", "Action class", "Kicking")),
        ("dive", "Offence", "1.0", unknown("action_class", "Action class", "dive")),
        ("dive", "Between", "1.0", out("offence undecided")),
        // The rules apply to the annotated value: an unknown offence without severity falls under
        // rule 3.
        ("Holding", "Offense", "", out("severity undecided")),
    ];
    for (class, offence, severity, expected) in cases {
        let found = schema.label(&foul(class, offence, severity));
        assert_eq!(found, expected, "{class:?}, {offence:?}, {severity:?}");
    }
    // Missing fields count as "".
    assert_eq!(schema.label(&Fields::new()), out("no action class"));
    assert_eq!(schema.label(&fields(&[("Action class", "Dive")])), labels(1, 7));
    assert_eq!(
        schema.label(&fields(&[("Action class", "Tackling"), ("Offence", "No offence")])),
        labels(0, 0)
    );
}

#[test]
fn every_unknown_value_is_named() {
    let schema = Schema::mvfoul().unwrap();
    let Labelled::Unknown(values) = schema.label(&foul("Kicking", "Offense", "6.0")) else {
        panic!("expected unknown values")
    };
    let named: Vec<_> = values.iter().map(|v| (v.field.as_str(), v.value.as_str())).collect();
    assert_eq!(named, [("Offence", "Offense"), ("Severity", "6.0"), ("Action class", "Kicking")]);
}

/// Compares with the official evaluator: the actions that it skips, and the classes in which it
/// counts the others.
#[test]
fn labels_agree_with_the_official_evaluator() {
    let schema = Schema::mvfoul().unwrap();
    let golden = reference::load("official_eval.json");
    let (mut counted, mut skipped) = (0, 0);
    for case in entries(&golden, "cases") {
        let truths = named(field(case, "ground_truth"), "Actions");
        for (id, truth) in truths {
            let text = |field: &str| truth[field].as_str().unwrap_or("");
            let found =
                schema.label(&foul(text("Action class"), text("Offence"), text("Severity")));
            let what = format!("{} {id}: {found:?}", case["name"]);
            match &case["per_action"][id] {
                Value::Null => continue,
                Value::String(why) => {
                    skipped += 1;
                    match (why.as_str(), found) {
                        ("skipped: action class", Labelled::LeftOut { reason }) => {
                            assert_eq!(reason, "no action class", "{what}");
                        }
                        ("skipped: offence", Labelled::LeftOut { reason }) => {
                            assert_eq!(reason, "offence undecided", "{what}");
                        }
                        ("skipped: severity", Labelled::LeftOut { reason }) => {
                            assert_eq!(reason, "severity undecided", "{what}");
                        }
                        ("skipped: no such pair", Labelled::Unknown(_)) => {}
                        (why, _) => panic!("{why}: {what}"),
                    }
                }
                entry => {
                    counted += 1;
                    let index = |key: &str| Some(entry[key].as_u64().unwrap() as usize);
                    let expected = vec![index("offence_severity_class"), index("action_class")];
                    assert_eq!(found, Labelled::Labels(expected), "{what}");
                }
            }
        }
    }
    assert!(counted > 0 && skipped > 0, "{counted} counted, {skipped} skipped");
}

#[test]
fn the_built_in_schema_is_as_specified() {
    let schema = Schema::mvfoul().unwrap();
    let names: Vec<_> = schema.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["offence_severity", "action_class"]);
    let severity =
        ["No offence", "Offence + No card", "Offence + Yellow card", "Offence + Red card"];
    assert_eq!(schema.tasks[0].class_names(), severity);
    let golden = reference::load("official_eval.json");
    let classes = entries(&golden, "action_classes");
    assert_eq!(
        schema.tasks[1].class_names(),
        classes.iter().map(|c| c.as_str().unwrap()).collect::<Vec<_>>()
    );
    assert_eq!(schema.imbalanced_task(), Some(0));

    let widths: Vec<_> = schema.properties.iter().map(|p| (p.name.as_str(), p.embedding)).collect();
    let expected = [
        ("contact", 16),
        ("body_part", 32),
        ("upper_body_part", 16),
        ("multiple_fouls", 8),
        ("try_to_play", 8),
        ("touch_ball", 8),
        ("handball", 8),
        ("handball_offence", 8),
    ];
    assert_eq!(widths, expected);
    assert!(schema.properties.iter().all(|p| p.input && p.auxiliary));

    let shoulder = &schema.properties[2];
    assert_eq!(shoulder.index_of("Use of shoulder"), shoulder.index_of("Use of shoulders"));
    let fouls = &schema.properties[3];
    assert_eq!((fouls.index_of("yes"), fouls.index_of("Yes"), fouls.index_of("No")), (2, 2, 1));
    assert_eq!((fouls.index_of(""), fouls.index_of("perhaps"), fouls.size()), (0, 0, 3));
    assert!(fouls.knows("") && fouls.knows("yes") && !fouls.knows("perhaps"));

    let split = |spelling: &str| schema.split(spelling).map(|s| (s.name.as_str(), s.labelled));
    assert_eq!(split("Train"), Some(("train", true)));
    assert_eq!(split("Chall"), Some(("challenge", false)));
    assert_eq!(split("Challenge"), Some(("challenge", false)));
    assert_eq!(split("training"), None);
}

#[test]
fn written_classes_are_read_back() {
    let schema = Schema::mvfoul().unwrap();
    for severity in 0..4 {
        for class in 0..8 {
            let written = schema.write(&[severity, class]).unwrap();
            assert_eq!(written.len(), 3);
            assert_eq!(schema.label(&written), Labelled::Labels(vec![Some(severity), Some(class)]));
        }
    }
    assert_eq!(schema.write(&[0, 2]).unwrap(), foul("High leg", "No offence", ""));
    assert_eq!(schema.write(&[1, 6]).unwrap(), foul("Challenge", "Offence", "1.0"));
    assert_eq!(schema.write(&[2, 0]).unwrap(), foul("Tackling", "Offence", "3.0"));
    assert_eq!(schema.write(&[3, 7]).unwrap(), foul("Dive", "Offence", "5.0"));
    assert_eq!(schema.write(&[4, 0]), None);
    assert_eq!(schema.write(&[0]), None);
}

#[test]
fn a_schema_of_some_of_its_tasks_ignores_the_fields_of_the_others() {
    let whole = Schema::mvfoul().unwrap();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let part = whole.clone().with_tasks(&names(&["action_class"])).unwrap();
    assert_eq!(part.tasks, [whole.tasks[1].clone()]);
    assert!(whole.official && !part.official);
    let ignored = part.ignored_fields.clone().unwrap();
    for field in whole.fields() {
        let known = part.fields().contains(field) || ignored.iter().any(|name| name == field);
        assert!(known, "{field} would be reported");
    }
    // A checkpoint stores the schema as text.
    assert_eq!(Schema::parse(&part.to_toml(), "part.toml").unwrap(), part);
    // An action counts even if its other label is unknown.
    assert_eq!(
        part.label(&foul("Tackling", "Offence", "none of these")),
        Labelled::Labels(vec![Some(0)])
    );
    // Tasks keep the schema's order, whatever order is given; all of them give the schema itself.
    let all = names(&["action_class", "offence_severity"]);
    assert_eq!(whole.clone().with_tasks(&all).unwrap(), whole);
    let error = whole.with_tasks(&names(&["severity"])).unwrap_err().to_string();
    assert_eq!(
        error,
        "\"severity\" is not a task of the schema mvfoul, which has offence_severity, action_class"
    );
}
