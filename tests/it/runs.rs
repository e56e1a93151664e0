//! Comparison of runs: which ones are found, how they differ, and how certain that is.

use std::path::{Path, PathBuf};

use polyview::evaluate::{ActionPrediction, PredictionTable, predictions_csv};
use polyview::runs::{RunTable, RunsError, find, names};
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::runs::{matrix, predictions, read, write};

/// Writes runs with these options, schemas and epochs into separate folders, and compares them.
fn table(runs: &[(&str, &Schema, Vec<Vec<ActionPrediction>>)]) -> RunTable {
    let folder = TempDir::new().unwrap();
    let path = |place: usize| folder.path().join(format!("run-{place}"));
    for (place, (options, schema, epochs)) in runs.iter().enumerate() {
        write(&path(place), options, schema, epochs);
    }
    let paths: Vec<PathBuf> = (0..runs.len()).map(path).collect();
    RunTable::new(&read(&paths)).unwrap()
}

#[test]
fn differences_are_over_the_common_actions() {
    let schema = Schema::mvfoul().unwrap();
    // The reference is wrong about half of the severities; the other about an eighth, all of the
    // first class. In the other task both are wrong about the same actions.
    let class = |action: usize, task: usize| task == 1 && action.is_multiple_of(5);
    let before = predictions(&schema, 160, |a, task| class(a, task) || task == 0 && a / 4 % 2 == 0);
    let after = predictions(&schema, 160, |a, task| class(a, task) || task == 0 && a % 8 == 0);
    let poor = predictions(&schema, 160, |_, _| true);
    let table = table(&[
        ("", &schema, vec![poor.clone(), before.clone()]),
        ("--seed 7", &schema, vec![after.clone(), poor]),
    ]);
    assert!(table.notes.is_empty(), "{:?}", table.notes);
    let epochs = [0, 1].map(|run| (table.runs[run].epochs, table.runs[run].best_epoch));
    assert_eq!(epochs, [(2, Some(2)), (2, Some(1))]);
    assert_eq!((table.runs[0].valid_loss, table.runs[1].valid_loss), (Some(1.5), Some(3.0)));
    for run in &table.runs {
        let (score, interval) = (run.score.unwrap(), run.score_interval.unwrap());
        assert!(interval.low < score && score < interval.high, "{run:?}");
        let inside = |low: f64, value: f64, high: f64| low < value && value < high;
        assert!(run.tasks.iter().all(|task| {
            let interval = task.interval.unwrap();
            inside(interval.low, task.balanced_accuracy, interval.high)
        }));
    }
    let [pair] = &table.differences[..] else { panic!("{:?}", table.differences) };
    assert_eq!((pair.run, pair.actions), (1, 160));
    let [severity, kind] = &pair.tasks[..] else { panic!("{pair:?}") };
    let [ours, theirs] = [&before, &after].map(|all| matrix(&schema, 0, all));
    let gain = theirs.balanced_accuracy() - ours.balanced_accuracy();
    assert!((severity.balanced_accuracy.value - gain).abs() < 1e-12);
    assert!((pair.score.value - gain / 2.0).abs() < 1e-12);
    assert!(severity.balanced_accuracy.excludes_zero && pair.score.excludes_zero);
    // Both are wrong about the same actions, so they are certainly equally good.
    let same = kind.balanced_accuracy;
    assert_eq!([same.value, same.interval.low, same.interval.high], [0.0; 3]);
    assert!(!same.excludes_zero);
    for (class, (before, after)) in
        severity.classes.iter().zip(ours.per_class().iter().zip(theirs.per_class()))
    {
        assert_eq!((class.reference, class.recall), (Some(before.recall), Some(after.recall)));
        assert_eq!(class.actions, before.support);
        let difference = class.difference.unwrap();
        assert!((difference.value - (after.recall - before.recall)).abs() < 1e-12);
    }
    let marks: Vec<bool> =
        severity.classes.iter().map(|class| class.difference.unwrap().excludes_zero).collect();
    // Both are wrong about half of the first class.
    assert_eq!(marks, [false, true, true, true]);
}

#[test]
fn few_labelled_actions_mark_no_difference() {
    let schema = Schema::mvfoul().unwrap();
    // Few actions have a label in the second task, and the second run is wrong about all of them.
    let of = |labelled: usize, wrong: bool| {
        let mut all = predictions(&schema, 100, |_, task| task == 1 && wrong);
        for prediction in all.iter_mut().skip(labelled) {
            prediction.labels[1] = None;
        }
        all
    };
    for (labelled, marked) in [(3, false), (8, true)] {
        let table = table(&[
            ("", &schema, vec![of(labelled, false)]),
            ("--seed 7", &schema, vec![of(labelled, true)]),
        ]);
        let [pair] = &table.differences[..] else { panic!("{:?}", table.differences) };
        let [_, kind] = &pair.tasks[..] else { panic!("{pair:?}") };
        let found = [kind.balanced_accuracy, pair.score].map(|difference| difference.excludes_zero);
        assert_eq!((pair.actions, found), (100, [marked; 2]), "{labelled}");
    }
}

#[test]
fn what_two_runs_have_in_common_is_compared() {
    let schema = Schema::mvfoul().unwrap();
    let good = predictions(&schema, 40, |action, _| action % 3 == 0);
    let poor = predictions(&schema, 40, |action, _| action % 2 == 0);
    let against = |schema_of_other: &Schema, other: Vec<ActionPrediction>| {
        table(&[("", &schema, vec![poor.clone()]), ("", schema_of_other, vec![other])])
    };
    let whole = against(&schema, good.clone());

    // The order of actions and of classes does not matter.
    let mut reversed = schema.clone();
    reversed.tasks.iter_mut().for_each(|task| task.classes.reverse());
    let mut other = good.clone();
    for prediction in &mut other {
        for task in 0..2 {
            let last = schema.tasks[task].classes.len() - 1;
            prediction.labels[task] = prediction.labels[task].map(|label| last - label);
            prediction.probabilities[task].reverse();
        }
    }
    other.reverse();
    let again = against(&reversed, other);
    assert_eq!(again.differences, whole.differences);
    assert!(again.notes.is_empty(), "{:?}", again.notes);

    // Fewer actions.
    let fewer = against(&schema, good[4..28].to_vec());
    assert_eq!(fewer.differences[0].actions, 24);
    assert_eq!(fewer.notes, ["run-0 and run-1 have 24 actions in common, of 40 and 24"]);

    // Another label in one task: the action counts in the other one.
    let mut relabelled = good.clone();
    relabelled[3].labels[0] = Some(0);
    relabelled[5].labels = vec![None, Some(1)];
    let relabelled = against(&schema, relabelled);
    assert_eq!(relabelled.differences[0].actions, 39);
    let counts = |task: usize| -> u64 {
        relabelled.differences[0].tasks[task].classes.iter().map(|class| class.actions).sum()
    };
    // The fifth action has another label in the second task, too, and none in the first.
    assert_eq!((counts(0), counts(1)), (38, 39));
    let notes = [
        "run-0 and run-1 differ in the labels of 2 actions, which are left out here",
        "run-0 and run-1 have 39 actions in common, of 40 and 40",
    ];
    assert_eq!(relabelled.notes, notes);

    // A class that only one of them has.
    let mut renamed = schema.clone();
    renamed.tasks[1].classes[7].name = "Diving".to_owned();
    let renamed = against(&renamed, good.clone());
    assert_eq!(renamed.notes[0], "run-0 and run-1 have different classes in action_class");
    let classes = &renamed.differences[0].tasks[1].classes;
    let last: Vec<_> =
        classes.iter().map(|class| (class.class.as_str(), class.actions)).skip(7).collect();
    assert_eq!(last, [("Dive", 0), ("Diving", 0)]);
    assert!(classes[7].difference.is_none() && classes[7].recall.is_none());

    // Other tasks.
    let mut one = schema.clone();
    one.tasks.truncate(1);
    let severity = |action: &ActionPrediction| ActionPrediction {
        labels: action.labels[..1].to_vec(),
        probabilities: action.probabilities[..1].to_vec(),
        ..action.clone()
    };
    let some = against(&one, good.iter().map(severity).collect());
    assert_eq!(some.tasks(), ["offence_severity", "action_class"]);
    assert_eq!(some.differences[0].tasks[..], whole.differences[0].tasks[..1]);
    let note = "run-0 and run-1: the difference in score is over offence_severity only; run-0 also has \
                action_class";
    assert_eq!(some.notes, [note]);
    let mut named = schema.clone();
    named.tasks.iter_mut().for_each(|task| task.name.push('2'));
    let none = against(&named, good.clone());
    assert!(none.differences.is_empty());
    assert_eq!(
        none.notes,
        ["run-0 and run-1 have no task in common (offence_severity, action_class; \
          offence_severity2, action_class2)"]
    );
}

#[test]
fn options_that_change_the_outcome_are_listed() {
    let schema = Schema::mvfoul().unwrap();
    let epochs = vec![predictions(&schema, 8, |_, _| false)];
    let table = table(&[
        ("--save-dir a --device cpu --num-workers 3", &schema, epochs.clone()),
        ("--save-dir b --device wgpu --seed 7 --max-views 2", &schema, epochs.clone()),
        ("--save-dir c --main-task-weights 1 2 --dataset-root other", &schema, epochs),
    ]);
    let options: Vec<(&str, Vec<Option<&str>>)> = table
        .options
        .iter()
        .map(|found| (found.option.as_str(), found.values.iter().map(Option::as_deref).collect()))
        .collect();
    let some = |values: [&'static str; 3]| values.map(Some).to_vec();
    assert_eq!(
        options,
        [
            ("dataset-root", some(["data", "data", "other"])),
            ("main-task-weights", vec![None, None, Some("1.0 2.0")]),
            ("max-views", vec![None, Some("2"), None]),
            ("seed", some(["42", "7", "42"])),
        ]
    );
}

#[test]
fn a_data_set_is_the_same_by_a_relative_and_an_absolute_path() {
    let schema = Schema::mvfoul().unwrap();
    let epochs = vec![predictions(&schema, 8, |_, _| false)];
    // Tests run in the crate's folder.
    let absolute = format!("--dataset-root {}/", env!("CARGO_MANIFEST_DIR"));
    let table = table(&[
        ("--dataset-root .", &schema, epochs.clone()),
        (&absolute, &schema, epochs.clone()),
        ("--dataset-root ./", &schema, epochs),
    ]);
    assert_eq!(table.options, []);
}

#[test]
fn folders_stand_for_their_runs() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for run in ["sweep/lr-10", "sweep/lr-9", "other/lr-9", "alone"] {
        std::fs::create_dir_all(root.join(run)).unwrap();
        std::fs::write(root.join(run).join("config.toml"), "").unwrap();
    }
    // Folders that are not runs, and one within a run's folder.
    for no_run in ["sweep/frames", "empty/deeper/run", "alone/previous-001"] {
        std::fs::create_dir_all(root.join(no_run)).unwrap();
        std::fs::write(root.join(no_run).join("x"), "").unwrap();
    }
    std::fs::write(root.join("sweep/notes.txt"), "").unwrap();
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["sweep"], &["sweep/lr-9", "sweep/lr-10"], &["lr-9", "lr-10"]),
        (
            &["other/lr-9", "sweep"],
            &["other/lr-9", "sweep/lr-9", "sweep/lr-10"],
            &["other/lr-9", "sweep/lr-9", "lr-10"],
        ),
        (&["alone", "sweep/../alone", "other"], &["alone", "other/lr-9"], &["alone", "lr-9"]),
    ];
    let paths =
        |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| root.join(name)).collect() };
    for (given, expected, called) in cases {
        let folders = find(&paths(given)).unwrap();
        let found: Vec<PathBuf> = folders.into_iter().map(|folder| folder.path).collect();
        assert_eq!(found, paths(expected), "{given:?}");
        let called: Vec<PathBuf> = called.iter().map(PathBuf::from).collect();
        let names: Vec<PathBuf> = names(&found).into_iter().map(PathBuf::from).collect();
        assert_eq!(names, called, "{given:?}");
    }
    assert!(matches!(find(&paths(&["alone", "alone"])), Err(RunsError::TooFew { found: 1 })));
    for none in ["empty", "sweep/frames"] {
        let found = find(&paths(&["alone", none]));
        assert!(matches!(found, Err(RunsError::NoRun { path }) if path == root.join(none)));
    }
    for gone in ["gone", "sweep/notes.txt"] {
        let found = find(&paths(&["alone", gone]));
        assert!(matches!(found, Err(RunsError::Read { .. })), "{gone}");
    }
    // A path that is the end of another one.
    let nested = [Path::new("a").join("b"), PathBuf::from("b")];
    assert_eq!(names(&nested)[1], "b");
}

#[test]
fn a_table_of_predictions_is_read_as_written() {
    let mut schema = Schema::mvfoul().unwrap();
    schema.tasks[0].classes[1].name = "a=\"b\", c".to_owned();
    let mut written = predictions(&schema, 12, |action, _| action % 2 == 0);
    written[1].labels[1] = None;
    let text = predictions_csv(&schema, &written).unwrap();
    let table = PredictionTable::parse(text.as_bytes()).unwrap();
    let tasks: Vec<_> =
        schema.tasks.iter().map(|task| (task.name.clone(), task.class_names())).collect();
    assert_eq!(table.tasks, tasks);
    for ((action, answers), prediction) in table.actions.iter().zip(&written) {
        assert_eq!(*action, prediction.action);
        let expected: Vec<_> =
            (0..2).map(|task| (prediction.labels[task], prediction.predicted(task))).collect();
        assert_eq!(*answers, expected);
    }
    assert_eq!(table.actions.len(), 12);
}

#[test]
fn runs_that_differ_in_seed_or_fold_are_merged() {
    let schema = Schema::mvfoul().unwrap();
    let folder = TempDir::new().unwrap();
    // Wrong about every n-th action: scores 1/2, 3/4, 7/8.
    let run = |name: &str, options: &str, rare: Option<usize>| {
        let right = |rare: usize| predictions(&schema, 160, |action, _| action / 4 % rare == 0);
        let epochs: Vec<_> = rare.into_iter().map(right).collect();
        write(&folder.path().join(name), options, &schema, &epochs);
        folder.path().join(name)
    };
    let table = |runs: &[PathBuf]| RunTable::new(&read(runs)).unwrap();
    let plain =
        [run("plain_seed=1", "--seed 1", Some(2)), run("plain_seed=2", "--seed 2", Some(4))];
    let mixed = [
        run("mixup_seed=2", "--seed 2 --mixup 0.2", Some(8)),
        run("mixup_seed=3", "--seed 3 --mixup 0.2", Some(2)),
    ];
    let fold = run("plain_fold", "--fold 2/5 --seed 2", None);
    let alone = run("alone", "--seed 1 --ema 0.9", Some(4));
    let [first, second] = plain;
    let [third, fourth] = mixed;
    let found = table(&[first.clone(), third.clone(), alone.clone(), second, fourth, fold]);
    let [plain, mixup, ema] = &found.repeats[..] else { panic!("{:?}", found.repeats) };
    let names = [plain, mixup, ema].map(|found| (found.name.as_str(), found.runs.clone()));
    assert_eq!(names, [("plain", vec![0, 3, 5]), ("mixup", vec![1, 4]), ("alone", vec![2])]);
    // A run in its first epoch has no score. The standard error of 1/2 and 3/4 is 1/8.
    let score = plain.score.unwrap();
    assert!((score.mean - 0.625).abs() < 1e-12 && score.n == 2, "{score:?}");
    assert!((score.error.unwrap() - 0.125).abs() < 1e-12, "{score:?}");
    assert_eq!(plain.tasks["action_class"].n, 2);
    assert_eq!(plain.difference, None);
    // Only the seed that both have counts, and a single pair has no standard error.
    let difference = mixup.difference.unwrap();
    assert!((difference.mean - 0.125).abs() < 1e-12, "{difference:?}");
    assert_eq!((difference.n, difference.error), (1, None));
    assert_eq!((ema.score.unwrap().n, ema.difference.unwrap().n), (1, 1));

    assert!(table(&[first.clone(), third, alone]).repeats.is_empty(), "none is repeated");
    // A copy of a run adds nothing, unless the first has no score yet.
    let copy = run("copy", "--seed 1", Some(2));
    assert!(table(&[first.clone(), copy.clone()]).repeats.is_empty(), "a copy is no repetition");
    let begun = run("begun", "--seed 1", None);
    let other = run("other", "--seed 9", Some(2));
    let found = table(&[begun, copy, other.clone()]);
    assert_eq!(found.repeats[0].runs, [1, 2]);
    // Names that have nothing in common.
    assert_eq!(table(&[first, other]).repeats[0].name, "plain_seed=1 and 1 more");
}

#[test]
fn pairs_are_over_the_tasks_and_data_of_both() {
    let schema = Schema::mvfoul().unwrap();
    let mut kind = schema.clone();
    kind.tasks.remove(0);
    // The reference is right about all severities, but only about half of the kinds of action.
    let both = predictions(&schema, 160, |action, task| task == 1 && action / 8 % 2 == 0);
    let alone = predictions(&kind, 160, |action, _| action / 8 % 4 == 0);
    let mut elsewhere = predictions(&schema, 160, |_, _| false);
    elsewhere.iter_mut().for_each(|prediction| prediction.action.push('b'));
    let table = table(&[
        ("--seed 1", &schema, vec![both.clone()]),
        ("--seed 2", &schema, vec![both.clone()]),
        ("--seed 1 --tasks action_class", &kind, vec![alone.clone()]),
        ("--seed 2 --tasks action_class", &kind, vec![alone.clone()]),
        ("--seed 1 --dataset-root other", &schema, vec![elsewhere]),
    ]);
    let [reference, one_task, other_data] = &table.repeats[..] else {
        panic!("{:?}", table.repeats)
    };
    let balanced = [matrix(&schema, 1, &both), matrix(&kind, 0, &alone)]
        .map(|matrix| matrix.balanced_accuracy());
    let difference = one_task.difference.unwrap();
    assert!((difference.mean - (balanced[1] - balanced[0])).abs() < 1e-12, "{difference:?}");
    assert_eq!(difference.n, 2);
    // The scores, which are over different tasks, do not show it.
    let scores = [reference, one_task].map(|group| group.score.unwrap().mean);
    assert!(difference.mean > 0.2 && (scores[0] - scores[1]).abs() < 1e-12, "{scores:?}");
    assert_eq!(other_data.difference, None);
}
