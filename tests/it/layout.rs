use std::path::PathBuf;

use polyview::data::annotations::load_split;
use polyview::data::error::DataError;
use polyview::data::layout::clip_path;
use polyview::schema::Schema;

use crate::common::data::{load, source, write_split};

#[test]
fn urls() {
    let schema = Schema::mvfoul().unwrap();
    let accepted = [
        ("Dataset/Train/action_0/clip_0", "action_0/clip_0", Some("train")),
        ("Dataset/action_0/clip_0", "action_0/clip_0", None),
        ("Dataset/Chall/action_0/clip_0.mp4", "action_0/clip_0.mp4", Some("challenge")),
        ("valid/action_0/clip_0", "action_0/clip_0", Some("valid")),
        ("action_0/clip_0", "action_0/clip_0", None),
        ("./action_0//clip_0/", "action_0/clip_0", None),
        ("Dataset", "Dataset", None),
        ("action_0/Train/Dataset", "action_0/Train/Dataset", None),
        ("action_0/clip..0", "action_0/clip..0", None),
    ];
    for (url, path, split) in accepted {
        let found = clip_path(url, &schema).unwrap();
        assert_eq!((found.path, found.split.as_deref()), (PathBuf::from(path), split), "{url}");
    }
    let refused = [
        "",
        "/",
        ".",
        "/action_0/clip_0",
        "//host/share/clip",
        "Dataset/../../clip",
        "..",
        "a/..",
        "Dataset/Train",
        "Train",
        "..\\clip",
        "C:\\clip",
        "\\\\host\\clip",
        "C:/clip",
        "c:clip",
        "Dataset/Train/D:clip",
        "a\0b",
    ];
    for url in refused {
        assert!(clip_path(url, &schema).is_err(), "{url:?}");
    }
}

#[test]
fn missing_folders_are_reported_with_what_is_there() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::mvfoul().unwrap();
    let message = source(root.path()).unwrap_err().to_string();
    assert!(message.contains("neither split folders with annotations.json"), "{message}");
    let message = load(&root, "test").unwrap_err().to_string();
    assert!(message.contains("it has no split"), "{message}");

    write_split(root.path(), "mvfouls/Train", "{\"Actions\": {}}");
    write_split(root.path(), "valid", "{\"Actions\": {}}");
    let message = load(&root, "test").unwrap_err().to_string();
    assert!(message.contains("\"test\"; it has train and valid"), "{message}");
    let message = load(&root, "dev").unwrap_err().to_string();
    assert!(message.contains("the schema names: train, valid, test, challenge"), "{message}");
    let nowhere = root.path().join("nowhere");
    assert!(matches!(load_split(&nowhere, "train", &schema), Err(DataError::NoRoot { .. })));

    std::fs::create_dir(root.path().join("test")).unwrap();
    assert!(matches!(load(&root, "test"), Err(DataError::Io { .. })));
    assert_eq!(source(root.path()).unwrap().splits(), ["train", "valid", "test"]);
}
