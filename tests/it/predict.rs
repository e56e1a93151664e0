//! `polyview predict`: which clips it reads, what it reports about those that it cannot read, and
//! the input settings that it takes from the checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use polyview::checkpoint;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::program::{command, text};
use crate::common::run::{run, small_config, with};

/// A trained network, and the folder of an action with three clips, one of which cannot be read.
struct Fixture {
    folder: TempDir,
    best: PathBuf,
    action: PathBuf,
}

impl Fixture {
    fn new(options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
        let config = with(&config, options);
        run(&config);
        let clips = config.data.dataset_root.join("mvfouls/test/action_0");
        let action = folder.path().join("action");
        fs::create_dir(&action).unwrap();
        fs::copy(clips.join("clip_0.mp4"), action.join("clip_0.Mp4")).unwrap();
        fs::write(action.join("clip_1.mp4"), b"x").unwrap();
        fs::copy(clips.join("clip_1.mp4"), action.join("clip_2.m4v")).unwrap();
        // macOS writes such a file beside each file on a foreign file system.
        fs::write(action.join("._clip_0.mp4"), b"Mac OS X").unwrap();
        Self { best: config.run.save_dir.join(checkpoint::BEST), action, folder }
    }

    fn predict(&self, args: &[&str], clips: &[&Path]) -> Output {
        let mut predict = command(&["predict", "--device", "cpu", "--checkpoint"]);
        predict.arg(&self.best).args(args).args(clips).output().unwrap()
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_bad_view_is_reported_and_the_others_decide() {
    let fixture = Fixture::new("");
    let output = fixture.predict(&["--json"], &[&fixture.action]);
    let predicted = &json(&output)[0];
    let clips = |key: &str| -> Vec<PathBuf> {
        let list = predicted[key].as_array().unwrap();
        list.iter().map(|view| view["clip"].as_str().unwrap().into()).collect()
    };
    let at = |name: &str| fixture.action.join(name);
    assert_eq!(clips("views"), [at("clip_0.Mp4"), at("clip_2.m4v")]);
    assert_eq!(clips("unreadable"), [at("clip_1.mp4")]);
    assert!(predicted["unreadable"][0]["reason"].as_str().unwrap().contains("damaged"));
    let shown = text(&output.stderr);
    assert!(shown.contains("clip_1.mp4: damaged") && !shown.contains("._clip"), "{shown}");

    // Among several actions, one without a readable view is listed without a prediction.
    let bad = fixture.folder.path().join("all/b");
    fs::create_dir_all(&bad).unwrap();
    fs::write(bad.join("clip_0.mp4"), b"x").unwrap();
    fs::write(bad.join("clip_1.mp4"), b"x").unwrap();
    let all = fixture.folder.path().join("all");
    fs::create_dir(all.join("c")).unwrap();
    fs::copy(at("clip_2.m4v"), all.join("c/clip_0.mp4")).unwrap();
    let output = json(&fixture.predict(&["--json"], &[&all]));
    assert_eq!((&output[0]["action"], &output[1]["action"]), (&"b".into(), &"c".into()));
    let counts = |action: usize| {
        let count = |key: &str| output[action][key].as_array().unwrap().len();
        (count("views"), count("unreadable"), output[action]["tasks"].as_object().unwrap().len())
    };
    assert_eq!((counts(0), counts(1)), ((0, 2, 0), (1, 0, 2)));
    // With nothing to predict from: a line for each clip, and a failure.
    let output = fixture.predict(&[], &[&bad]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    for line in ["b/clip_0.mp4: damaged", "b/clip_1.mp4: damaged", "error: none of the clips"] {
        assert_eq!(shown.matches(line).count(), 1, "{shown}");
    }
    assert_eq!(text(&output.stdout), "");
    // With --json, the failure lists them too.
    let output = fixture.predict(&["--json"], &[&bad]);
    assert_eq!(output.status.code(), Some(1));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed[0]["unreadable"].as_array().unwrap().len(), 2);
}

#[test]
fn several_folders_are_actions_and_a_table_has_a_row_for_each() {
    let fixture = Fixture::new("");
    let (at, all) =
        (|name: &str| fixture.folder.path().join(name), fixture.folder.path().join("all"));
    // Two folders of the same name in different places, and a folder of folders.
    let copies = [at("first/a"), at("second/a"), all.join("b"), all.join("c")];
    for copy in &copies {
        fs::create_dir_all(copy).unwrap();
        fs::copy(fixture.action.join("clip_0.Mp4"), copy.join("clip_0.mp4")).unwrap();
    }
    let table = at("table.csv");
    let args = ["--json", "--predictions", table.to_str().unwrap()];
    let given: [&Path; 3] = [&copies[0], &copies[1], &all];
    let predicted = json(&fixture.predict(&args, &given));
    let path = |index: usize| copies[index].to_str().unwrap();
    let names = [path(0), path(1), "b", "c"];
    for (action, name) in predicted.as_array().unwrap().iter().zip(names) {
        assert_eq!(action["action"], name);
    }
    assert_eq!(predicted.as_array().unwrap().len(), 4);
    // The table has the same actions and classes, and no labels.
    let mut rows = csv::Reader::from_path(&table).unwrap();
    let header = rows.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|field| field == name).unwrap();
    let task = predicted[0]["tasks"].as_object().unwrap().keys().next().unwrap().clone();
    for (index, row) in rows.records().map(Result::unwrap).enumerate() {
        assert_eq!(&row[column("action")], names[index]);
        let class = &predicted[index]["tasks"][&task][0]["class"];
        assert_eq!(class, &row[column(&task)]);
        assert_eq!(&row[column(&format!("{task}_label"))], "");
    }
    // The next call replaces the table, but no other file in its place.
    assert!(fixture.predict(&args[1..], &given).status.success());
    fs::write(&table, "my notes").unwrap();
    let output = fixture.predict(&args, &given);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("table.csv: already exists"), "{output:?}");

    // With --each, every clip is an action; clips of the same name are shown with their paths.
    let each = json(&fixture.predict(&["--json", "--each"], &[&copies[0], &fixture.action]));
    let names: Vec<&str> =
        each.as_array().unwrap().iter().map(|action| action["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["clip_0.mp4", "clip_0.Mp4", "clip_1.mp4", "clip_2.m4v"]);
    let each = json(&fixture.predict(&["--json", "--each"], &[&copies[0], &copies[1]]));
    assert_eq!(each[1]["action"], copies[1].join("clip_0.mp4").to_str().unwrap());

    let mixed = fixture.predict(&[], &[&copies[0].join("clip_0.mp4"), &all]);
    assert_eq!(mixed.status.code(), Some(2));
    let shown = text(&mixed.stderr);
    assert!(
        shown.contains("clip_0.mp4 is a clip and") && shown.contains("all a folder"),
        "{shown}"
    );
}

#[test]
fn folders_of_images_are_clips() {
    let fixture = Fixture::new("");
    let all = fixture.folder.path().join("all");
    let mut clips = Vec::new();
    for (action, views) in [("a", 2), ("b", 1)] {
        for view in 0..views {
            let clip = all.join(action).join(format!("clip_{view}"));
            fs::create_dir_all(&clip).unwrap();
            for frame in 0..3 {
                let image = image::RgbImage::new(40, 32);
                image.save(clip.join(format!("{frame}.png"))).unwrap();
            }
            clips.push(clip);
        }
    }
    let views = |given: &[&Path]| -> Vec<Vec<PathBuf>> {
        let output = json(&fixture.predict(&["--json"], given));
        let clip = |view: &Value| PathBuf::from(view["clip"].as_str().unwrap());
        let clips = |action: &Value| action["views"].as_array().unwrap().iter().map(clip).collect();
        output.as_array().unwrap().iter().map(clips).collect()
    };
    assert_eq!(views(&[&all]), [&clips[..2], &clips[2..]]);
    assert_eq!(views(&[&all.join("a")]), [&clips[..2]]);
    assert_eq!(views(&[&clips[0], &clips[2]]), [[clips[0].clone(), clips[2].clone()]]);
    // Images beside a clip are not another view.
    fs::copy(fixture.action.join("clip_0.Mp4"), all.join("b/clip.mp4")).unwrap();
    assert_eq!(views(&[&all])[1], [all.join("b/clip.mp4")]);
}

#[test]
fn hidden_files_are_not_clips_even_if_given_explicitly() {
    let fixture = Fixture::new("");
    let at = |name: &str| fixture.action.join(name);
    let output = fixture.predict(&["--json"], &[&at("._clip_0.mp4"), &at("clip_0.Mp4")]);
    assert_eq!(json(&output)[0]["views"].as_array().unwrap().len(), 1);
    let shown = text(&output.stderr);
    assert_eq!(shown.matches("._clip_0.mp4: left out: its name begins with a dot").count(), 1);
    let output = fixture.predict(&[], &[&at("._clip_0.mp4")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("begins with a dot"), "{}", text(&output.stderr));
}

#[test]
fn two_dashes_end_the_options() {
    let fixture = Fixture::new("");
    for name in ["-odd.mp4", "--odd_name.mp4"] {
        fs::copy(fixture.action.join("clip_0.Mp4"), fixture.folder.path().join(name)).unwrap();
    }
    let mut predict = command(&["predict", "--json", "--device=cpu", "--num_workers", "0"]);
    predict.arg("--checkpoint").arg(&fixture.best).current_dir(fixture.folder.path());
    predict.args(["--", "-odd.mp4", "--odd_name.mp4"]);
    let output = json(&predict.output().unwrap());
    assert_eq!(output[0]["views"][1]["clip"], "--odd_name.mp4");
    for (args, words) in [
        (&["train", "--", "data"][..], "data: give the data set as --dataset-root data"),
        (&["train", "--dataset-root", "d", "--", "e"], "unexpected argument"),
    ] {
        let output = command(args).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn the_input_is_the_checkpoints_unless_an_option_says_otherwise() {
    let fixture = Fixture::new("--max-views 1");
    fs::remove_file(fixture.action.join("clip_1.mp4")).unwrap();
    let views = |args: &[&str]| {
        let args = [&["--json"], args].concat();
        let output = fixture.predict(&args, &[&fixture.action]);
        (json(&output)[0]["views"].as_array().unwrap().len(), text(&output.stderr))
    };
    let (one, shown) = views(&[]);
    assert_eq!(one, 1);
    assert!(!shown.contains("instead of"), "{shown}");
    let all = [
        ("--max-views", "2", "1"),
        ("--img-height", "32", "16"),
        ("--img-width", "48", "16"),
        ("--frames-per-clip", "4", "2"),
        ("--target-fps", "12.5", "25"),
        ("--start-frame", "1", "2"),
        ("--end-frame", "9", "5"),
    ];
    let args: Vec<&str> = all.iter().flat_map(|(option, value, _)| [*option, *value]).collect();
    let (two, shown) = views(&args);
    assert_eq!(two, 2);
    let data = fixture.folder.path().join("data");
    let mut evaluate = command(&["evaluate", "--device", "cpu", "--checkpoint"]);
    let evaluated = evaluate.arg(&fixture.best).arg("--dataset-root").arg(data).args(&args);
    let evaluated = evaluated.output().unwrap();
    for shown in [shown, text(&evaluated.stderr)] {
        for (option, value, trained) in all {
            let line = format!("{option} {value} instead of the checkpoint's {trained}\n");
            assert_eq!(shown.matches(&line).count(), 1, "{line}{shown}");
        }
    }
    // An option that equals the checkpoint's value is not reported.
    assert!(!views(&["--img-height", "16", "--max-views", "1"]).1.contains("instead of"));
    for (args, error) in [
        (["--start-frame", "6"], "--end-frame 5: must not be before --start-frame 6"),
        (["--img-width", "8"], "--img-width 8: must be a whole number between 16 and 4096"),
        (["--max-views", "0"], "--max-views 0: must be a whole number of at least 1"),
    ] {
        let output = fixture.predict(&args, &[&fixture.action]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(error), "{}", text(&output.stderr));
    }
}
