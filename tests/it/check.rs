use std::path::Path;
use std::sync::Mutex;

use polyview::data::check::{CheckReport, check_dataset};
use polyview::data::clip::{ClipError, ClipInfo};
use polyview::data::error::DataError;
use polyview::data::problem::{Level, ProblemKind};
use polyview::data::sampling::WindowSpec;
use serde_json::json;
use tempfile::TempDir;

use crate::common::data::{action, source, write_split};

const WINDOW: WindowSpec = WindowSpec::frames(67, 82, 15.0, 16);

/// Makes up a clip from its name, such as `short_40`.
fn fake(path: &Path) -> Result<ClipInfo, ClipError> {
    let path = path.to_owned();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let good = ClipInfo { frames: 126, width: 398, height: 224, ..ClipInfo::default() };
    match name.split('_').next().unwrap() {
        "missing" => Err(ClipError::Missing(path)),
        "empty" => Err(ClipError::Empty(path)),
        "damaged" => Err(ClipError::Damaged { path, reason: "cut off".into() }),
        "unsupported" => Err(ClipError::Unsupported { path, what: "hevc".into() }),
        "short" => Ok(ClipInfo { frames: 80, ..good }),
        "large" => Ok(ClipInfo { width: 1280, height: 720, ..good }),
        "slow" => Ok(ClipInfo { fps: 24.0, ..good }),
        _ => Ok(good),
    }
}

fn check(root: &TempDir) -> Result<CheckReport, DataError> {
    Ok(check_dataset(&source(root.path())?, &WINDOW, fake, |_, _| {}))
}

fn data_set(actions: serde_json::Value) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write_split(root.path(), "mvfouls/train", &json!({"Actions": actions}).to_string());
    root
}

#[test]
fn a_sound_data_set_has_no_problems() {
    let root = data_set(json!({
        "0": action("Tackling", "Offence", "1.0", &["0/clip_0", "0/clip_1"]),
        "1": action("Dive", "Offence", "1.0", &["1/clip_0", "1/clip_2"]),
        "2": action("Tackling", "Between", "1.0", &["2/clip_0"]),
    }));
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let report = check_dataset(&source(root.path()).unwrap(), &WINDOW, fake, progress);
    assert!(!report.has_errors());
    assert_eq!((report.errors, report.warnings), (0, 0));
    assert_eq!(report.missing_splits, ["valid", "test", "challenge"]);

    let train = &report.splits[0];
    assert_eq!((train.actions, train.kept), (3, 2));
    assert_eq!(train.left_out, [("offence undecided".to_owned(), 1)].into());
    assert_eq!((train.clips["all"], train.clips["ok"]), (5, 5));
    assert_eq!(train.views, [(2, 2)]);
    assert_eq!(train.tasks[0].classes["Offence + No card"], 2);
    assert_eq!(
        train.tasks[1].classes.values().copied().collect::<Vec<_>>(),
        [1, 0, 0, 0, 0, 0, 0, 1]
    );

    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (1..=5).map(|done| (done, 5)).collect::<Vec<_>>());
    let text = report.render();
    assert!(text.contains("No problems found.") && text.contains("offence undecided"), "{text}");
}

#[test]
fn every_kind_of_problem_is_found_with_its_location() {
    let root = data_set(json!({
        "a": action("Tackling", "Offence", "1.0", &["a/missing_0", "a/clip_1", "a/short_2"]),
        "b": action("Holding", "Offence", "3.0", &["b/empty_0", "b/damaged_1", "b/unsupported_2"]),
        "c": action("Holding", "Offence", "6.0", &["c/clip_0"]),
        "d": action("", "Offence", "1.0", &["d/missing_0", "d/clip_1"]),
        "e": action("Holding", "Offence", "3.0", &["e/large_0", "e/slow_1", "../x"]),
    }));
    write_split(root.path(), "mvfouls/valid", "{");
    let report = check(&root).unwrap();
    assert!(report.has_errors());

    let train = &report.splits[0];
    let found: Vec<_> =
        train.problems.iter().map(|p| (p.kind, p.level, p.action.as_deref().unwrap())).collect();
    let (error, warning) = (Level::Error, Level::Warning);
    let expected = [
        (ProblemKind::UnknownValue, error, "c"),
        (ProblemKind::RefusedPath, error, "e"),
        (ProblemKind::ClipMissing, error, "a"),
        (ProblemKind::ClipShort, warning, "a"),
        (ProblemKind::ClipEmpty, error, "b"),
        (ProblemKind::ClipDamaged, error, "b"),
        (ProblemKind::ClipUnsupported, error, "b"),
        (ProblemKind::ClipOdd, warning, "e"),
        (ProblemKind::ClipOdd, warning, "e"),
        // The clip of an action that is left out.
        (ProblemKind::ClipMissing, warning, "d"),
        (ProblemKind::ViewLengths, warning, "a"),
    ];
    assert_eq!(found, expected);
    let counts: Vec<_> = train.clips.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let expected = [
        ("all", 11),
        ("ok", 6),
        ("short", 1),
        ("odd", 2),
        ("missing", 2),
        ("empty", 1),
        ("damaged", 1),
        ("unsupported", 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(train.values["Severity \"6.0\" matches no class of offence_severity"], 1);
    assert_eq!(report.splits[1].problems[0].kind, ProblemKind::Unreadable);
    assert_eq!((report.errors, report.warnings), (7, 5));

    let text = report.render();
    for expected in [
        "missing clip (1)",
        "action a: ",
        "the window of frames 67 to 82 goes past its 80 frames",
        "1280×720 at 25 frames per second, most clips of the split: 398×224 at 25",
        "398×224 at 24 frames per second, most",
        "7 errors, 5 warnings.",
        "Missing splits: test, challenge",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    // A clip's file is named once in its line.
    let line = text.lines().find(|line| line.contains("damaged_1")).unwrap();
    assert_eq!(line.matches("damaged_1").count(), 1, "{line}");

    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["splits"][0]["problems"][2]["kind"], "clip-missing");
    assert_eq!(json["splits"][0]["problems"][2]["level"], "error");
}

#[test]
fn the_report_does_not_depend_on_the_threads() {
    let actions: serde_json::Map<_, _> = (0..200)
        .map(|i| {
            let kind = ["clip", "missing", "short", "large", "damaged"][i % 5];
            let urls = [format!("{i}/{kind}_0"), format!("{i}/clip_1")];
            let urls: Vec<_> = urls.iter().map(String::as_str).collect();
            (i.to_string(), action("Tackling", "Offence", "1.0", &urls))
        })
        .collect();
    let root = data_set(actions.into());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&root).unwrap())
    };
    let one = run(1);
    assert_eq!(one.errors, 80);
    for _ in 0..5 {
        assert_eq!(run(8), one);
    }
    // The text report shortens long lists.
    assert!(one.render().contains("… and 20 more"));
    assert!(one.render().lines().count() < 150);
}

#[test]
fn a_folder_without_splits_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(check(&root), Err(DataError::Layout { .. })));
}
