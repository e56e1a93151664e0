//! Which files of a folder list a data set's actions, and what else may lie beside them.

use std::fs;

use polyview::data::annotations::Split;
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

/// A data set of empty clips.
fn clips(names: &[&str]) -> (TempDir, SourceSpec) {
    folder(&names.iter().map(|name| (*name, "")).collect::<Vec<_>>())
}

/// The texts of a split's problems.
fn problems(split: &Split) -> Vec<String> {
    split.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn images_beside_an_actions_videos_are_not_used() {
    let (_folder, spec) = clips(&[
        "wave/a/0.mp4",
        "wave/a/1.mp4",
        "wave/a/thumb.jpg",
        "wave/b/0.mp4",
        "wave/b/1.png",
        "wave/b/2.png",
        "wave/b/frames/1.png",
        "wave/c.mp4",
        "wave/thumb.jpg",
        "clap/a/1.jpg",
        "clap/b/left/1.jpg",
        "clap/b/right/1.jpg",
        "clap/c/0.mp4",
        "clap/c/0/1.jpg",
        "clap/d.mp4",
    ]);
    let spec = SourceSpec {
        partition: Partition { shares: Some("0.8,0.2".parse().unwrap()), ..Partition::default() },
        ..spec
    };
    let source = DataSource::open(&spec).unwrap();
    let splits = ["train", "valid"].map(|name| source.split(name).unwrap());
    let mut views = Vec::new();
    for action in splits.iter().flat_map(|split| &split.actions) {
        views.extend(action.views.iter().map(|view| view.url.as_str()));
    }
    views.sort_unstable();
    let used = [
        "clap/a",
        "clap/b/left",
        "clap/b/right",
        "clap/c/0.mp4",
        "clap/d.mp4",
        "wave/a/0.mp4",
        "wave/a/1.mp4",
        "wave/b/0.mp4",
        "wave/c.mp4",
    ];
    assert_eq!(views, used);
    let mut warnings: Vec<String> = splits.iter().flat_map(problems).collect();
    warnings.retain(|text| text.contains("not used"));
    warnings.sort_unstable();
    let expected = [
        "action clap/c: 1 folder of images beside its 1 video is not used",
        "action wave/a: 1 image beside its 2 videos is not used",
        "action wave/b: 2 images and 1 folder of images beside its 1 video are not used",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn clips_in_folders_that_are_not_read_are_named() {
    let (_folder, spec) = clips(&[
        "train/wave/s.mp4",
        "train/wave/m1/act0/0.mp4",
        "train/wave/b/0.mp4",
        "train/wave/b/sub/x.mp4",
        "train/wave/b/sub/y.mp4",
        "train/clap/m1/act0/0.mp4",
        "train/clap/m1/act1/deep/0.mp4",
        "train/point/1.jpg",
        "train/nod/a.mp4",
        "train/nod/notes/readme.txt",
        "train/loose.mp4",
        "val/wave/m1/act0/0.mp4",
        "test/wave/c.mp4",
    ]);
    let source = DataSource::open(&spec).unwrap();
    let train = source.split("train").unwrap();
    let end = "are not used: clips belong in CLASS/ or CLASS/ACTION/";
    let expected = [
        format!(
            "clips in train, train/clap/m1/act0, train/clap/m1/act1/deep, train/point, \
             train/wave/b/sub and 1 more folder {end}"
        ),
        // The folder has no action, so it is no split.
        format!("clips in val/wave/m1/act0 {end}"),
    ];
    assert_eq!(problems(&train), expected);
    assert_eq!(problems(&source.split("test").unwrap()), [""; 0]);
}

#[cfg(unix)]
#[test]
fn the_search_for_unused_clips_does_not_follow_links_back() {
    let (_folder, spec) =
        clips(&["wave/a/0.mp4", "wave/b.mp4", "clap/a/0.mp4", "clap/b.mp4", "clap/c/d/e/f.mp4"]);
    for (target, link) in [("..", "wave/a/up"), ("..", "clap/c/d/up"), ("..", "clap/c/d/e/up")] {
        std::os::unix::fs::symlink(target, spec.root.join(link)).unwrap();
    }
    let source = DataSource::open(&spec).unwrap();
    let expected = "clips in clap/c/d/e are not used: clips belong in CLASS/ or CLASS/ACTION/";
    assert!(problems(&source.split("train").unwrap()).contains(&expected.to_owned()));
}

#[test]
fn classes_that_look_like_none_or_like_another_are_named() {
    let rows = ["wave,left", "Wave,n/a", "NA,right", "NA,None", "wave,left", " w ave ,right"];
    let line = |(n, row): (usize, &&str)| format!("{n}.mp4,{row},{}\n", ["train", "test"][n / 5]);
    let table = rows.iter().enumerate().map(line).collect::<String>();
    let (_folder, spec) = folder(&[("manifest.csv", &format!("path,Gesture,Hand,split\n{table}"))]);
    let source = DataSource::open(&spec).unwrap();
    assert_eq!(source.schema().tasks[0].class_names(), ["NA", "Wave", "w ave", "wave"]);
    let expected = [
        "Gesture: the class \"NA\" (2 actions) looks like a missing value; leave the cell empty if it is one",
        "Gesture: \"Wave\", \"w ave\" and \"wave\" are different classes, but differ only in case or white space",
        "Hand: the class \"None\" (1 action) looks like a missing value; leave the cell empty if it is one",
        "Hand: the class \"n/a\" (1 action) looks like a missing value; leave the cell empty if it is one",
    ];
    let of = |name: &str| -> Vec<String> {
        let problems = problems(&source.split(name).unwrap());
        problems.into_iter().filter(|text| !text.contains("no actions of")).collect()
    };
    assert_eq!(of("train"), expected);
    assert_eq!(of("test"), [""; 0]);

    // No cell can be left empty here, so None may be a class.
    let names = ["None/a.mp4", "None/b.mp4", "wave/a.mp4", "wave/b.mp4", "wa ve/a.mp4"];
    let (_folder, spec) = clips(&names);
    let train = DataSource::open(&spec).unwrap().split("train").unwrap();
    let expected = "class: \"wa ve\" and \"wave\" are different classes, but differ only in case or white space";
    let mut found = problems(&train);
    found.retain(|text| !text.contains("no actions of"));
    assert_eq!(found, [expected]);
}
