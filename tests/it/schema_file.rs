use polyview::data::annotations::load_split;
use polyview::schema::{Labelled, Schema, SchemaError};

use crate::common::data::{fields, unknown, write_split};

/// Small schema from another domain, as a base for broken ones.
const BIRDS: &str = r#"
name = "birds"
title = "Birds"
[[split]]
name = "train"
[[task]]
name = "species"
title = "Species"
field = "Species"
class = [{ name = "Tit" }, { name = "Robin" }]
[[property]]
name = "sex"
title = "Sex"
field = "Sex"
values = [["female", "f"], ["male", "m"]]
embedding = 4
input = true
"#;

#[test]
fn a_label_may_be_unknown() {
    let text = |unknown: &str| {
        format!(
            r#"
            name = "gestures"
            title = "Gestures"
            split = [{{ name = "train" }}]
            [[task]]
            name = "hand"
            title = "Hand"
            field = "Hand"
            unknown = {unknown}
            class = [{{ name = "left" }}, {{ name = "right" }}]
            [[task]]
            name = "gesture"
            title = "Gesture"
            field = "Gesture"
            unknown = [""]
            class = [{{ name = "wave" }}, {{ name = "point" }}]
            "#
        )
    };
    let schema = Schema::parse(&text(r#"["", "?"]"#), "gestures.toml").unwrap();
    let label = |hand, gesture| schema.label(&fields(&[("Hand", hand), ("Gesture", gesture)]));
    assert_eq!(label("right", "wave"), Labelled::Labels(vec![Some(1), Some(0)]));
    assert_eq!(label("?", "point"), Labelled::Labels(vec![None, Some(1)]));
    assert_eq!(label("right", ""), Labelled::Labels(vec![Some(1), None]));
    assert_eq!(label("?", ""), Labelled::LeftOut { reason: "no label".to_owned() });
    assert_eq!(label("both", "wave"), unknown("hand", "Hand", "both"));
    let error = Schema::parse(&text(r#"["left"]"#), "gestures.toml").unwrap_err().to_string();
    let reason = r#"`unknown` lists "left", which is the class "left""#;
    assert_eq!(error, format!("gestures.toml, task \"hand\": {reason}"));
}

#[test]
fn other_data_sets_are_possible() {
    let schema = Schema::parse(BIRDS, "birds.toml").unwrap();
    let label = |species: &str| schema.label(&fields(&[("Species", species)]));
    assert_eq!(label("Robin"), Labelled::Labels(vec![Some(1)]));
    assert_eq!(label("Finch"), unknown("species", "Species", "Finch"));
    assert_eq!((schema.imbalanced_task(), schema.folder), (None, None));
}

/// Writes a data set with one action with these fields, and returns the messages of its problems.
fn bird_problems(schema: &str, fields: &str) -> Vec<String> {
    let schema = Schema::parse(schema, "birds.toml").unwrap();
    let root = tempfile::tempdir().unwrap();
    let clips = r#""Clips": [{"Url": "a"}]"#;
    write_split(root.path(), "train", &format!(r#"{{"Actions": {{"0": {{{fields}, {clips}}}}}}}"#));
    let split = load_split(root.path(), "train", &schema).unwrap();
    split.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_schema_may_list_the_fields_that_it_ignores() {
    let fields = r#""Species": "Tit", "sex": "f", "Observer": "x""#;
    let meant = "\"sex\" in 1 action: no such field; did you mean \"Sex\"?";
    // Without a list, only fields that look misspelled are reported, and only if the right one is
    // missing.
    assert_eq!(bird_problems(BIRDS, fields), [meant]);
    let both = r#""Species": "Tit", "sex": "f", "Sex": "f", "Observer": "x""#;
    assert_eq!(bird_problems(BIRDS, both), [""; 0]);
    let listed = |names: &str| {
        BIRDS.replacen("[[split]]", &format!("ignored_fields = {names}\n[[split]]"), 1)
    };
    assert_eq!(bird_problems(&listed("[\"Observer\"]"), fields), [meant]);
    let unnamed = "\"Observer\" in 1 action: the schema does not name it";
    assert_eq!(bird_problems(&listed("[]"), fields), [meant, unnamed]);
    for (names, reason) in
        [("[\"Sex\"]", "\"Sex\" is read by"), ("[\"A\", \"A\"]", "\"A\" occurs twice")]
    {
        let error = Schema::parse(&listed(names), "birds.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("birds.toml, ignored_fields: ") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn a_class_may_be_its_name_alone() {
    let names = BIRDS.replace("[{ name = \"Tit\" }, { name = \"Robin\" }]", "[\"Tit\", \"Robin\"]");
    assert_ne!(names, BIRDS);
    let [short, long] = [names.as_str(), BIRDS].map(|text| Schema::parse(text, "b.toml").unwrap());
    assert_eq!(short.to_toml(), long.to_toml());
}

#[test]
fn broken_schemas_name_the_location() {
    let cases = [
        ("{ name = \"Robin\" }", "{ nam = \"Robin\" }", "line 10: unknown field `nam`"),
        ("{ name = \"Robin\" }", "3", "expected a class: its name, or { name = …, match = … }"),
        ("title = \"Birds\"", "titel = \"Birds\"", "birds.toml, line 3: unknown field `titel`"),
        (
            "class = [{ name = \"Tit\" }, { name = \"Robin\" }]",
            "class = [{ name = \"Tit\" }]",
            "task \"species\": at least two",
        ),
        (
            "{ name = \"Robin\" }",
            "{ name = \"Tit\" }",
            "task \"species\": the class \"Tit\" occurs twice",
        ),
        (
            "{ name = \"Robin\" }",
            "{ name = \"Robin\", match = { Species = [] } }",
            "class \"Robin\": `match` lists no value",
        ),
        ("field = \"Species\"", "", "class \"Tit\": give `match` here or `field`"),
        (
            "{ name = \"Robin\" }",
            "{ name = \"Robin\", write = { Species = \"Tit\" } }",
            "read back as \"Tit\"",
        ),
        ("name = \"species\"", "name = \"the species\"", "letters, digits and underscores"),
        ("name = \"sex\"", "name = \"species\"", "properties: the name \"species\" occurs twice"),
        (
            "field = \"Sex\"",
            "field = \"Species\"",
            "property \"sex\": a field that determines labels",
        ),
        ("\"m\"", "\"f\"", "property \"sex\": the spelling \"f\" occurs twice"),
        ("\"m\"", "\"\"", "always counts as unknown"),
        ("embedding = 4", "embedding = 0", "`embedding` must be at least 1"),
        ("embedding = 4", "embedding = \"4\"", "birds.toml, line 16: invalid type"),
        (
            "[[split]]\nname = \"train\"",
            "[[split]]\nname = \"../train\"",
            "must be the name of one folder",
        ),
        (
            "[[split]]\nname = \"train\"",
            "[[split]]\nname = \"a\"\n[[split]]\nname = \"b\"\nspellings = [\"a\"]",
            "splits: the spelling \"a\" occurs twice",
        ),
        (
            "[[task]]",
            "[[leave_out]]\nreason = \"x\"\nwhen = {}\n[[task]]",
            "leave_out \"x\": `when` must list",
        ),
        (
            "[[task]]",
            "[[default]]\nfield = \"F\"\nfrom = [\"a\", \"a\"]\nto = \"b\"\n[[task]]",
            "default for \"F\": \"a\" is replaced twice",
        ),
        ("title = \"Birds\"", "title = \"Birds", "birds.toml, line 3: "),
    ];
    for (from, to, expected) in cases {
        assert!(BIRDS.contains(from), "{from}");
        let text = BIRDS.replacen(from, to, 1);
        let error = Schema::parse(&text, "birds.toml").expect_err(&text).to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        assert!(error.starts_with("birds.toml") && !error.contains('\n'), "{error:?}");
    }
    assert!(Schema::parse("name = \"x\"\ntitle = \"X\"\nsplit = []\ntask = []", "x").is_err());
}

#[test]
fn a_missing_schema_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let error = Schema::load(&path).unwrap_err();
    assert!(matches!(error, SchemaError::Io { .. }));
    let utf16: Vec<u8> =
        format!("\u{feff}{BIRDS}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [BIRDS.as_bytes(), &utf16] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Schema::load(&path).unwrap().name, "birds");
    }
    std::fs::write(&path, b"name = \"V\xf6gel\"").unwrap();
    let error = Schema::load(&path).unwrap_err().to_string();
    assert!(error.contains("line 1, column 10: the byte 0xF6 is not UTF-8"), "{error}");
}
