//! `polyview check-data` as a user runs it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::data::{small_set, write_split};
use crate::common::program::{command, last_error, polyview, text};

fn case(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases").join(name);
    folder.to_str().expect("the repository has a Unicode path").to_owned()
}

/// Checks a case's data set, whose clips have 20 frames.
fn checked(name: &str) -> (Option<i32>, String, Value) {
    let root = case(name);
    let args = ["check-data", "--dataset-root", &root, "--start-frame", "0", "--end-frame", "9"];
    let output = polyview(&args);
    let json = polyview(&[&args[..], &["--json"]].concat());
    assert_eq!(json.status.code(), output.status.code());
    let json = serde_json::from_slice(&json.stdout).unwrap();
    (output.status.code(), text(&output.stdout), json)
}

fn kinds(json: &Value, split: usize) -> Vec<&str> {
    let problems = json["splits"][split]["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["kind"].as_str().unwrap()).collect()
}

#[test]
fn nan_and_utf16_are_read_and_reported() {
    let (status, text, json) = checked("annotations_nan_utf16");
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("train: annotations.json: line 10, column 23: NaN is not JSON"),
        "{text}"
    );
    assert!(text.contains("valid: annotations.json: is saved as UTF-16"), "{text}");
    assert_eq!(json["splits"][0]["kept"], 1);
    assert_eq!(json["splits"][1]["kept"], 1);
    assert!(kinds(&json, 0).contains(&"not-finite"), "{json:#}");
    assert!(kinds(&json, 1).contains(&"encoding"), "{json:#}");
}

#[test]
fn one_clip_in_two_actions_and_two_splits_is_reported() {
    let (status, text, json) = checked("same_clip_in_two_places");
    assert_eq!(status, Some(0), "{text}");
    for line in [
        "train, action 1: action_0/clip_0.mp4: Action class: \"Holding\" here, \"Tackling\" in action 0 of \
         train",
        "valid, action 0: action_0/clip_0.mp4: the same clip is in actions 0, 1 of train",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert_eq!(kinds(&json, 0), ["contradicting-labels"]);
    assert_eq!(kinds(&json, 1), ["contradicting-labels", "clip-in-two-splits"]);
    assert_eq!(json["same_clips"][0]["places"].as_array().unwrap().len(), 3);
}

#[test]
fn clips_with_and_without_rotation_are_reported() {
    let (status, text, json) = checked("rotation_unmentioned");
    assert_eq!(status, Some(0), "{text}");
    let line = "train: 1 clip turned by 270° clockwise, as the metadata says, 1 clip not turned";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("train: 1 clip taller than wide, 1 clip wider than tall"), "{text}");
    assert!(kinds(&json, 0).contains(&"mixed-rotation"), "{json:#}");
    let formats = json["splits"][0]["formats"].as_array().unwrap();
    let turned = formats.iter().find(|format| format["rotation"] == 270).unwrap();
    assert_eq!((&turned["width"], &turned["height"]), (&json!(32), &json!(48)));
}

#[test]
fn evaluate_reads_what_check_data_reads() {
    let folder = TempDir::new().unwrap();
    let truth = PathBuf::from(case("annotations_nan_utf16")).join("mvfouls/valid/annotations.json");
    let predictions = folder.path().join("predictions.json");
    let written = "\u{feff}{\"Actions\": {\"0\": {\"Action class\": \"Tackling\", \"Offence\": \"Offence\", \
                   \"Severity\": \"1.0\", \"Confidence\": NaN}}}";
    std::fs::write(&predictions, written).unwrap();
    let [truth, file] = [&truth, &predictions].map(|path| path.to_str().unwrap());
    let evaluate = ["evaluate", "--ground-truth", truth, "--predictions", file];
    let output = polyview(&evaluate);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("UTF-16") && errors.contains("NaN is not JSON"), "{errors}");
    std::fs::write(&predictions, "{\"Actions\": {\"0\": None}}").unwrap();
    let error = last_error(&polyview(&evaluate));
    assert!(error.contains("line 1, column 19") && error.contains("`None` is Python"), "{error}");
    // `evaluate` also writes a table, but SoccerNet's evaluator reads only JSON.
    let table = folder.path().join("predictions.csv");
    std::fs::write(&table, "action,task\n0,1\n").unwrap();
    let table = table.to_str().unwrap();
    let error = last_error(&polyview(&[&evaluate[..4], &[table]].concat()));
    assert!(error.contains("predictions.csv: ") && error.contains("evaluator are JSON"), "{error}");
}

#[test]
fn the_sheet_is_drawn_and_bad_names_are_refused_before_the_check() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let clip = data.join("mvfouls/train/action_0/clip_1.mp4");
    std::fs::write(clip, b"no video").unwrap();
    let sheet = folder.path().join("sheet.PNG");
    let run = |sheet: &Path| {
        let mut command = command(&[
            "check-data",
            "--start-frame=2",
            "--end-frame=9",
            "--target-fps=25",
            "--json",
        ]);
        command.arg("--dataset-root").arg(&data).arg("--sheet").arg(sheet);
        command.output().expect("the program starts")
    };
    let output = run(&sheet);
    assert_eq!(output.status.code(), Some(1), "the damaged clip: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains("contact sheet: "), "{}", text(&output.stderr));
    let image = image::open(&sheet).unwrap().into_rgb8();
    // Three splits of 6 actions of 2 views, 8 frames of 96 × 96 each.
    let (width, height) = image.dimensions();
    assert!(width > 8 * 96 && (36 * 96..36 * 110).contains(&height), "{width}×{height}");
    let colours = |x: u32, y: u32| (x..x + 96).map(|x| image[(x, y)]).collect::<Vec<_>>();
    let last = colours(width - 100, height - 50);
    assert!(last.iter().any(|pixel| *pixel != last[0]), "a frame is empty");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    for (name, reason) in [
        ("sheet.jpg", "must end with .png"),
        ("none/sheet.png", "there is no folder"),
        ("folder.png", "is a folder"),
    ] {
        std::fs::create_dir_all(folder.path().join("folder.png")).unwrap();
        let output = run(&folder.path().join(name));
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let error = last_error(&output);
        assert!(error.contains("--sheet") && error.contains(reason), "{error}");
    }
    let long = "a".repeat(300) + ".png";
    let output = run(&folder.path().join(long));
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true));

    // A picture of the data set is never overwritten.
    let images = folder.path().join("images");
    let frame = images.join("train/run/clip/0001.png");
    for class in ["run", "fall"] {
        let clip = images.join("train").join(class).join("clip");
        std::fs::create_dir_all(&clip).unwrap();
        image::RgbImage::new(32, 32).save(clip.join("0001.png")).unwrap();
    }
    let before = std::fs::read(&frame).unwrap();
    let mut check = command(&["check-data", "--dataset-root"]);
    let output = check.arg(&images).arg("--sheet").arg(&frame).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(last_error(&output).contains("belongs to the data set"), "{}", last_error(&output));
    assert!(std::fs::read(&frame).unwrap() == before);
}

#[test]
fn a_window_that_ends_before_it_starts_is_refused() {
    let root = case("same_clip_in_two_places");
    let output = polyview(&[
        "check-data",
        "--dataset-root",
        &root,
        "--start-frame",
        "9",
        "--end-frame",
        "2",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(last_error(&output).contains("--end-frame 2: must not be before --start-frame 9"));
}

/// macOS refuses such names.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_unicode_are_reported() {
    use std::os::unix::ffi::OsStrExt;

    let folder = TempDir::new().unwrap();
    let root = folder.path().join(std::ffi::OsStr::from_bytes(b"d\xe9"));
    write_split(&root, "train", "{\"Actions\": {}}");
    for more in [&[][..], &["--json"]] {
        let mut command = command(&["check-data"]);
        let output = command.arg("--dataset-root").arg(&root).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("d\u{fffd}"), "{}", text(&output.stdout));
    }
}

#[test]
fn the_splits_that_training_would_make_are_checked() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let checked = |more: &[&str]| {
        let mut command = command(&["check-data", "--start-frame=2", "--end-frame=9", "--json"]);
        let output = command.arg("--dataset-root").arg(&data).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |split: &Value| {
            (split["name"].as_str().unwrap().to_owned(), split["kept"].as_u64().unwrap())
        };
        json["splits"].as_array().unwrap().iter().map(count).collect::<Vec<_>>()
    };
    let own = checked(&[]);
    let [train, valid, test] = &own[..] else { panic!("{own:?}") };
    let fold = checked(&["--fold", "2/4"]);
    let all = train.1 + valid.1;
    let expected = [("train", all - all / 4), ("valid", all / 4), ("test", test.1)];
    assert_eq!(fold, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn a_table_in_the_current_folder_keeps_its_paths() {
    let folder = TempDir::new().unwrap();
    let lines: String = (0..20).map(|n| format!("foldcla/b{n}.mp4,{}\n", n % 2)).collect();
    std::fs::write(folder.path().join("bad.csv"), format!("path,class\n{lines}")).unwrap();
    let mut command = command(&["check-data", "--dataset-root", "bad.csv"]);
    let output = command.current_dir(folder.path()).output().unwrap();
    assert!(text(&output.stdout).contains("foldcla/b0.mp4"), "{}", text(&output.stdout));
}

#[test]
fn no_sheet_is_written_among_clips_that_are_not_known() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let train = data.join("mvfouls/train");
    std::fs::write(train.join("annotations.json"), "{").unwrap();
    let root = data.to_str().unwrap();
    let check = |sheet: &Path| {
        let options =
            ["--start-frame", "2", "--end-frame", "5", "--sheet", sheet.to_str().unwrap()];
        polyview(&[&["check-data", "--dataset-root", root][..], &options].concat())
    };
    let inside = train.join("sheet.png");
    let output = check(&inside);
    assert_eq!(output.status.code(), Some(2));
    let error = last_error(&output);
    let reason = "may belong to its split train, which cannot be read (";
    assert!(error.starts_with("error: --sheet ") && error.contains(reason), "{error}");
    assert!(error.contains("; choose another file") && !inside.exists(), "{error}");
    // What is wrong with the data set can still be read, and drawn elsewhere.
    let outside = folder.path().join("sheet.png");
    let output = check(&outside);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("annotations.json") && outside.exists());
}

#[test]
fn a_split_that_would_be_empty_does_not_refuse_a_sheet() {
    let folder = TempDir::new().unwrap();
    // Two actions are too few for the three splits that are made.
    for class in ["run", "fall"] {
        let clip = folder.path().join(class).join("clip");
        std::fs::create_dir_all(&clip).unwrap();
        image::RgbImage::new(32, 32).save(clip.join("0001.png")).unwrap();
    }
    let check = |sheet: &Path| {
        let mut check = command(&["check-data", "--dataset-root"]);
        check.arg(folder.path()).arg("--sheet").arg(sheet).output().unwrap()
    };
    // The clips are known, and still protected.
    let frame = folder.path().join("run/clip/0001.png");
    let before = std::fs::read(&frame).unwrap();
    let output = check(&frame);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(last_error(&output).contains("belongs to the data set"), "{}", last_error(&output));
    assert!(std::fs::read(&frame).unwrap() == before);
    let sheet = folder.path().join("sheet.png");
    let output = check(&sheet);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("too few to hold out a test split"), "{stdout}");
    assert!(sheet.exists(), "{}", text(&output.stderr));
}
