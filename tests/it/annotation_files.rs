//! Annotation files as other programs write them, and fields that are misspelled or repeated.

use std::path::PathBuf;

use polyview::data::annotations::Split;
use polyview::data::problem::{Level, ProblemKind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::data::{action, load, write_split};

fn messages(split: &Split) -> Vec<String> {
    split.problems.iter().map(ToString::to_string).collect()
}

/// Writes a training split of these actions.
fn data_set(actions: Value) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write_split(root.path(), "train", &json!({"Actions": actions}).to_string());
    root
}

fn write_bytes(root: &TempDir, bytes: &[u8]) {
    let folder = root.path().join("train");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("annotations.json"), bytes).unwrap();
}

#[test]
fn files_of_other_encodings_are_read_with_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let entry = action("Tackling", "Offence", "1.0", &["é/clip_0"]);
    let text = json!({"Actions": {"0": entry}}).to_string();
    let utf16 = |mark: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    let mark = "\u{feff}";
    let files = [
        (text.clone().into_bytes(), None),
        (format!("{mark}{text}").into_bytes(), Some("byte-order mark (BOM)")),
        (utf16(mark, u16::to_le_bytes), Some("save it as UTF-8")),
        (utf16(mark, u16::to_be_bytes), Some("save it as UTF-8")),
        (utf16("", u16::to_le_bytes), Some("save it as UTF-8")),
        (utf16("", u16::to_be_bytes), Some("save it as UTF-8")),
    ];
    for (bytes, warning) in files {
        write_bytes(&root, &bytes);
        let split = load(&root, "train").unwrap();
        assert_eq!(split.actions[0].views[0].path, PathBuf::from("é/clip_0"));
        assert_eq!(split.problems.len(), usize::from(warning.is_some()));
        for problem in &split.problems {
            assert_eq!((problem.kind, problem.level), (ProblemKind::Encoding, Level::Warning));
            assert!(problem.message.contains(warning.unwrap()), "{problem}");
        }
    }
    let refused: [(&[u8], &str); 4] = [
        (b"{\"Actions\": {\"\xe9\": {}}}", "line 1, column 15: the byte 0xE9 is not UTF-8"),
        (b"\xff\xfe{\0\"\0\x41", "line 1, column 3: is saved as UTF-16 and ends within"),
        (b"\0\0\0\0\0\0", "nothing but zero bytes"),
        (b"\x1f\x8b\x08\0\0", "compressed with gzip"),
    ];
    for (bytes, reason) in refused {
        write_bytes(&root, bytes);
        let message = load(&root, "train").unwrap_err().to_string();
        assert!(message.contains(reason) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn nan_is_an_error_only_where_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let clips = r#""Clips": [{"Url": "a/b", "Replay speed": NaN, "Timestamp": -Infinity}]"#;
    let labels = r#""Offence": "Offence", "Action class": "Tackling""#;
    let text = format!(
        r#"{{"Actions": {{"0": {{{labels}, "Severity": "1.0", {clips}}},
         "1": {{{labels}, "Severity": NaN, {clips}}},
         "2": NaN}}}}"#
    );
    write_split(root.path(), "train", &text);
    let split = load(&root, "train").unwrap();
    let ids: Vec<_> = split.actions.iter().map(|action| action.id.as_str()).collect();
    assert_eq!(ids, ["0"]);
    assert_eq!(split.actions[0].views[0].replay_speed, None);
    let path = split.dir.join("annotations.json").display().to_string();
    let column = text.find("NaN").unwrap() + 1;
    let expected = [
        format!(
            "{path}: line 1, column {column}: NaN is not JSON (also in 5 more places); it was read as \
             Python's json reads it: write null, or \"\" where a string belongs"
        ),
        "action 1: Severity: expected a string, found NaN; write \"\" if it is unknown".to_owned(),
        "action 2: expected an object, found NaN".to_owned(),
    ];
    assert_eq!(messages(&split), expected);
    let levels: Vec<_> = split.problems.iter().map(|problem| problem.level).collect();
    assert_eq!(levels, [Level::Warning, Level::Error, Level::Error]);
}

#[test]
fn repeated_fields_are_refused_where_they_differ() {
    let root = tempfile::tempdir().unwrap();
    let entry = |more: &str| {
        format!(
            r#"{{"Offence": "Offence", "Severity": "1.0", "Action class": "Dive", {more}
               "Clips": [{{"Url": "a/b"}}]}}"#
        )
    };
    let text = format!(
        r#"{{"Actions": {{"same": {}, "label": {}, "property": {}, "clips": {}, "unused": {}}}}}"#,
        entry(r#""Offence": "Offence","#),
        entry(r#""Offence": "No offence","#),
        entry(r#""Contact": "With contact", "Contact": "Without contact","#),
        entry(r#""Clips": [],"#),
        entry(r#""UrlLocal": "a", "UrlLocal": "b","#),
    );
    write_split(root.path(), "train", &text);
    let split = load(&root, "train").unwrap();
    let ids: Vec<_> = split.actions.iter().map(|action| action.id.as_str()).collect();
    assert_eq!(ids, ["same", "property", "unused"]);
    assert_eq!(split.actions[1].fields.get("Contact"), None);
    let expected = [
        "action same: Offence occurs twice with the same value",
        "action label: Offence occurs twice, as \"Offence\" and as \"No offence\"",
        "action property: Contact occurs twice, as \"With contact\" and as \"Without contact\"",
        "action clips: Clips occurs twice with different values",
    ];
    assert_eq!(messages(&split), expected);
    assert!(split.problems.iter().all(|p| p.kind == ProblemKind::DuplicateField));
    let levels: Vec<_> = split.problems.iter().map(|problem| problem.level).collect();
    assert_eq!(levels, [Level::Warning, Level::Error, Level::Error, Level::Error]);
}

fn field_problems(split: &Split) -> Vec<&str> {
    let kinds = [ProblemKind::UnknownField, ProblemKind::MissingField];
    let problems = split.problems.iter().filter(|problem| kinds.contains(&problem.kind));
    problems.map(|problem| problem.message.as_str()).collect()
}

#[test]
fn misspelled_fields_are_named_once_with_what_was_meant() {
    let clips = json!([{"Url": "a/b"}]);
    let entry =
        json!({"Offense": "Offence", "Severity": "1.0", "Action Class": "Dive", "Clips": clips});
    let mut other = entry.clone();
    other["Referee"] = json!("x");
    let clipless = json!({"Offence": "Offence", "Severity": "1.0", "Action class": "Dive",
                          "clips": clips, "Multiple Fouls": "yes", "Multiple fouls": "yes"});
    let root = data_set(json!({"0": entry, "1": other, "2": clipless}));
    let split = load(&root, "train").unwrap();
    let expected = [
        "\"Offense\" in 2 actions: no such field; did you mean \"Offence\"?",
        "\"Action Class\" in 2 actions: no such field; did you mean \"Action class\"?",
        "\"Referee\" in 1 action: the schema does not name it",
        "\"clips\" in 1 action: no such field; did you mean \"Clips\"?",
        "\"Multiple Fouls\" in 1 action: the schema does not name it",
    ];
    assert_eq!(field_problems(&split), expected);

    // No action has a field that determines labels.
    let root =
        data_set(json!({"0": {"Offence": "Offence", "Action class": "Dive", "Clips": clips}}));
    let split = load(&root, "train").unwrap();
    let missing = "no action has the field \"Severity\", which determines Offence and severity";
    assert_eq!(field_problems(&split), [missing]);

    // Keys of a clip.
    let clips = json!([{"url": "a/b"}]);
    let root = data_set(json!({"0": {"Offence": "Offence", "Severity": "", "Action class": "Dive",
                                     "Clips": clips}}));
    let expected = "action 0: Clips, entry 0: expected a string Url, found none; is \
                    \"url\" a misspelling?";
    assert_eq!(messages(&load(&root, "train").unwrap()), [expected]);
}
