//! The official evaluator: golden results, its rules one by one, and random files against its
//! definition.

use polyview::evaluate::official::{
    ACTION_CLASSES, Evaluation, OFFENCE_SEVERITY_CLASSES, OfficialError, Scores, evaluate,
};
use polyview::evaluate::{WriteError, write_predictions};
use polyview::schema::Schema;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::common::reference::{self, counts, entries, field, named, nullable, text};

/// Rounds to nine significant digits, as in the golden files.
fn nine_digits(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap()
}

fn assert_scores(ours: &Scores, theirs: &Value, what: &str) {
    for (key, value) in ours.named() {
        match nullable(theirs, key) {
            None => assert!(value.is_nan(), "{what}, {key}: {value}"),
            Some(theirs) => assert_eq!(Some(nine_digits(value)), theirs.as_f64(), "{what}, {key}"),
        }
    }
}

#[test]
fn golden_official() {
    let golden = reference::load("official_eval.json");
    assert_eq!(*field(&golden, "action_classes"), json!(ACTION_CLASSES));
    for case in entries(&golden, "cases") {
        let name = text(case, "name");
        let evaluation = evaluate(field(case, "ground_truth"), field(case, "predictions"));
        // A case has results or an error.
        let Some(error) = case.get("error").and_then(Value::as_str) else {
            assert_scores(evaluation.official.as_ref().unwrap(), field(case, "results"), name);
            let theirs = |key: &str| counts(field(field(case, "counts"), key));
            let ours = |counts: &[u64]| counts.iter().map(|n| *n as usize).collect::<Vec<_>>();
            assert_eq!(ours(&evaluation.action.counted), theirs("action_truth"), "{name}");
            assert_eq!(ours(&evaluation.action.correct), theirs("action_correct"), "{name}");
            let tally = &evaluation.offence_severity;
            assert_eq!(ours(&tally.counted), theirs("offence_severity_truth"), "{name}");
            assert_eq!(ours(&tally.correct), theirs("offence_severity_correct"), "{name}");
            let lines = entries(case, "stdout").iter().filter_map(Value::as_str);
            let missing: Vec<_> = lines
                .filter_map(|line| line.strip_prefix("You did not predict the action:  "))
                .collect();
            assert_eq!(evaluation.not_predicted, missing, "{name}");
            let per_action = field(case, "per_action").as_object().unwrap();
            let skipped = per_action.values().filter(|entry| entry.is_string()).count();
            assert_eq!(evaluation.skipped, skipped, "{name}");
            continue;
        };
        let key = match evaluation.official.unwrap_err() {
            OfficialError::UnknownActionClass { class, .. } => class.replace('"', ""),
            OfficialError::MissingKey { key, .. } => key.to_owned(),
            other => panic!("{name}: {other}"),
        };
        assert_eq!(error, format!("KeyError: '{key}'"), "{name}");
    }
}

fn entry(class: &str, offence: &str, severity: &str) -> Value {
    json!({"Action class": class, "Offence": offence, "Severity": severity})
}

fn file(entries: &[(&str, Value)]) -> Value {
    let actions: Map<_, _> = entries.iter().map(|(id, e)| (id.to_string(), e.clone())).collect();
    json!({"Set": "test", "Actions": actions})
}

/// Evaluates one action: returns the number of correct offence/severity pairs and of correct action
/// classes.
fn one(truth: Value, prediction: Value) -> (u64, u64) {
    let evaluation = evaluate(&file(&[("a", truth)]), &file(&[("a", prediction)]));
    assert!(evaluation.official.is_ok(), "{:?}", evaluation.official);
    (evaluation.offence_severity.correct.iter().sum(), evaluation.action.correct.iter().sum())
}

#[test]
fn each_quirk_alone() {
    let dive = |offence, severity| entry("Dive", offence, severity);
    // The prediction must repeat the original offence, whatever it means.
    assert_eq!(one(dive("Between", ""), dive("Offence", "1.0")), (0, 1));
    assert_eq!(one(dive("Between", ""), dive("Between", "1.0")), (1, 1));
    assert_eq!(one(dive("", "3.0"), dive("", "1.0")), (1, 1));
    let clean = |offence| entry("Pushing", offence, "");
    assert_eq!(one(clean("No Offence"), clean("No offence")), (0, 1));
    assert_eq!(one(clean("No Offence"), clean("No Offence")), (1, 1));
    // A Dive requires severity 1.0 and counts in the annotated class.
    assert_eq!(one(dive("Offence", "3.0"), dive("Offence", "3.0")), (0, 1));
    let card =
        evaluate(&file(&[("a", dive("Offence", "3.0"))]), &file(&[("a", dive("Offence", "1.0"))]));
    assert_eq!(card.offence_severity.correct, [0, 0, 1, 0]);
    // An action without offence requires an empty severity, whatever is annotated.
    let annotated = entry("Holding", "No offence", "4.0");
    assert_eq!(one(annotated.clone(), entry("Holding", "No offence", "")), (1, 1));
    assert_eq!(one(annotated, entry("Holding", "No offence", "4.0")), (0, 1));
    // Null is a wrong answer; so is a number.
    let null = json!({"Action class": null, "Offence": null, "Severity": null});
    assert_eq!(one(clean("No offence"), null), (0, 0));
    let number = json!({"Action class": "Pushing", "Offence": "Offence", "Severity": 1.0});
    assert_eq!(one(entry("Pushing", "Offence", "1.0"), number), (0, 1));
}

fn skipped(truth: Value) -> bool {
    evaluate(&file(&[("a", truth)]), &file(&[])).skipped == 1
}

#[test]
fn what_is_skipped() {
    assert!(skipped(entry("", "Offence", "1.0")));
    assert!(skipped(entry("Dont know", "Offence", "1.0")));
    assert!(skipped(entry("Tackling", "Between", "1.0")));
    assert!(skipped(entry("Tackling", "Offence", "2.0")));
    assert!(skipped(entry("Tackling", "Offence", "1")));
    assert!(skipped(entry("Dive", "Offence", "6.0")));
    assert!(skipped(entry("Dive", "Offense", "1.0")));
    // Skipped before the class is looked up, so no exception.
    assert!(skipped(entry("Kicking", "Offence", "6.0")));
    assert!(skipped(json!({"Action class": "Dive", "Offence": null, "Severity": "1.0"})));
    assert!(skipped(json!({"Action class": "Dive", "Offence": "Offence", "Severity": 1.0})));
    assert!(!skipped(entry("Dive", "", "")));
    assert!(!skipped(entry("Tackling", "No Offence", "2.0")));
    assert!(!skipped(json!({"Action class": "Dive", "Offence": "No offence", "Severity": null})));
}

#[test]
fn where_it_raises() {
    let good = || entry("Tackling", "Offence", "1.0");
    let raises = |truth: &Value, predictions: &Value| -> OfficialError {
        let evaluation = evaluate(truth, predictions);
        let error = evaluation.official.unwrap_err();
        assert!(evaluation.notes[0].contains(&error.to_string()), "{:?}", evaluation.notes);
        error
    };
    let truth = file(&[("a", good())]);
    let no_severity = json!({"Action class": "Tackling", "Offence": "Offence"});
    let (id, missing) =
        ("a".to_owned(), |file, key| OfficialError::MissingKey { file, id: "a".to_owned(), key });
    assert_eq!(
        raises(&truth, &file(&[("a", no_severity.clone())])),
        missing("predictions", "Severity")
    );
    // The severity is read only if the offence agrees.
    let other = json!({"Action class": "Tackling", "Offence": "No offence"});
    assert!(evaluate(&truth, &file(&[("a", other)])).official.is_ok());
    let no_class = json!({"Offence": "Offence", "Severity": "1.0"});
    assert_eq!(raises(&truth, &file(&[("a", no_class)])), missing("predictions", "Action class"));
    // The annotations' keys are read even of an action that is skipped.
    let bare = json!({"Action class": "", "Offence": "Offence"});
    assert_eq!(raises(&file(&[("a", bare)]), &file(&[])), missing("annotations", "Severity"));
    let file_of = |file| OfficialError::NotAnObject { file, id: id.clone() };
    assert_eq!(raises(&truth, &file(&[("a", json!("x"))])), file_of("predictions"));
    assert_eq!(raises(&file(&[("a", json!(null))]), &file(&[])), file_of("annotations"));
    let no_actions = |file| OfficialError::NoActions { file };
    assert_eq!(raises(&json!({}), &file(&[])), no_actions("annotations"));
    assert_eq!(raises(&truth, &json!([1])), no_actions("predictions"));
    assert!(evaluate(&file(&[]), &json!({})).official.is_ok());
    let unknown = OfficialError::UnknownActionClass { id: id.clone(), class: "null".to_owned() };
    let null = json!({"Action class": null, "Offence": "Offence", "Severity": "1.0"});
    assert_eq!(raises(&file(&[("a", null)]), &file(&[])), unknown);

    // The first exception is the one that the evaluator shows; the other scores are computed
    // without it.
    let truth = file(&[("b", entry("Kicking", "Offence", "1.0")), ("a", good()), ("c", good())]);
    let predictions = file(&[("a", good()), ("c", no_severity)]);
    let evaluation = evaluate(&truth, &predictions);
    let class = "\"Kicking\"".to_owned();
    let unknown = OfficialError::UnknownActionClass { id: "b".to_owned(), class };
    assert_eq!(evaluation.official, Err(unknown));
    assert_eq!(evaluation.over_occurring.accuracy_offence_severity, 50.0);
    assert_eq!(evaluation.over_occurring.balanced_accuracy_action, 100.0);
    assert!(evaluation.notes[0].contains("(1 more like it)"));
}

#[test]
fn notes_say_why() {
    let truth =
        file(&[("a", entry("Dive", "Between", "")), ("b", entry("Holding", "Offence", "5.0"))]);
    let notes = evaluate(&truth, &file(&[])).notes;
    assert_eq!(notes.len(), 3, "{notes:#?}");
    assert!(notes[0].contains("is of \"No offence\" or \"Offence + Yellow card\";"), "{notes:#?}");
    assert!(notes[1].contains("\"Pushing\", \"Elbowing\" or \"Challenge\";"), "{notes:#?}");
    assert!(notes[2].starts_with("1 of 2 actions cannot be correct"), "{notes:#?}");
    let nothing = evaluate(&file(&[]), &file(&[]));
    assert_eq!(nothing.notes.len(), 1);
    assert!(nothing.over_occurring.named().iter().all(|(_, value)| value.is_nan()));
}

/// A second, independent implementation of the evaluator's definition: one answer per action by
/// rules 1 to 7, then the scores directly from the list of answers.
mod definition {
    use super::*;

    #[derive(Debug, PartialEq)]
    pub struct Answer {
        pub class: String,
        pub pair: String,
        pub class_right: bool,
        pub pair_right: bool,
    }

    pub fn answers(truth: &Value, predictions: &Value) -> Option<Vec<Answer>> {
        let mut answers = Vec::new();
        for (id, action) in truth["Actions"].as_object().unwrap() {
            let text = |key: &str| action[key].as_str().unwrap_or("\0").to_owned();
            let (a, o, s) = (text("Action class"), text("Offence"), text("Severity"));
            let dive = a == "Dive";
            let no_offence = ["No offence", "No Offence"].contains(&o.as_str());
            let rule_1 = [
                ["", "Dont know"].contains(&a.as_str()),
                ["", "Between"].contains(&o.as_str()) && !dive,
                ["", "2.0", "4.0"].contains(&s.as_str()) && !dive && !no_offence,
            ];
            if rule_1.contains(&true) {
                continue;
            }
            // Rules 2 and 3 as a table of all values that count.
            let pair = match (no_offence, o.as_str(), s.as_str()) {
                (true, ..) => "No offence",
                (_, "Offence" | "" | "Between", "1.0" | "" | "2.0" | "4.0") => "Offence + No card",
                (_, "Offence" | "" | "Between", "3.0") => "Offence + Yellow card",
                (_, "Offence" | "" | "Between", "5.0") => "Offence + Red card",
                _ => continue,
            };
            if !ACTION_CLASSES.contains(&a.as_str()) {
                return None;
            }
            let wanted = match (no_offence, dive) {
                (true, _) => "",
                (_, true) => "1.0",
                _ => s.as_str(),
            };
            let (mut class_right, mut pair_right) = (false, false);
            if let Some(prediction) = predictions["Actions"].get(id) {
                pair_right = *prediction.get("Offence")? == *o;
                pair_right = pair_right && *prediction.get("Severity")? == *wanted;
                class_right = *prediction.get("Action class")? == *a;
            }
            answers.push(Answer { class: a, pair: pair.to_owned(), class_right, pair_right });
        }
        Some(answers)
    }

    fn mean(of: impl Iterator<Item = f64>) -> f64 {
        let all: Vec<f64> = of.collect();
        all.iter().sum::<f64>() / all.len() as f64
    }

    fn task(
        answers: &[Answer],
        names: &[&str],
        class: impl Fn(&Answer) -> (String, bool),
        keep_absent: bool,
    ) -> [f64; 2] {
        let pairs: Vec<_> = answers.iter().map(class).collect();
        let share = |right: &mut dyn Iterator<Item = bool>| {
            mean(right.map(|right| if right { 100.0 } else { 0.0 }))
        };
        let recalls = names
            .iter()
            .map(|name| share(&mut pairs.iter().filter(|(c, _)| c == name).map(|(_, r)| *r)))
            .filter(|recall| keep_absent || !recall.is_nan());
        [share(&mut pairs.iter().map(|(_, right)| *right)), mean(recalls)]
    }

    pub fn scores(answers: &[Answer], keep_absent: bool) -> [f64; 5] {
        let pair = |answer: &Answer| (answer.pair.clone(), answer.pair_right);
        let class = |answer: &Answer| (answer.class.clone(), answer.class_right);
        let [accuracy, balanced] = task(answers, &OFFENCE_SEVERITY_CLASSES, pair, keep_absent);
        let [accuracy_a, balanced_a] = task(answers, &ACTION_CLASSES, class, keep_absent);
        [accuracy, accuracy_a, balanced, balanced_a, (balanced + balanced_a) / 2.0]
    }
}

fn close(ours: f64, theirs: f64) -> bool {
    ours.is_nan() && theirs.is_nan() || (ours - theirs).abs() < 1e-9
}

fn pick(rng: &mut ChaCha8Rng, from: &[Value]) -> Value {
    from[rng.random_range(0..from.len())].clone()
}

#[test]
fn random_files_agree_with_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let strings = |words: &[&str]| words.iter().map(|w| json!(w)).collect::<Vec<_>>();
    let offences = strings(&["Offence", "No offence", "No Offence", "Between", "", "Offense"]);
    let severities = strings(&["1.0", "3.0", "5.0", "", "2.0", "4.0", "6.0", "1"]);
    let odd = [json!(null), json!(1.0), json!(true), json!(["Offence"]), json!("Dont know")];
    let (mut numbers, mut nans, mut errors) = (0, 0, 0);
    for round in 0..3000 {
        // Sometimes only some of the classes, otherwise all; only regular values, or any.
        let few = if rng.random_bool(0.5) { 8 } else { rng.random_range(1..8) };
        let regular = rng.random_bool(0.5);
        let quirk = if rng.random_bool(0.3) { 0.02 } else { 0.0 };
        let mut actions = [Map::new(), Map::new()];
        for id in 0..rng.random_range(0..120) {
            for (side, actions) in actions.iter_mut().enumerate() {
                let mut entry = Map::new();
                for (key, words) in [
                    ("Action class", &strings(&ACTION_CLASSES[..few])),
                    ("Offence", &offences[..if regular { 2 } else { 6 }].to_vec()),
                    ("Severity", &severities[..if regular { 3 } else { 8 }].to_vec()),
                ] {
                    let value = match rng.random_bool(quirk) {
                        true => pick(&mut rng, &odd),
                        false => pick(&mut rng, words),
                    };
                    // The annotations always have all keys; another test covers missing ones.
                    if side == 0 || !rng.random_bool(quirk / 4.0) {
                        entry.insert(key.to_owned(), value);
                    }
                }
                if side == 0 || rng.random_bool(0.9) {
                    actions.insert(id.to_string(), entry.into());
                }
            }
        }
        let [truth, predictions] = actions.map(|actions| json!({"Actions": actions}));
        let Evaluation { official, over_occurring, action, .. } = evaluate(&truth, &predictions);
        let Some(answers) = definition::answers(&truth, &predictions) else {
            assert!(official.is_err(), "round {round}");
            errors += 1;
            continue;
        };
        let official = official.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(action.counted.iter().sum::<u64>() as usize, answers.len());
        for (ours, keep_absent) in [(official, true), (over_occurring, false)] {
            let theirs = definition::scores(&answers, keep_absent);
            for ((name, ours), theirs) in ours.named().into_iter().zip(theirs) {
                assert!(close(ours, theirs), "round {round}, {name}: {ours} against {theirs}");
            }
        }
        if official.leaderboard_value.is_nan() {
            nans += 1;
        } else {
            // Where the official scores are numbers, the others equal them.
            assert_eq!(official, over_occurring);
            numbers += 1;
        }
    }
    assert!(numbers > 200 && nans > 200 && errors > 200, "{numbers} {nans} {errors}");
}

#[test]
fn predictions_in_the_official_format() {
    let schema = Schema::mvfoul().unwrap();
    let labels: [&[usize]; 3] = [&[2, 2], &[0, 6], &[1, 7]];
    let ids = ["0", "2", "10"];
    let written = write_predictions(&schema, "test", ids.into_iter().zip(labels)).unwrap();
    let text = r#"{"Set":"test","Actions":{"0":{"Action class":"High leg","Offence":"Offence","Severity":"3.0"},"2":{"Action class":"Challenge","Offence":"No offence","Severity":""},"10":{"Action class":"Dive","Offence":"Offence","Severity":"1.0"}}}"#;
    assert_eq!(serde_json::to_string(&written).unwrap(), text);

    // The keys of an entry are those of the golden files.
    let golden = reference::load("official_eval.json");
    let predictions = field(&entries(&golden, "cases")[0], "predictions");
    let (_, theirs) = named(predictions, "Actions").iter().next().unwrap();
    let theirs = theirs.as_object().unwrap();
    let ours = written["Actions"]["0"].as_object().unwrap();
    assert!(ours.keys().eq(theirs.keys()));

    let twice = write_predictions(&schema, "test", [("1", labels[0]), ("1", labels[1])]);
    assert_eq!(twice, Err(WriteError::Duplicate { id: "1".to_owned() }));
    let outside = write_predictions(&schema, "test", [("1", &[4, 0][..])]);
    assert_eq!(outside, Err(WriteError::Labels { id: "1".to_owned(), labels: vec![4, 0] }));
    let empty = write_predictions(&schema, "challenge", []).unwrap();
    assert_eq!(empty, json!({"Set": "challenge", "Actions": {}}));
}

#[test]
fn correct_labels_written_and_evaluated_are_perfect() {
    let schema = Schema::mvfoul().unwrap();
    let labels: Vec<(String, Vec<usize>)> =
        (0..32).map(|k| (k.to_string(), vec![k % 4, k / 4])).collect();
    let pairs = || labels.iter().map(|(id, labels)| (id.as_str(), labels.as_slice()));
    let file = write_predictions(&schema, "test", pairs()).unwrap();
    // Read as annotations, the entries are all correct, except for dives with a card.
    let evaluation = evaluate(&file, &file);
    assert_eq!(evaluation.action.correct, [4; 8]);
    assert_eq!(evaluation.offence_severity.correct, [8, 8, 7, 7]);
    assert_eq!(evaluation.official.unwrap().balanced_accuracy_action, 100.0);
    assert!(evaluation.notes[0].starts_with("2 of 32 actions cannot"), "{:?}", evaluation.notes);
}
