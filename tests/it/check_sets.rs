//! Problems that `check-data` finds across the clips and splits of a data set.

use std::path::Path;

use polyview::data::Window;
use polyview::data::check::{CheckReport, check_dataset};
use polyview::data::clip::{ClipError, ClipInfo};
use polyview::data::problem::{Level, Problem, ProblemKind};
use polyview::data::sampling::WindowSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::data::{action, source, write_split};

const WINDOW: WindowSpec = WindowSpec::frames(0, 15, 25.0, 16);

/// Returns a clip of 100 frames of 64×48.
fn plain() -> ClipInfo {
    ClipInfo { frames: 100, width: 64, height: 48, ..ClipInfo::default() }
}

/// Makes up a clip from the words of its name, such as `turned-90_long`.
fn fake(path: &Path) -> Result<ClipInfo, ClipError> {
    let mut info = plain();
    for word in path.file_stem().unwrap().to_str().unwrap().split('_') {
        match word {
            "turned" => info = ClipInfo { rotation: 90, width: 48, height: 64, ..info },
            "flipped" => info.rotation = 180,
            "mirrored" => (info.rotation, info.mirrored) = (180, true),
            "even" => info.drift = 0.03,
            "uneven" => info.drift = 0.41,
            "tall" => (info.width, info.height) = (48, 64),
            "anamorphic" => info.pixel_aspect = [16, 11],
            "half" => info.frames = 50,
            "fast" => (info.fps, info.frames) = (50.0, 200),
            "slow" => info.fps = 12.5,
            "repaired" => info.complaint = Some("starts between key frames".into()),
            _ => {}
        }
    }
    Ok(info)
}

fn check(root: &TempDir) -> CheckReport {
    check_with(root, &WINDOW)
}

fn check_with(root: &TempDir, window: &WindowSpec) -> CheckReport {
    check_dataset(&source(root.path()).unwrap(), window, fake, |_, _| {})
}

/// Writes a split of actions with these clips, all with the same labels.
fn split(root: &TempDir, name: &str, actions: &[(&str, &[&str])]) {
    let entry = |(id, clips): &(&str, &[&str])| {
        ((*id).to_owned(), action("Tackling", "Offence", "1.0", clips))
    };
    let actions: serde_json::Map<String, Value> = actions.iter().map(entry).collect();
    write_split(root.path(), name, &json!({"Actions": actions}).to_string());
}

fn file(root: &TempDir, path: &str, content: &[u8]) {
    let path = root.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn of_kind(report: &CheckReport, kind: ProblemKind) -> Vec<(&str, &Problem)> {
    let problems = report
        .splits
        .iter()
        .flat_map(|split| split.problems.iter().map(move |problem| (split.name.as_str(), problem)));
    problems.filter(|(_, problem)| problem.kind == kind).collect()
}

fn messages(report: &CheckReport, kind: ProblemKind) -> Vec<(&str, &str, &str)> {
    let problems = of_kind(report, kind).into_iter();
    problems
        .map(|(split, p)| (split, p.action.as_deref().unwrap_or(""), p.message.as_str()))
        .collect()
}

#[test]
fn equal_clips_are_found_wherever_they_are() {
    let root = tempfile::tempdir().unwrap();
    split(
        &root,
        "train",
        &[
            ("0", &["0/a", "0/b"]),
            ("1", &["1/a"]),
            ("2", &["2/a", "2/copy"]),
            ("3", &["3/other"]),
            ("4", &["4/frames"]),
        ],
    );
    split(&root, "valid", &[("7", &["7/x", "7/y"]), ("8", &["8/z"]), ("9", &["9/frames"])]);
    for (path, content) in [
        ("train/0/a.mp4", b"one " as &[u8]),
        ("train/0/b.mp4", b"two "),
        ("train/1/a.mp4", b"alone"),
        ("train/2/a.mp4", b"alone"),
        ("train/2/copy.mp4", b"alone"),
        // The same size, but different content.
        ("train/3/other.mp4", b"none "),
        ("train/4/frames/1.png", b"first"),
        ("train/4/frames/2.png", b"second"),
        // Hidden files are not part of a clip.
        ("train/4/frames/._1.png", b"xx"),
        ("valid/7/x.mp4", b"two "),
        ("valid/7/y.mov", b"one "),
        ("valid/8/z.mp4", b""),
        ("valid/9/frames/001.png", b"first"),
        ("valid/9/frames/002.png", b"second"),
    ] {
        file(&root, path, content);
    }
    let report = check(&root);
    assert_eq!(report.errors, 0);
    let (leaks, twice) = (ProblemKind::ClipInTwoSplits, ProblemKind::ClipInTwoActions);
    let expected = [
        ("valid", "9", "the same clip is in action 4 of train"),
        ("valid", "7", "this and 1 more of its clips are in action 0 of train"),
    ];
    let mut found = messages(&report, leaks);
    found.sort_unstable_by_key(|(_, id, _)| std::cmp::Reverse(*id));
    assert_eq!(found, expected);
    assert_eq!(messages(&report, twice), [("train", "2", "the same clip is in action 1 of train")]);
    let duplicates = of_kind(&report, ProblemKind::DuplicateClip);
    assert_eq!(duplicates.len(), 1);
    assert!(duplicates[0].1.to_string().starts_with("action 2: "), "{}", duplicates[0].1);
    assert!(of_kind(&report, ProblemKind::ContradictingLabels).is_empty());

    let json = serde_json::to_value(&report).unwrap();
    let places = json["same_clips"].as_array().unwrap();
    assert_eq!(places.len(), 4);
    assert_eq!(places[0]["places"][1]["split"], "valid");
    assert_eq!(places[0]["places"][1]["action"], "7");
    let text = report.render();
    let line = "valid, action 7: 7/y: this and 1 more of its clips are in action 0 of train";
    assert!(
        text.contains(line) && text.contains("scores on training clips are too optimistic"),
        "{text}"
    );
}

#[test]
fn contradicting_labels_are_named_with_both_actions() {
    let root = tempfile::tempdir().unwrap();
    let actions = json!({
        "0": action("Tackling", "Offence", "1.0", &["a/clip.mp4"]),
        "1": action("Holding", "Offence", "3.0", &["Dataset/Train/a/clip"]),
        // This action is left out, so its labels contradict nothing.
        "2": action("", "Offence", "1.0", &["a/clip"]),
        "3": action("Tackling", "Offence", "1.0", &["a/clip"]),
    });
    write_split(root.path(), "train", &json!({"Actions": actions}).to_string());
    let challenge = json!({"Actions": {"5": {"Clips": [{"Url": "clip"}]}}});
    write_split(root.path(), "challenge", &challenge.to_string());
    file(&root, "train/a/clip.mp4", b"same");
    file(&root, "challenge/clip.mp4", b"same");
    let report = check(&root);
    let contradictions = messages(&report, ProblemKind::ContradictingLabels);
    let expected = [
        (
            "train",
            "1",
            "Offence and severity: \"Offence + Yellow card\" here, \"Offence + No card\" in action 0 of \
             train; Action class: \"Holding\" here, \"Tackling\" in action 0 of train, for the same clip",
        ),
        (
            "train",
            "3",
            "Offence and severity: \"Offence + No card\" here, \"Offence + Yellow card\" in action 1 of \
             train; Action class: \"Tackling\" here, \"Holding\" in action 1 of train, for the same clip",
        ),
    ];
    assert_eq!(contradictions, expected);
    let leaks = messages(&report, ProblemKind::ClipInTwoSplits);
    assert_eq!(leaks, [("challenge", "5", "the same clip is in actions 0, 1, 3 of train")]);
    assert!(!report.has_errors());
}

#[cfg(unix)]
#[test]
fn links_are_the_same_clip() {
    let root = tempfile::tempdir().unwrap();
    split(&root, "train", &[("0", &["a"])]);
    split(&root, "test", &[("0", &["a"]), ("1", &["b"])]);
    file(&root, "train/a.mp4", b"content");
    std::os::unix::fs::symlink("../train/a.mp4", root.path().join("test/a.mp4")).unwrap();
    std::fs::hard_link(root.path().join("train/a.mp4"), root.path().join("test/b.mp4")).unwrap();
    let report = check(&root);
    let expected = [
        ("test", "0", "the same clip is in action 0 of train"),
        ("test", "1", "the same clip is in action 0 of train"),
    ];
    assert_eq!(messages(&report, ProblemKind::ClipInTwoSplits), expected);
}

#[test]
fn many_equal_clips_give_the_same_report_on_any_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..60).map(|i| i.to_string()).collect();
    let urls: Vec<[&str; 1]> = ids.iter().map(|id| [id.as_str()]).collect();
    let actions: Vec<(&str, &[&str])> =
        ids.iter().zip(&urls).map(|(id, urls)| (id.as_str(), urls.as_slice())).collect();
    for name in ["train", "valid"] {
        split(&root, name, &actions);
        for (i, id) in ids.iter().enumerate() {
            file(&root, &format!("{name}/{id}.mp4"), &[(i % 20) as u8 + 1; 3]);
        }
    }
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(&root))
    };
    let one = run(1);
    assert_eq!(messages(&one, ProblemKind::ClipInTwoSplits).len(), 60);
    assert_eq!(messages(&one, ProblemKind::ClipInTwoActions).len(), 80);
    assert_eq!(run(8), one);
    assert!(one.render().lines().count() < 100);
}

#[test]
fn a_split_without_a_usable_action_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let actions = json!({
        "0": action("Tackling", "Between", "1.0", &["a"]),
        "1": action("", "Offence", "1.0", &["b"]),
        "2": action("Tackling", "Between", "1.0", &["c"]),
    });
    write_split(root.path(), "train", &json!({"Actions": actions}).to_string());
    write_split(root.path(), "valid", "{\"Actions\": {}}");
    write_split(root.path(), "challenge", "{\"Actions\": {}}");
    let report = check(&root);
    let found = of_kind(&report, ProblemKind::NoUsableAction);
    let levels: Vec<_> = found.iter().map(|(split, p)| (*split, p.level)).collect();
    let expected =
        [("train", Level::Error), ("valid", Level::Error), ("challenge", Level::Warning)];
    assert_eq!(levels, expected);
    let message = "none of its 3 actions can be used: offence undecided (2), no action class (1); fix \
                   this, or remove the split's folder";
    assert_eq!(found[0].1.message, message);
    assert!(found[1].1.message.contains("contain no action"), "{}", found[1].1);
    assert!(report.has_errors());
}

#[test]
fn mixtures_are_counted() {
    let root = tempfile::tempdir().unwrap();
    split(
        &root,
        "train",
        &[
            ("0", &["0/clip", "0/clip-1"]),
            ("1", &["1/turned", "1/clip"]),
            ("2", &["2/flipped", "2/mirrored"]),
            ("3", &["3/anamorphic", "3/repaired"]),
        ],
    );
    // Clips that all have the same properties.
    split(&root, "valid", &[("0", &["turned"]), ("1", &["turned-1_turned"])]);
    split(&root, "test", &[("0", &["tall"]), ("1", &["clip"])]);
    let report = check(&root);
    let rotation = "5 clips not turned, 1 clip turned by 90° clockwise, as the metadata says, 1 clip turned by 180° clockwise, as \
                    the metadata says, 1 clip mirrored left to right, as the metadata says; in 2 actions the \
                    views differ";
    assert_eq!(messages(&report, ProblemKind::MixedRotation), [("train", "", rotation)]);
    let expected = [
        (
            "train",
            "",
            "1 clip taller than wide, 7 clips wider than tall; in 1 action the views differ",
        ),
        ("test", "", "1 clip taller than wide, 1 clip wider than tall"),
    ];
    assert_eq!(messages(&report, ProblemKind::MixedOrientation), expected);
    let aspect = "7 clips with square pixels, 1 clip with pixels of 16:11";
    assert_eq!(messages(&report, ProblemKind::MixedPixelAspect), [("train", "", aspect)]);
    let complaint = "some frames may be missing or broken: starts between key frames";
    assert_eq!(messages(&report, ProblemKind::ClipConcealed), [("train", "3", complaint)]);
    assert!(!report.has_errors());

    let formats: Vec<_> =
        report.splits[0].formats.iter().map(|format| (format.to_string(), format.clips)).collect();
    let format = |text: &str| format!("64×48 at 25 frames per second{text}");
    let expected = [
        (format(""), 4),
        ("48×64 at 25 frames per second, turned by 90° clockwise".to_owned(), 1),
        (format(", turned by 180° clockwise"), 1),
        (format(", mirrored left to right"), 1),
        (format(", pixels 16:11"), 1),
    ];
    assert_eq!(formats, expected);
    let text = report.render();
    let line = text.lines().find(|line| line.starts_with("48×64")).unwrap();
    assert!(line.split_whitespace().rev().take(3).eq(["0", "2", "1"]), "{text}");
}

#[test]
fn uneven_times_matter_to_windows_in_seconds() {
    let root = tempfile::tempdir().unwrap();
    split(&root, "train", &[("0", &["0/clip", "0/even"]), ("1", &["1/uneven"])]);
    let seconds = Window::Seconds { start: 0.5, end: 1.0 };
    let report = check_with(&root, &WindowSpec { window: seconds, ..WINDOW });
    let message = "frames are up to 0.41 s away from their times at the mean rate";
    assert_eq!(messages(&report, ProblemKind::UnevenTimes), [("train", "1", message)]);
    assert!(report.render().contains("give the window in frames"), "{}", report.render());
    assert_eq!(messages(&check(&root), ProblemKind::UnevenTimes), []);
}

#[test]
fn views_of_different_length_are_named() {
    let root = tempfile::tempdir().unwrap();
    split(
        &root,
        "train",
        &[
            ("0", &["0/clip", "0/half"]),
            // Equally long, but the same frame number is another moment.
            ("1", &["1/clip", "1/fast"]),
            // Equally many frames, but twice as long.
            ("2", &["2/clip", "2/slow"]),
            ("3", &["3/half", "3/half-1_half"]),
        ],
    );
    let report = check(&root);
    let expected = [
        ("train", "0", "its views have 100 (4.00 s), 50 (2.00 s) frames"),
        ("train", "1", "its views have 100 (4.00 s), 200 (4.00 s) frames"),
        ("train", "2", "its views have 100 (4.00 s), 100 (8.00 s) frames"),
    ];
    assert_eq!(messages(&report, ProblemKind::ViewLengths), expected);
}

#[test]
fn repeated_frames_are_counted_per_split() {
    let root = tempfile::tempdir().unwrap();
    split(&root, "train", &[("0", &["0/clip"]), ("1", &["1/slow"])]);
    split(&root, "valid", &[("0", &["0/clip"])]);
    let report = check(&root);
    assert!(report.splits.iter().all(|split| split.repeats.is_none()));

    // At 15 frames per second, a clip of 25 frames per second has 10 frames in the window.
    let report = check_with(&root, &WindowSpec { target_fps: 15.0, ..WINDOW });
    let repeats = report.splits[0].repeats.as_ref().unwrap();
    assert_eq!((repeats.clips, repeats.fewest, repeats.target_fps), (1, 10, Some(25.0)));
    let text = report.render();
    let rest = "10 of 16 sampled frames are distinct; use --target-fps 25\n";
    assert!(text.contains(&format!("  train: in 1 clip only {rest}")), "{text}");
    assert!(text.contains(&format!("  valid: in all clips only {rest}")), "{text}");
    assert_eq!(report.warnings, report.splits[0].clips["odd"]);
    let text = check_with(&root, &WindowSpec { target_fps: 5.0, ..WINDOW }).render();
    assert!(text.contains("  train: in all clips only 4 to "), "{text}");

    let report = check_with(&root, &WindowSpec::frames(0, 7, 25.0, 16));
    assert_eq!(report.splits[0].repeats.as_ref().unwrap().target_fps, None);
    let text = report.render();
    assert!(text.contains("  train, valid: in all clips only 8 of 16 sampled frames"), "{text}");
    assert!(text.contains("the window has only 8 frames"), "{text}");
}

#[test]
fn the_most_harmful_problems_come_first() {
    let root = tempfile::tempdir().unwrap();
    let actions = json!({
        "0": action("Tackling", "Offence", "1.0", &["a/clip", "a/half"]),
        "1": action("Kicking", "Offence", "1.0", &["b/clip"]),
    });
    write_split(root.path(), "train", &json!({"Set": "test", "Actions": actions}).to_string());
    split(&root, "valid", &[("0", &["clip"])]);
    file(&root, "train/a/clip.mp4", b"same");
    file(&root, "valid/clip.mp4", b"same");
    let text = check(&root).render();
    let order = [
        "split  actions",
        "Errors\n  unknown value (1)",
        "Warnings\n  same clip in two splits (1)",
        "  views of different length (1)",
        "  other split named (1)",
        "Action class  ",
        "clips by format",
        "1 error, 3 warnings.",
    ];
    let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{text}");
    // Paths are relative to the split.
    assert!(
        !text.lines().skip(1).any(|line| line.contains(root.path().to_str().unwrap())),
        "{text}"
    );
}
