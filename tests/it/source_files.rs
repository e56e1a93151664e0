//! Which files of a folder list a data set's actions, and what else may lie beside them.

use std::fs;

use polyview::data::source::{Format, Partition, SourceSpec};
use polyview::data::{DataError, DataSource};
use tempfile::TempDir;

/// Creates a data set with these files.
fn folder(files: &[(&str, &str)]) -> (TempDir, SourceSpec) {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let spec = SourceSpec { root: folder.path().to_owned(), ..SourceSpec::default() };
    (folder, spec)
}

const TRAIN: (&str, &str) = ("train.csv", "path,class\na.mp4,x\nb.mp4,y\n");
const VALID: (&str, &str) = ("val.csv", "path,class\nc.mp4,x\nd.mp4,y\n");

#[test]
fn a_hidden_file_of_macos_beside_a_table_is_ignored() {
    let hidden = ("._train.csv", "\u{0}\u{5}\u{16}\u{7}");
    let (_folder, spec) = folder(&[TRAIN, VALID, hidden]);
    let source = DataSource::open(&spec).unwrap();
    assert_eq!(source.splits(), ["train", "valid"]);
    assert_eq!(source.split("train").unwrap().actions.len(), 2);
}

#[test]
fn annotations_beside_tables_or_lists_do_not_make_a_single_split() {
    let other = ("annotations.json", "{}");
    let (_folder, spec) = folder(&[TRAIN, VALID, other]);
    assert_eq!(DataSource::open(&spec).unwrap().format(), Format::Manifest);
    let lists = [("train.txt", "a.mp4 x\nb.mp4 y\n"), ("val.txt", "c.mp4 x\n"), other];
    let (_folder, spec) = folder(&lists);
    assert_eq!(DataSource::open(&spec).unwrap().format(), Format::List);
    // A table of something else does not make a split's folder a data set.
    let clips = [("action_0/clip_0.mp4", ""), ("action_1/clip_0.mp4", "")];
    for table in [("out.csv", "action,task\n0,x\n"), ("readme.md", "")] {
        let (_folder, spec) = folder(&[clips[0], clips[1], other, table]);
        let error = DataSource::open(&spec).unwrap_err();
        assert!(matches!(error, DataError::OneSplit { .. }), "{error}");
    }
    let (_folder, spec) = folder(&[TRAIN, VALID, other]);
    let spec = SourceSpec { format: Some(Format::SoccerNet), ..spec };
    let error = DataSource::open(&spec).unwrap_err();
    assert!(matches!(error, DataError::OneSplit { .. }), "{error}");
}

#[test]
fn groups_of_other_splits_do_not_hold_actions_together() {
    // The test split, which is read last, numbers its actions from 0 as well, and has all of them in one group.
    let table = |group: fn(usize) -> usize| {
        let line = |n: usize| format!("{n},{n}.mp4,{},{}\n", n % 2, group(n));
        "action,path,class,group\n".to_owned() + &(0..20).map(line).collect::<String>()
    };
    let (train, test) = (table(|n| n / 2), table(|_| 0).replace(".mp4", ".avi"));
    let (_folder, spec) = folder(&[("train.csv", &train), ("z_test.csv", &test)]);
    let spec = SourceSpec {
        partition: Partition { shares: Some("0.5,0.5".parse().unwrap()), ..Partition::default() },
        ..spec
    };
    let source = DataSource::open(&spec).unwrap();
    for split in ["train", "valid"] {
        let split = source.split(split).unwrap();
        let numbers: Vec<usize> = split.actions.iter().map(|a| a.id.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 10);
        assert!(numbers.chunks(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
    }
    assert_eq!(source.split("test").unwrap().actions.len(), 20);
}
