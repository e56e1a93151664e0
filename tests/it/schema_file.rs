use polyview::schema::{Labelled, Schema, SchemaError};

use crate::common::data::{fields, unknown};

/// A small schema of another field, as a base for broken ones.
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
fn other_data_sets_are_possible() {
    let schema = Schema::parse(BIRDS, "birds.toml").unwrap();
    let label = |species: &str| schema.label(&fields(&[("Species", species)]));
    assert_eq!(label("Robin"), Labelled::Labels(vec![1]));
    assert_eq!(label("Finch"), unknown("species", "Species", "Finch"));
    assert_eq!((schema.imbalanced_task(), schema.folder), (None, None));
}

#[test]
fn broken_schemas_name_the_location() {
    let cases = [
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
        ("field = \"Sex\"", "field = \"Species\"", "property \"sex\": a field that decides labels"),
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
    std::fs::write(&path, BIRDS).unwrap();
    assert_eq!(Schema::load(&path).unwrap().name, "birds");
}
