use std::path::PathBuf;

use polyview::data::annotations::{Action, Split, load_split};
use polyview::data::error::DataError;
use polyview::data::problem::{Level, ProblemKind};
use polyview::schema::Schema;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::clips::sample_folder;
use crate::common::data::{action, load, write_split};

fn data_set(actions: Value) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let count = actions.as_object().unwrap().len();
    let file = json!({"Set": "train", "Number of actions": count, "Actions": actions});
    write_split(root.path(), "mvfouls/train", &file.to_string());
    root
}

/// Returns an action's labels, all of which must be known.
fn known(action: &Action) -> Vec<usize> {
    action.labels.iter().flatten().map(|label| label.unwrap()).collect()
}

fn messages(split: &Split) -> Vec<String> {
    split.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn actions_keep_their_order_and_facts() {
    let root = data_set(json!({
        "10": action("High leg", "Offence", "5.0", &["Dataset/Train/action_10/clip_0", "Dataset/action_10/clip_3"]),
        "2": action("Tackling", "Between", "5.0", &["Dataset/action_2/clip_0"]),
        "3": action("Dive", "Between", "", &["action_3/clip_0.mp4"]),
        "1": action("Tackling", "No offence", "", &["train/action_1/clip_0"]),
    }));
    let split = load(&root, "train").unwrap();
    assert_eq!((split.name.as_str(), split.labelled), ("train", true));
    assert_eq!(split.dir, root.path().join("mvfouls/train"));
    assert!(split.problems.is_empty(), "{:?}", split.problems);

    let ids: Vec<_> = split.actions.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(ids, ["10", "3", "1"]);
    let labels: Vec<_> = split.actions.iter().map(known).collect();
    assert_eq!(labels, [[3, 2], [1, 7], [0, 0]]);
    assert_eq!(split.class_counts(0, 4), [1, 1, 0, 1]);
    assert_eq!(split.left_out.len(), 1);
    assert_eq!(
        (split.left_out[0].id.as_str(), split.left_out[0].reason.as_str()),
        ("2", "offence undecided")
    );

    let first = &split.actions[0];
    assert_eq!(first.fields.get("Multiple fouls").map(String::as_str), Some("yes"));
    assert!(!first.fields.contains_key("UrlLocal"));
    let view = &first.views[1];
    assert_eq!(view.path, PathBuf::from("action_10/clip_3"));
    assert_eq!(view.camera.as_deref(), Some("Main"));
    assert_eq!((view.replay_speed, view.timestamp), (Some(1.8), Some(471255)));
    assert_eq!(split.clip(view), root.path().join("mvfouls/train/action_10/clip_3"));
    assert_eq!(split.actions[1].views[0].path, PathBuf::from("action_3/clip_0.mp4"));
}

#[test]
fn refused_urls_affect_only_their_view() {
    let root = data_set(json!({
        "0": action("Tackling", "Offence", "1.0", &["../secret", "Dataset/action_0/clip_1", "/etc/clip"]),
        "1": action("Tackling", "Offence", "1.0", &["..\\secret"]),
    }));
    let split = load(&root, "train").unwrap();
    assert_eq!(split.actions.len(), 1);
    assert_eq!(split.actions[0].views.len(), 1);
    assert_eq!(split.left_out[0].reason, "no usable clip");
    let found: Vec<_> = split
        .problems
        .iter()
        .map(|p| (p.kind, p.action.as_deref().unwrap(), p.file.as_deref().unwrap()))
        .collect();
    let refused = ProblemKind::RefusedPath;
    let expected =
        [(refused, "0", "../secret"), (refused, "0", "/etc/clip"), (refused, "1", "..\\secret")];
    assert_eq!(found, expected);
    assert!(messages(&split)[0].starts_with("action 0: ../secret: "));
}

#[test]
fn wrong_types_affect_only_their_action() {
    let good = action("Tackling", "Offence", "1.0", &["action_9/clip_0"]);
    let with = |key: &str, value: Value| {
        let mut action = good.clone();
        action[key] = value;
        action
    };
    let cases = [
        (
            with("Severity", json!(1.0)),
            false,
            "Severity: expected a string, found 1.0 without quotes",
        ),
        (
            with("Severity", json!(null)),
            false,
            "Severity: expected a string, found null; write \"\"",
        ),
        (with("Offence", json!(["Offence"])), false, "Offence: expected a string, found a list"),
        (
            with("Action class", json!({})),
            false,
            "Action class: expected a string, found an object",
        ),
        (json!("text"), false, "expected an object, found \"text\""),
        (json!(null), false, "expected an object, found null"),
        (with("Clips", json!({})), false, "Clips: expected a list, found an object"),
        (with("Clips", json!([1])), false, "Clips, entry 0: expected a string Url, found none"),
        (
            with("Clips", json!([{"Url": 3}])),
            false,
            "Clips, entry 0: expected a string Url, found 3",
        ),
        // A property merely becomes unknown.
        (with("Contact", json!(true)), true, "Contact: expected a string, found true"),
        (with("Contact", json!("Some")), true, "Contact \"Some\" is not listed"),
        (
            with("Clips", json!([{"Url": "a/b", "Replay speed": "x"}])),
            true,
            "Replay speed: expected a number",
        ),
    ];
    for (entry, kept, expected) in cases {
        let root = data_set(json!({"bad": entry, "good": good}));
        let split = load(&root, "train").unwrap();
        let usable = split.actions.iter().any(|action| action.id == "bad");
        assert_eq!(usable, kept, "{expected}");
        assert_eq!(split.actions.len() + split.left_out.len(), 2);
        assert!(split.actions.iter().any(|action| action.id == "good"));
        assert_eq!(split.problems.len(), 1, "{:?}", split.problems);
        let message = split.problems[0].to_string();
        assert!(message.starts_with("action bad: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn unknown_values_are_left_out_and_listed() {
    let root = data_set(json!({
        "0": action("Kicking", "Offense", "1.0", &["a/b"]),
        "1": action("Tackling", "Offence", "1.0", &[]),
        "2": {"Action class": "Tackling", "Offence": "Offence", "Severity": "1.0"},
    }));
    let split = load(&root, "train").unwrap();
    let reasons: Vec<_> = split.left_out.iter().map(|l| l.reason.as_str()).collect();
    assert_eq!(reasons, ["unknown value", "no usable clip", "no usable clip"]);
    let expected = [
        "action 0: Offence \"Offense\" matches no class of offence_severity",
        "action 0: Action class \"Kicking\" matches no class of action_class",
    ];
    assert_eq!(messages(&split), expected);
    assert!(split.problems.iter().all(|p| p.kind == ProblemKind::UnknownValue));
}

#[test]
fn duplicates_and_contradictions() {
    let root = tempfile::tempdir().unwrap();
    let one = action("Tackling", "Offence", "1.0", &["action_0/clip_0", "Dataset/action_0/clip_0"]);
    let two = action("Holding", "Offence", "1.0", &["Dataset/Test/action_0/clip_0"]);
    let text = format!(
        r#"{{"Set": "Valid", "Number of actions": 7, "Actions": {{"0": {one}, "0": {two}, "1": {two}}}}}"#
    );
    write_split(root.path(), "Train", &text);
    let split = load(&root, "train").unwrap();
    // On a case-insensitive file system the folder is found under another spelling.
    assert_eq!(split.dir.parent(), Some(root.path()));
    assert!(split.dir.file_name().unwrap().eq_ignore_ascii_case("Train"), "{:?}", split.dir);
    assert_eq!(split.actions.len(), 2);
    assert_eq!(known(&split.actions[0]), [1, 0]);
    assert_eq!(split.actions[0].views.len(), 1);
    assert_eq!(split.left_out[0].reason, "duplicate id");
    let kinds: Vec<_> = split.problems.iter().map(|p| (p.kind, p.level)).collect();
    let expected = [
        (ProblemKind::OtherSplit, Level::Warning),
        (ProblemKind::CountMismatch, Level::Warning),
        (ProblemKind::DuplicateClip, Level::Warning),
        (ProblemKind::DuplicateAction, Level::Error),
        (ProblemKind::OtherSplit, Level::Warning),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_unlabelled_split_keeps_every_action_with_clips() {
    let root = tempfile::tempdir().unwrap();
    let text = json!({"Set": "chall", "Actions": {
        "0": {"Clips": [{"Url": "Dataset/Chall/action_0/clip_0"}]},
        "1": {"Offence": null, "Clips": [{"Url": "Dataset/Chall/action_1/clip_0"}]},
        "2": {"Clips": []},
    }});
    write_split(root.path(), "mvfouls/Chall", &text.to_string());
    for spelling in ["challenge", "Chall", "chall"] {
        let split = load(&root, spelling).unwrap();
        assert_eq!(split.name, "challenge");
        assert_eq!(split.actions.len(), 2);
        assert!(split.actions.iter().all(|action| action.labels.is_none()));
        assert!(split.problems.is_empty(), "{:?}", split.problems);
    }
}

#[test]
fn broken_files_name_line_and_column() {
    let root = tempfile::tempdir().unwrap();
    let cases = [
        ("{\n \"Actions\": {\"0\": }}", 2, 20, "expected value"),
        ("{\"Actions\": []}", 1, 12, "an object of actions by id"),
        ("{\"Set\": \"train\"}", 1, 16, "the file has no \"Actions\"; it has \"Set\""),
        ("", 1, 0, "the file is empty"),
        ("[]", 1, 2, "an object with \"Actions\""),
    ];
    for (text, line, column, reason) in cases {
        write_split(root.path(), "train", text);
        let error = load(&root, "train").unwrap_err();
        let message = error.to_string();
        let DataError::Json { line: l, column: c, reason: r, .. } = error else {
            panic!("{message}")
        };
        assert_eq!(l, line, "{text}: {message}");
        assert!(c.abs_diff(column) <= 1, "{text}: {message}");
        assert!(r.contains(reason), "{text}: {message}");
        assert!(message.contains("annotations.json, line ") && !message.contains('\n'));
    }
    write_split(root.path(), "train", "\u{feff}{\"Actions\": {}}");
    assert_eq!(load(&root, "train").unwrap().actions, []);
}

/// Inputs that fuzzing found: the whole file is refused, or only the action.
#[test]
fn hostile_texts() {
    let root = tempfile::tempdir().unwrap();
    let deep = format!("{{\"Actions\": {{\"0\": {}", "[".repeat(100_000));
    let refused: [&[u8]; 8] = [
        deep.as_bytes(),
        b"{\"Actions\": {\"0\": 1e999}}",
        b"{\"Actions\": {\"\xff\": {}}}",
        b"{\"Actions\": {\"\\ud800\": {}}}",
        b"{\"Actions\": {}, \"Actions\": {}}",
        b"{\"Actions\": {}} {}",
        b"\xef\xbb\xbf\xef\xbb\xbf{\"Actions\": {}}",
        b"\0",
    ];
    let folder = root.path().join("train");
    std::fs::create_dir_all(&folder).unwrap();
    for text in refused {
        std::fs::write(folder.join("annotations.json"), text).unwrap();
        let error = load(&root, "train").unwrap_err();
        assert!(matches!(error, DataError::Json { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    // Numbers beyond any type, names that are not paths and values that are not strings.
    let entry = r#"{"Action class": "Dive", "Offence": "Between", "Severity": "", "Clips": [
        {"Url": "."}, {"Url": "\u0000"}, {"Url": "a/./\u202e//b", "Timestamp": 1e300},
        {"Url": "a/\u202e/b", "Replay speed": -0.0}, {"Url": "Dataset/Train"}, {"Url": "c:"}]}"#;
    let text = format!(
        r#"{{"Set": [], "Number of actions": -1, "Actions": {{"": {entry}, "\n": -1e-999}}}}"#
    );
    write_split(root.path(), "train", &text);
    let split = load(&root, "train").unwrap();
    assert_eq!((split.actions.len(), split.left_out.len()), (1, 1));
    assert_eq!(split.actions[0].views.len(), 1);
    let kinds: Vec<_> = split.problems.iter().map(|p| p.kind).collect();
    let (path, wrong) = (ProblemKind::RefusedPath, ProblemKind::WrongType);
    assert_eq!(kinds, [path, path, wrong, ProblemKind::DuplicateClip, path, path, wrong]);
}

#[test]
fn the_sample_is_read() {
    let Some(root) = sample_folder() else { return };
    let schema = Schema::mvfoul().unwrap();
    let train = load_split(&root, "train", &schema).unwrap();
    let labels: Vec<_> = train.actions.iter().map(known).collect();
    assert_eq!(labels, [[2, 1], [2, 0], [2, 3]]);
    let valid = load_split(&root, "Valid", &schema).unwrap();
    assert_eq!(known(&valid.actions[0]), [3, 2]);
    for split in [train, valid] {
        assert!(split.problems.is_empty() && split.left_out.is_empty());
        for view in split.actions.iter().flat_map(|action| &action.views) {
            assert!(split.clip(view).with_extension("mp4").is_file());
        }
    }
}
