//! Data sets in other layouts than SoccerNet's: what is recognised, inferred, split and refused.

use std::fs;
use std::path::Path;

use polyview::data::annotations::Split;
use polyview::data::source::{Format, Partition, SourceSpec};
use polyview::data::{DataError, DataSource};
use polyview::schema::Schema;
use tempfile::TempDir;

/// Creates a folder with these files; clips are empty files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn clips(names: &[&str]) -> TempDir {
    folder(&names.iter().map(|name| (*name, "")).collect::<Vec<_>>())
}

fn spec(root: &Path) -> SourceSpec {
    SourceSpec { root: root.to_owned(), ..SourceSpec::default() }
}

fn open(root: &Path) -> Result<DataSource, DataError> {
    DataSource::open(&spec(root))
}

/// Returns the ids and labels of a split's actions.
fn actions(split: &Split) -> Vec<(&str, Vec<Option<usize>>)> {
    let labels = |action: &polyview::data::annotations::Action| action.labels.clone().unwrap();
    split.actions.iter().map(|action| (action.id.as_str(), labels(action))).collect()
}

fn ids(split: &Split) -> Vec<String> {
    split.actions.iter().map(|action| action.id.clone()).collect()
}

#[test]
fn folders_of_classes_hold_clips_actions_and_folders_of_images() {
    let root = clips(&[
        "train/wave/2.mp4",
        "train/wave/10.MP4",
        "train/wave/._2.mp4",
        "train/wave/notes.txt",
        "train/clap/two views/left.mp4",
        "train/clap/two views/right.avi",
        "train/clap/images/1.jpg",
        "train/clap/images/2.jpg",
        "train/clap/a.mp4",
        "train/clap/a.avi",
        "val/wave/x.webm",
        "val/clap/empty/readme.txt",
    ]);
    let source = open(root.path()).unwrap();
    assert_eq!(
        (source.format(), source.splits()),
        (Format::Folders, vec!["train".into(), "valid".into()])
    );
    let train = source.split("train").unwrap();
    assert_eq!(
        actions(&train),
        [
            ("clap/a.avi", vec![Some(0)]),
            ("clap/a.mp4", vec![Some(0)]),
            ("clap/images", vec![Some(0)]),
            ("clap/two views", vec![Some(0)]),
            ("wave/2", vec![Some(1)]),
            ("wave/10", vec![Some(1)]),
        ]
    );
    let paths: Vec<_> = train.actions[3].views.iter().map(|view| train.clip(view)).collect();
    let views = root.path().join("train/clap/two views");
    assert_eq!(paths, [views.join("left.mp4"), views.join("right.avi")]);
    assert_eq!(actions(&source.split("val").unwrap()), [("wave/x", vec![Some(1)])]);
}

#[test]
fn a_table_has_any_number_of_views_and_tasks() {
    let root = folder(&[(
        "manifest.csv",
        "\u{feff}action, view, path, Gesture, Hand, remark, split\n\
         7, 2, b.mp4, wave, left, first, train\n\
         7, 1, a.mp4, wave, , first, train\n\
         8, left, c.mp4, point, , second, train\n\
         9, , d.mp4, , right, third, train\n\
         10, , /abs/e.mp4, , , fourth, train\n\
         11, , f.mp4, wave, right, fifth, val\n\
         12, , g.mp4, point, left, sixth, val\n",
    )]);
    let source = open(root.path()).unwrap();
    let tasks: Vec<_> =
        source.schema().tasks.iter().map(|t| (t.name.as_str(), t.class_names())).collect();
    let class_names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    assert_eq!(
        tasks,
        [("gesture", class_names(["point", "wave"])), ("hand", class_names(["left", "right"]))]
    );
    assert_eq!(source.notes()[0], "\"remark\" is not a task: 6 values for 6 actions");
    let train = source.split("train").unwrap();
    assert_eq!(
        actions(&train),
        [("7", vec![Some(1), Some(0)]), ("8", vec![Some(0), None]), ("9", vec![None, Some(1)])]
    );
    let urls: Vec<_> = train.actions[0].views.iter().map(|view| view.url.as_str()).collect();
    assert_eq!(urls, ["a.mp4", "b.mp4"]);
    assert_eq!(train.actions[1].views[0].camera.as_deref(), Some("left"));
    assert_eq!(
        (train.left_out[0].id.as_str(), train.left_out[0].reason.as_str()),
        ("10", "no label")
    );
    assert_eq!(train.clip(&train.left_out[0].views[0]), Path::new("/abs/e.mp4"));
    assert_eq!(ids(&source.split("valid").unwrap()), ["11", "12"]);
}

#[test]
fn tabs_and_semicolons_separate_as_well() {
    for (name, mark) in [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", ",")] {
        let lines = ["Video|class|split", "a.mp4|x, y|train", "b.mp4|z|train", "c.mp4|z|valid"];
        let lines = lines.map(|line| match mark {
            "," => line.replace("x, y", "\"x, y\"").replace('|', mark),
            _ => line.replace('|', mark),
        });
        let root = folder(&[(name, &lines.join("\r\n"))]);
        let source = open(root.path()).unwrap();
        assert_eq!(source.format(), Format::Manifest);
        assert_eq!(source.schema().tasks[0].class_names(), ["x, y", "z"]);
        assert_eq!(ids(&source.split("train").unwrap()), ["a", "b"]);
        // The table itself may be given.
        assert_eq!(open(&root.path().join(name)).unwrap().splits(), ["train", "valid"]);
    }
}

#[test]
fn lists_have_names_or_numbers_with_a_list_of_classes() {
    let lists = [
        (
            "kinetics400_train_list_videos.txt",
            "some/a b.mp4 1\n\n# a remark\nc.mp4 10\nd.mp4 2\ne.mp4 2",
        ),
        ("kinetics400_val_list_videos.txt", "e.mp4 2\n"),
        ("videos_train/some/a b.mp4", ""),
    ];
    let root = folder(&lists);
    let source = open(root.path()).unwrap();
    assert_eq!(source.format(), Format::List);
    assert_eq!(source.schema().tasks[0].class_names(), ["1", "2", "10"]);
    let train = source.split("train").unwrap();
    assert_eq!(ids(&train), ["some/a b", "c", "d", "e"]);
    let first = train.clip(&train.actions[0].views[0]);
    assert_eq!(first, root.path().join("videos_train/some/a b.mp4"));
    let names = (0..12).map(|n| format!("class {n}\n")).collect::<String>();
    fs::write(root.path().join("label_map_k400.txt"), names).unwrap();
    let source = open(root.path()).unwrap();
    assert_eq!(source.schema().tasks[0].class_names(), ["class 1", "class 2", "class 10"]);
}

#[test]
fn the_labels_of_all_lists_decide_from_which_number_they_count() {
    let names = ("classes.txt", "1 ApplyEyeMakeup\n2 Archery\n3 Basketball\n");
    let classes = |train: &str, val: &str| {
        let root = folder(&[names, ("train.txt", train), ("val.txt", val)]);
        open(root.path()).map(|source| source.schema().tasks[0].class_names())
    };
    let all = ["ApplyEyeMakeup", "Archery", "Basketball"];
    assert_eq!(classes("a.mp4 1\nb.mp4 3\n", "c.mp4 2\n").unwrap(), all);
    // 0 only occurs in the second list.
    assert_eq!(classes("a.mp4 1\nb.mp4 2\n", "c.mp4 0\n").unwrap(), all);
    let error = classes("a.mp4 1\nb.mp4 3\n", "c.mp4 0\n").unwrap_err().to_string();
    let reason = "train.txt, line 2: the label is 3, but classes.txt has 3 classes, which other labels \
                  number from 0; count the labels of all lists from 0, or all from 1";
    assert!(error.ends_with(reason), "{error}");
}

#[test]
fn numbers_that_are_part_of_class_names_are_kept() {
    let classes = ("classes.txt", "1 finger\n2 fingers\n3 fingers\n");
    let list =
        |split: &str| (0..6).map(|n| format!("{split}{n}.mp4 {}\n", n % 3)).collect::<String>();
    let (train, val) = (list("t"), list("v"));
    let root = folder(&[classes, ("train.txt", &train), ("val.txt", &val)]);
    let source = open(root.path()).unwrap();
    assert_eq!(source.schema().tasks[0].class_names(), ["1 finger", "2 fingers", "3 fingers"]);
    let note = &source.notes()[0];
    assert!(note.ends_with("count lines from 0: label 0 is \"1 finger\""), "{note}");
    // The schema says nothing about the numbers, so they are noted with a given one too.
    let schema = Some(source.schema().clone());
    let given = DataSource::open(&SourceSpec { schema, ..spec(root.path()) }).unwrap();
    assert_eq!(given.notes(), &source.notes()[..1]);
}

#[test]
fn raw_frames_are_listed_with_their_number() {
    let files = [
        ("train.txt", "a 2 x\nb 2 y\n"),
        ("val.txt", "c 2 x\n"),
        ("a/1.jpg", ""),
        ("b/1.jpg", ""),
        ("c/1.jpg", ""),
    ];
    let source = open(folder(&files).path());
    // The folder has been removed by now: only what was read before counts.
    assert_eq!(ids(&source.unwrap().split("train").unwrap()), ["a", "b"]);
}

/// Creates a table of `count` actions of two classes, in pairs that belong together.
fn pairs(count: usize) -> TempDir {
    let mut text = "path,class,group\n".to_owned();
    for index in 0..count {
        text += &format!("{index}.mp4,{},{}\n", index / 2 % 2, index / 2);
    }
    folder(&[("clips.csv", &text)])
}

#[test]
fn missing_splits_are_made() {
    let root = pairs(80);
    let source = open(root.path()).unwrap();
    assert_eq!(source.splits(), ["train", "valid", "test"]);
    let splits = ["train", "valid", "test"].map(|name| source.split(name).unwrap());
    assert_eq!(splits.each_ref().map(|split| split.actions.len()), [64, 8, 8]);
    assert_eq!(splits.each_ref().map(|split| split.class_counts(0, 2)), [[32, 32], [4, 4], [4, 4]]);
    let mut all: Vec<usize> = Vec::new();
    for split in &splits {
        let numbers: Vec<usize> = ids(split).iter().map(|id| id.parse().unwrap()).collect();
        assert!(numbers.chunks(2).all(|pair| pair[0] + 1 == pair[1]), "groups stay together");
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..80).collect::<Vec<_>>());
    let with = |partition: Partition| {
        DataSource::open(&SourceSpec { partition, ..spec(root.path()) }).unwrap()
    };
    let shares = |text: &str| Some(text.parse().unwrap());
    let halves = with(Partition { shares: shares("0.5,0.5"), ..Partition::default() });
    assert_eq!(halves.splits(), ["train", "valid"]);
    assert_eq!(halves.split("valid").unwrap().actions.len(), 40);
    let other = with(Partition { seed: 1, ..Partition::default() });
    assert_ne!(ids(&other.split("valid").unwrap()), ids(&splits[1]));
    assert_eq!(ids(&open(root.path()).unwrap().split("valid").unwrap()), ids(&splits[1]));

    // Folds share the test split, and each action is validated once.
    let mut validated = Vec::new();
    for number in 1..=4 {
        let fold = Some(format!("{number}/4").parse().unwrap());
        let source = with(Partition { fold, ..Partition::default() });
        let split = |name: &str| ids(&source.split(name).unwrap());
        assert_eq!(split("train").len() + split("valid").len() + split("test").len(), 80);
        validated.extend(split("valid"));
        if number == 1 {
            validated.extend(split("test"));
        }
    }
    validated.sort_unstable_by_key(|id| id.parse::<usize>().unwrap());
    assert_eq!(validated, (0..80).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_split_is_taken_from_train_where_only_valid_is_missing() {
    let names: Vec<String> = (0..40).map(|n| format!("train/{}/{n}.mp4", n % 2)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["test/0/t.mp4"]).collect();
    let root = clips(&names);
    let source = open(root.path()).unwrap();
    assert_eq!(source.splits(), ["train", "valid", "test"]);
    assert_eq!(source.split("valid").unwrap().class_counts(0, 2), [3, 3]);
    assert_eq!(source.split("test").unwrap().actions.len(), 1);
}

/// Returns the path to a folder relative to the current one.
#[cfg(unix)]
fn relative(path: &Path) -> std::path::PathBuf {
    let up = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let path = path.canonicalize().unwrap();
    [up, path.strip_prefix("/").unwrap().to_owned()].iter().collect()
}

#[cfg(unix)]
#[test]
fn folds_of_two_splits_find_the_clips_of_both() {
    let clip = |split: &str, n: usize| format!("{split}/{}/{n}.mp4", n % 2);
    let names: Vec<String> = (0..8).flat_map(|n| [clip("train", n), clip("valid", n)]).collect();
    let classes = clips(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut table = "action,path,class,split\n".to_owned();
    for n in 0..8 {
        for split in ["train", "valid"] {
            table += &format!("{split}/{n},{},{},{split}\n", clip(split, n), n % 2);
        }
    }
    let manifest = clips(&names.iter().map(String::as_str).collect::<Vec<_>>());
    fs::write(manifest.path().join("manifest.csv"), table).unwrap();
    for root in [&classes, &manifest] {
        let (mut validated, mut seen) = (Vec::new(), 0);
        for number in 1..=4 {
            let fold = Some(format!("{number}/4").parse().unwrap());
            let partition = Partition { fold, ..Partition::default() };
            let source =
                DataSource::open(&SourceSpec { partition, ..spec(&relative(root.path())) })
                    .unwrap();
            for name in ["train", "valid"] {
                let split = source.split(name).unwrap();
                for action in &split.actions {
                    let clip = split.clip(&action.views[0]);
                    assert!(clip.with_extension("mp4").is_file(), "{}", clip.display());
                    // An id does not denote another action in another run on this data set.
                    let of = if clip.to_string_lossy().contains("/valid/") {
                        "valid/"
                    } else {
                        "train/"
                    };
                    assert!(action.id.starts_with(of), "{} is in {of}", action.id);
                    seen += 1;
                }
                if name == "valid" {
                    validated.extend(ids(&split));
                }
            }
        }
        validated.sort_unstable();
        validated.dedup();
        assert_eq!((validated.len(), seen), (16, 4 * 16));
    }
}

#[test]
fn classes_missing_from_a_made_split_are_named() {
    // Classes 0 and 1 have 20 actions each, the others one.
    let class = |n: usize| if n < 40 { n % 2 } else { n };
    let names: Vec<String> = (0..47).map(|n| format!("{}/{n}.mp4", class(n))).collect();
    let root = clips(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let source = open(root.path()).unwrap();
    let classes = source.schema().tasks[0].classes.len();
    let mut absent = 0;
    for name in source.splits() {
        let split = source.split(&name).unwrap();
        let missing = split.class_counts(0, classes).iter().filter(|count| **count == 0).count();
        absent += missing;
        let problems: Vec<String> = split.problems.iter().map(|p| p.to_string()).collect();
        match missing {
            0 => assert!(problems.is_empty(), "{problems:?}"),
            _ => {
                assert_eq!(problems.len(), 1, "{problems:?}");
                let (text, named) = (&problems[0], missing.min(5));
                assert_eq!(text.matches(" (1 in all)").count(), named, "{text}");
                let rest = format!(" and {} more", missing - named);
                assert_eq!(text.contains(&rest), missing > 5, "{text}");
            }
        }
    }
    // All seven are in training, and neither in validation nor in test.
    assert_eq!(absent, 14);
    let balanced = pairs(80);
    let source = open(balanced.path()).unwrap();
    assert!(source.splits().iter().all(|name| source.split(name).unwrap().problems.is_empty()));
}

#[test]
fn a_schema_decides_where_it_is_given() {
    let text = "name = \"g\"\ntitle = \"G\"\nsplit = [{ name = \"train\" }, { name = \"valid\" }]\n\
                [[task]]\nname = \"gesture\"\ntitle = \"Gesture\"\nfield = \"Gesture\"\n\
                class = [{ name = \"wave\", match = { Gesture = [\"wave\", \"Wave\"] } }, { name = \"point\" }]";
    let schema = Some(Schema::parse(text, "g.toml").unwrap());
    let root =
        folder(&[("manifest.csv", "path,Gesture,split\na.mp4,Wave,train\nb.mp4,stop,train\n")]);
    let source =
        DataSource::open(&SourceSpec { schema: schema.clone(), ..spec(root.path()) }).unwrap();
    assert_eq!(source.schema().tasks[0].class_names(), ["wave", "point"]);
    assert_eq!(actions(&source.split("train").unwrap()), [("a", vec![Some(0)])]);
    let error = source.split("valid").unwrap_err().to_string();
    assert!(error.ends_with("1 usable action is too few to hold out a valid split"), "{error}");
    let root = folder(&[("manifest.csv", "path,gesture,split\na.mp4,Wave,train\n")]);
    let error = DataSource::open(&SourceSpec { schema, ..spec(root.path()) }).unwrap_err();
    assert!(error.to_string().ends_with(
        "has no field \"Gesture\", which determines Gesture in the schema; it has gesture"
    ));
}

#[test]
fn what_is_not_a_data_set_is_refused_in_one_line() {
    let table = |text: &str| folder(&[("manifest.csv", text)]);
    let list = |text: &str| folder(&[("train.txt", text)]);
    let two = "path,class,split\na.mp4,x,train\nb.mp4,y,valid\n";
    let cases: Vec<(TempDir, SourceSpec, &str)> = [
        (
            clips(&["a.mp4", "readme.md"]),
            "contains no data set: neither split folders with annotations.json",
        ),
        (
            clips(&["x/a.mp4", "x/b.mp4"]),
            "no field has classes to learn (\"class\" is not a task: it is \"x\" everywhere)",
        ),
        (clips(&["x/notes.txt"]), "contains no data set"),
        (
            clips(&["train/action_0/a.mp4", "train/action_1/a.mp4", "train/action_2/a.mp4"]),
            "each class has only one action, for example \"action_0\"",
        ),
        (table("action,class\n1,x\n"), "line 1: no column is called `path`"),
        (table("path,class,Path\na.mp4,x,b\n"), "line 1: the column \"path\" occurs twice"),
        (table("path,class\na.mp4,x\nb.mp4\n"), "line 3: has 1 cell, but the header has 2"),
        (table("path,class\na.mp4,x\n,y\n"), "line 3: the clip's path is empty"),
        (
            table("path,class,split\na.mp4,x,trian\n"),
            "line 2: the split is \"trian\", but must be one of train, valid, test",
        ),
        (
            table("path,class,split\na.mp4,x,\n"),
            "line 2: the split is \"\", but must be one of train, valid, test",
        ),
        (
            table("action,path,split\n1,a.mp4,train\n1,b.mp4,valid\n"),
            "line 3: action 1 is in valid here and in train in line 2",
        ),
        (table("path,class\na.mp4,x\na.mp4,y\n"), "line 3: the path already occurs in line 2"),
        (
            table("action,path,class\n,a.mp4,x\n"),
            "line 2: the action is empty: give it a name or a number",
        ),
        (table("path,class\n"), "line 1: there is no line after the header"),
        (table("path\na.mp4\n"), "no field has classes to learn (there is none)"),
        (list("a.mp4\n"), "line 1: \"a.mp4\" has only a path or a label, but needs both"),
        (list("a.mp4 1\nb.mp4 0\na.mp4 1\n"), "line 3: a.mp4 occurs twice"),
        (list("# nothing\n\n"), "there is no line with a path and a label"),
        (
            folder(&[("train.txt", "a.mp4 3\n"), ("classes.txt", "x\ny\n")]),
            "line 1: the label is 3, but there are only 2 classes",
        ),
        (
            folder(&[("train.txt", "a.mp4 x"), ("my_train.csv", "a.mp4 x")]),
            "lists the split \"train\", and so does my_train.csv: remove one",
        ),
        (list("\u{0}\u{1}\u{2}"), "line 1"),
    ]
    .into_iter()
    .map(|(root, message)| {
        let spec = spec(root.path());
        (root, spec, message)
    })
    .chain([
        {
            let root = table(two);
            let shares = Some("0.5,0.5".parse().unwrap());
            let partition = Partition { shares, ..Partition::default() };
            let spec = SourceSpec { partition, ..spec(root.path()) };
            (root, spec, "has the splits train and valid, so there is nothing to divide")
        },
        {
            let root = table(two);
            let spec = SourceSpec { format: Some(Format::Folders), ..spec(root.path()) };
            (root, spec, "contains no class folders with clips")
        },
        {
            let root = clips(&["x/a.mp4", "y/b.mp4"]);
            let spec = SourceSpec { format: Some(Format::List), ..spec(root.path()) };
            (root, spec, "contains no list of paths and labels (train.txt, val.txt, …)")
        },
        {
            let root = TempDir::new().unwrap();
            let spec = spec(&root.path().join("absent"));
            (root, spec, "no such folder")
        },
    ])
    .collect();
    for (root, spec, message) in cases {
        let error = DataSource::open(&spec).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(error.starts_with(root.path().to_str().unwrap()), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn contradicting_lines_exclude_only_their_action() {
    let text = "action,path,class,split\n1,a.mp4,x,train\n1,b.mp4,y,train\n2,c.mp4,x,train\n\
                2,c.mp4,,train\n3,d.mp4,y,valid\n4,e.mp4,x,valid";
    let root = folder(&[("manifest.csv", text)]);
    let train = open(root.path()).unwrap().split("train").unwrap();
    assert_eq!(ids(&train), ["2"]);
    let messages: Vec<String> = train.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "action 1: class is \"x\" in line 2 and \"y\" in line 3",
            "action 2: c.mp4: the clip is listed twice in this action"
        ]
    );
}

#[test]
fn a_schema_is_written_as_it_is_read() {
    let mvfoul = Schema::mvfoul().unwrap();
    assert_eq!(Schema::parse(&mvfoul.to_toml(), "written").unwrap(), mvfoul);
    let root = folder(&[(
        "manifest.csv",
        "path,A \"b\",c\n1.mp4,x,1\n2.mp4,\"é \\ \"\"q\"\"\",2\n3.mp4,x,1\n4.mp4,x,2\n",
    )]);
    let inferred = open(root.path()).unwrap();
    let schema = inferred.schema();
    assert_eq!(schema.tasks[0].class_names(), ["x", "é \\ \"q\""]);
    assert_eq!(Schema::parse(&schema.to_toml(), "written").unwrap(), *schema);
}

#[test]
fn a_header_without_a_column_of_paths_is_refused() {
    let folder = folder(&[("train.csv", "filename,label\na.mp4,wave\nb.mp4,clap\n")]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("train.csv, line 1: its first line looks like a header"), "{error}");
}

#[test]
fn tasks_get_unique_names() {
    let rows = ["a.mp4,甲,一,x,p", "b.mp4,甲,二,y,p", "c.mp4,乙,一,x,q", "d.mp4,乙,二,y,q"];
    let table = format!("path,类别,结果,Foul type,foul_type\n{}\n", rows.join("\n"));
    let folder = folder(&[("manifest.csv", &table)]);
    let source = open(folder.path()).unwrap();
    let names: Vec<&str> = source.schema().tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["__", "___2", "foul_type", "foul_type_2"]);
}
