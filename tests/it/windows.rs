//! Windows in options, schemas and files, and batches that are read with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Rgb, RgbImage};
use polyview::cli::train_config;
use polyview::config::Config;
use polyview::data::cache::{FrameCache, Key};
use polyview::data::loader::Loader;
use polyview::data::resize::Crop;
use polyview::data::sampling::WindowSpec;
use polyview::data::{Batch, Dataset, InputSpec, Place, Plan, Reading, Window};
use polyview::schema::Schema;
use tempfile::TempDir;

use crate::common::clips::picture_clip;
use crate::common::data::small_set;
use crate::common::program::{command, polyview, text};

fn config(args: &[&str]) -> Result<Config, String> {
    train_config(["--dataset-root", "data"].iter().chain(args))
}

/// Returns the window of a run on MVFoul with these options, or the error.
fn resolved(args: &[&str]) -> Result<String, String> {
    let spec = config(args)?.clips.window(&Schema::mvfoul().unwrap());
    spec.map(|spec| spec.window.to_string()).map_err(|error| error.to_string())
}

fn schema_with(window: &str) -> Result<Schema, String> {
    let text = format!(
        "name = \"birds\"\ntitle = \"Birds\"\n{window}\n[[split]]\nname = \"train\"\n[[task]]\nname = \"s\"\n\
         title = \"S\"\nfield = \"S\"\nclass = [{{ name = \"Tit\" }}, {{ name = \"Robin\" }}]\n"
    );
    Schema::parse(&text, "birds.toml").map_err(|error| error.to_string())
}

#[test]
fn a_window_is_the_given_one_or_else_the_data_sets() {
    for (args, window) in [
        (&[] as &[&str], "67..82"),
        (&["--window", "3..9"], "3..9"),
        (&["--window", "2.5s..3.25s"], "2.5s..3.25s"),
        (&["--window", "0s..1s"], "0s..1s"),
        (&["--window", "center"], "center"),
        (&["--window", "dense"], "dense"),
        (&["--window", "segments"], "segments"),
        (&["--window", "whole"], "whole"),
        (&["--start-frame", "3", "--end-frame", "9"], "3..9"),
        (&["--start-frame", "80"], "80..82"),
        (&["--end-frame", "99"], "67..99"),
        // Both forms are allowed if they agree.
        (&["--window", "3..9", "--start-frame", "3"], "3..9"),
        (&["--window", "3..9", "--start-frame", "3", "--end-frame", "9"], "3..9"),
    ] {
        assert_eq!(resolved(args).as_deref(), Ok(window), "{args:?}");
    }
    let other = |window: &str, args: &[&str]| {
        let spec = config(args).unwrap().clips.window(&schema_with(window).unwrap());
        spec.map(|spec| spec.window.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(other("", &[]).as_deref(), Ok("dense"));
    assert_eq!(other("[clips]\nwindow = \"1s..2s\"", &[]).as_deref(), Ok("1s..2s"));
    assert_eq!(other("[clips]\nwindow = \"5..9\"", &["--end-frame", "7"]).as_deref(), Ok("5..7"));
    let alone = "end-frame 7: needs --start-frame too: the window is dense otherwise";
    assert_eq!(other("", &["--end-frame", "7"]).unwrap_err(), alone);
    let alone = "start-frame 7: needs --end-frame too: the window is whole otherwise";
    let whole = "[clips]\nwindow = \"whole\"";
    assert_eq!(other(whole, &["--start-frame", "7"]).unwrap_err(), alone);
    let error = schema_with("[clips]\nwindow = \"9..5\"").unwrap_err();
    assert_eq!(error, "birds.toml, line 4: `9..5` must not end before it starts");
    let error = schema_with("[clips]\nwindows = \"5..9\"").unwrap_err();
    assert!(error.contains("line 4: unknown field `windows`"), "{error}");
}

#[test]
fn a_bad_window_is_refused_in_one_line() {
    let known = "must be START..END in frames (67..82) or seconds (2.5s..3.3s), center, dense, segments or \
                 whole";
    for (args, reason) in [
        (&["--window", "9"] as &[&str], format!("--window 9: {known}")),
        (&["--window", "9.."], format!("--window 9..: {known}")),
        (&["--window", "0..=9"], format!("--window 0..=9: {known}")),
        (&["--window=-1..9"], format!("--window -1..9: {known}")),
        (&["--window", "1.5..9"], format!("--window 1.5..9: {known}")),
        (&["--window", "NaNs..1s"], format!("--window NaNs..1s: {known}")),
        (&["--window", "middle"], format!("--window middle: {known}")),
        (
            &["--window", "1..9s"],
            "--window 1..9s: must have both ends in frames, or both in seconds".to_owned(),
        ),
        (&["--window", "9..8"], "--window 9..8: must not end before it starts".to_owned()),
        (&["--window", "2s..1.9s"], "--window 2s..1.9s: must not end before it starts".to_owned()),
        (
            &["--window", "random"],
            "--window random: is called dense (consecutive frames) or segments (one of each part)"
                .to_owned(),
        ),
        (
            &["--window", "3..9", "--end-frame", "8"],
            "--end-frame 8: contradicts --window 3..9: leave one of the two out".to_owned(),
        ),
        (
            &["--window", "whole", "--start-frame", "8"],
            "--start-frame 8: contradicts --window whole: leave one of the two out".to_owned(),
        ),
        (
            &["--start-frame", "9", "--end-frame", "8"],
            "--end-frame 8: must not be before --start-frame 9".to_owned(),
        ),
    ] {
        assert_eq!(resolved(args).unwrap_err(), reason);
        let output = polyview(&[&["train", "--dataset-root", "data"], args].concat());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(text(&output.stderr).trim_end(), format!("error: {reason}"));
    }
    // If only one end is given, the other is the data set's.
    let reason = "end-frame 82: must not be before --start-frame 90";
    assert_eq!(resolved(&["--start-frame", "90"]).unwrap_err(), reason);
}

#[test]
fn a_file_keeps_what_was_given_and_gives_way_to_the_command_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c.toml");
    let from = |text: &str, args: &[&str]| {
        std::fs::write(&path, text).unwrap();
        resolved(&[&["--config", path.to_str().unwrap()], args].concat())
    };
    // The form in every configuration file before there was --window.
    let old = "start-frame = 67\nend-frame = 80\n";
    for (text, args, window) in [
        (old, &[] as &[&str], "67..80"),
        (old, &["--end-frame", "90"], "67..90"),
        (old, &["--window", "dense"], "dense"),
        (old, &["--window", "3..9"], "3..9"),
        ("window = \"3..9\"\n", &[], "3..9"),
        ("window = \"3..9\"\n", &["--end-frame", "8"], "3..8"),
        ("window = \"3..9\"\nend-frame = 9\n", &["--end-frame", "8"], "3..8"),
        ("window = \"whole\"\n", &["--end-frame", "90"], "67..90"),
        ("window = \"whole\"\n", &["--window", "center"], "center"),
    ] {
        assert_eq!(from(text, args).as_deref(), Ok(window), "{text} {args:?}");
    }
    let error = from("window = \"3..9\"\nend-frame = 8\n", &[]).unwrap_err();
    assert!(error.contains("--end-frame 8: contradicts --window 3..9"), "{error}");
    let error = from("seed = 1\nwindow = 9\n", &[]).unwrap_err();
    assert!(error.contains("line 2: window 9: must be START..END"), "{error}");
    // Only values that were given are written.
    let written = |args: &[&str]| toml::to_string(&config(args).unwrap()).unwrap();
    for name in ["window", "start-frame", "end-frame"] {
        assert!(!written(&[]).contains(name));
    }
    let segments = written(&["--window", "segments"]);
    assert!(segments.contains("window = \"segments\""), "{segments}");
    assert!(!segments.contains("-frame = "), "{segments}");
}

/// Tests the form that checkpoints store.
#[test]
fn an_input_is_read_in_its_old_and_new_form() {
    let old = r#"{"window":{"start_frame":67,"end_frame":82,"target_fps":15.0,"frames_per_clip":16},"size":[224,398]}"#;
    let input: InputSpec = serde_json::from_str(old).unwrap();
    assert_eq!(input.window, WindowSpec::frames(67, 82, 15.0, 16));
    // A window with two ends in frames is written as before, so that older versions can read it.
    assert_eq!(serde_json::to_string(&input).unwrap(), old);
    for window in ["center", "dense", "segments", "whole", "2.5s..3.3s"] {
        let spec = WindowSpec { window: window.parse().unwrap(), ..input.window };
        let written = serde_json::to_string(&spec).unwrap();
        let expected = format!(r#"{{"window":"{window}","target_fps":15.0,"frames_per_clip":16}}"#);
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_str::<WindowSpec>(&written).unwrap(), spec);
    }
    for broken in [
        r#"{"target_fps":15.0,"frames_per_clip":16}"#,
        r#"{"start_frame":3,"target_fps":15.0,"frames_per_clip":16}"#,
        r#"{"window":"x","target_fps":15.0,"frames_per_clip":16}"#,
    ] {
        assert!(serde_json::from_str::<WindowSpec>(broken).is_err(), "{broken}");
    }
}

/// Creates three actions of two views, in which each frame's shade is its number.
fn shaded(folder: &Path) -> Vec<(String, Vec<PathBuf>)> {
    let clip = |action: usize, view: usize| {
        let path = folder.join(format!("{action}-{view}"));
        picture_clip(&path, (0..40).map(|frame| RgbImage::from_pixel(8, 8, Rgb([frame, 0, 0]))));
        path
    };
    (0..3).map(|action| (action.to_string(), vec![clip(action, 0), clip(action, 1)])).collect()
}

fn open(clips: &[(String, Vec<PathBuf>)], window: Window) -> Dataset {
    let spec = WindowSpec { window, target_fps: 25.0, frames_per_clip: 4 };
    Dataset::of_clips(clips.to_vec(), spec, [8, 8])
}

/// The step between frames is too large for any integer, and so is the window's length.
#[test]
fn a_target_rate_near_nothing_repeats_the_last_frame() {
    let folder = TempDir::new().unwrap();
    let clips = shaded(folder.path());
    for window in [Window::Dense, Window::Center] {
        let spec = WindowSpec { window, target_fps: 1e-20, frames_per_clip: 4 };
        let dataset = Dataset::of_clips(clips.clone(), spec, [8, 8]);
        let read = dataset.read_batch(&[0], &Reading::MIDDLE, &mut dataset.resizer());
        assert_eq!(frames(&read.unwrap().unwrap()), [[0, 39, 39, 39]; 2]);
    }
}

/// Returns the frame numbers of each clip of a batch.
fn frames(batch: &Batch) -> Vec<Vec<usize>> {
    let shades: Vec<usize> = batch.frames.chunks(8 * 8 * 3).map(|f| usize::from(f[0])).collect();
    shades.chunks(4).map(<[usize]>::to_vec).collect()
}

#[test]
fn an_epoch_reads_the_same_frames_however_it_is_distributed() {
    let folder = TempDir::new().unwrap();
    let clips = shaded(folder.path());
    let order = vec![vec![0, 2], vec![1, 0]];
    for window in [Window::Dense, Window::Segments] {
        let dataset = Arc::new(open(&clips, window));
        let read = |plan: Plan, workers| -> Vec<Vec<usize>> {
            let loader = Loader::new(Arc::clone(&dataset), plan, workers);
            loader.flat_map(|batch| frames(&batch.unwrap())).collect()
        };
        let epoch = |epoch| Plan::from(order.clone()).reading(Reading::drawn(7, epoch));
        let first = read(epoch(1), 0);
        assert_eq!(first.len(), 8);
        for views in first.chunks(2) {
            assert_eq!(views[0], views[1], "both views show the same part");
        }
        assert!(first[0] != first[2] && first[0] != first[4], "actions differ: {first:?}");
        assert_ne!(first[0], first[6], "an action that occurs twice is read at another place");
        assert_ne!(read(epoch(2), 0), first);
        for workers in [1, 3] {
            assert_eq!(read(epoch(1), workers), first);
        }
        // By two processes, each with one of two lanes.
        let lanes = || Plan::in_lanes(order.clone(), 2, |_| 2).reading(Reading::drawn(7, 1));
        let halves = [0..1, 1..2].map(|share| read(lanes().share(share), 0));
        assert_eq!(halves[0], [first[0..2].to_vec(), first[4..6].to_vec()].concat());
        assert_eq!(halves[1], [first[2..4].to_vec(), first[6..8].to_vec()].concat());
        // Without a place, the middle is read.
        let middle = read(order.clone().into(), 0);
        let expected = if window == Window::Dense { [18, 19, 20, 21] } else { [5, 15, 25, 35] };
        assert!(middle.iter().all(|frames| *frames == expected), "{middle:?}");
    }
}

#[test]
fn drawn_windows_do_not_fill_the_cache() {
    let folder = TempDir::new().unwrap();
    let clips = shaded(folder.path());
    let cache = Arc::new(FrameCache::open(&folder.path().join("cache"), 1 << 30).unwrap());
    let read = |window, reading: Reading| -> Vec<Vec<usize>> {
        let dataset = Arc::new(open(&clips, window).with_cache(Arc::clone(&cache)));
        let plan = Plan::from(vec![vec![0, 1, 2]]).reading(reading);
        Loader::new(dataset, plan, 0).flat_map(|batch| frames(&batch.unwrap())).collect()
    };
    let drawn = read(Window::Dense, Reading::drawn(7, 1));
    assert_eq!((cache.stats().written, cache.stats().hits), (0, 0));
    // Windows in the middle are cached, separately from other places, and not confused with drawn
    // ones.
    let second = Reading { place: Place::Even { index: 1, of: 2 }, ..Reading::MIDDLE };
    let [middle, end] = [Reading::MIDDLE, second].map(|reading| read(Window::Dense, reading));
    assert_eq!((cache.stats().written, cache.stats().hits), (12, 0));
    assert_eq!(read(Window::Dense, Reading::MIDDLE), middle);
    assert_eq!(read(Window::Dense, second), end);
    assert_eq!((cache.stats().written, cache.stats().hits), (12, 12));
    assert_eq!(read(Window::Dense, Reading::drawn(7, 1)), drawn);
    // Training with a window that does not vary reads what validation has cached.
    let fixed = Window::Frames { start: 3, end: 6 };
    assert_eq!(read(fixed, Reading::MIDDLE), read(fixed, Reading::drawn(7, 1)));
    assert_eq!((cache.stats().written, cache.stats().hits), (18, 18));
}

#[test]
fn the_key_depends_on_window_place_and_crop() {
    let folder = TempDir::new().unwrap();
    let clip = folder.path().join("a.mp4");
    std::fs::write(&clip, b"x").unwrap();
    let spec = |window: &str| WindowSpec {
        window: window.parse().unwrap(),
        target_fps: 15.0,
        frames_per_clip: 4,
    };
    let key = |window: &str, reading: &Reading| Key::reading(&clip, &spec(window), reading, [8, 8]);
    let even = |index, of| Reading { place: Place::Even { index, of }, ..Reading::MIDDLE };
    let cropped = |crop| Reading { crop, ..Reading::MIDDLE };
    let keys = [
        key("67..82", &Reading::MIDDLE),
        key("2.68s..3.28s", &Reading::MIDDLE),
        key("center", &Reading::MIDDLE),
        key("whole", &Reading::MIDDLE),
        key("dense", &Reading::MIDDLE),
        key("segments", &Reading::MIDDLE),
        key("dense", &even(0, 2)),
        key("dense", &even(1, 2)),
        key("dense", &cropped(Crop::Start)),
        key("67..82", &cropped(Crop::Start)),
        key("67..82", &cropped(Crop::End)),
    ];
    let different: std::collections::HashSet<_> = keys.iter().map(|key| key.unwrap()).collect();
    assert_eq!(different.len(), keys.len());
    assert_eq!(Key::new(&clip, &spec("67..82"), [8, 8]), keys[0]);
    assert_eq!(key("67..82", &even(1, 2)), keys[0], "a window that does not vary has one place");
}

#[test]
fn every_window_trains_and_the_start_reports_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let kept = "decoded frames cached in";
    let changing = "not those for training, which change each epoch";
    for (window, shown, cache) in [
        ("3..9", "from frames 3 to 9 at 25 fps", kept),
        ("0.1s..0.4s", "from 0.1 s to 0.4 s at 25 fps", kept),
        ("center", "from the middle of the clip at 25 fps", kept),
        ("dense", "from anywhere in the clip at 25 fps, for validation from its middle", changing),
        ("segments", "from as many equal parts of the clip", changing),
        ("whole", "at even distances over the whole clip", kept),
    ] {
        let save = folder.path().join(window.replace('.', "_"));
        let output = command(&[
            "train",
            "--simple-training",
            "--backbone-name=r3d_tiny",
            "--img-height=16",
            "--img-width=20",
            "--frames-per-clip=4",
            "--target-fps=25",
            "--batch-size=6",
            "--epochs=1",
            "--num-workers=0",
            "--device=cpu",
            "--window",
            window,
            "--dataset-root",
        ])
        .arg(&data)
        .arg("--save-dir")
        .arg(&save)
        .output()
        .unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{window}: {said}");
        assert!(said.contains(shown) && said.contains(cache), "{window}: {said}");
        let device = burn::tensor::Device::flex();
        let best = save.join(polyview::checkpoint::BEST);
        let (_, info) = polyview::checkpoint::load(&best, &device).unwrap();
        assert_eq!(info.input.unwrap().window.window.to_string(), window);
    }
}

#[test]
fn check_data_and_augment_take_the_window() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let root = data.to_str().unwrap();
    let check = |args: &[&str]| {
        let output = polyview(&[&["check-data", "--dataset-root", root], args].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    // Clips of 12 frames at 25 frames per second; 16 at 15 span 26.
    let (_, said, _) = check(&[]);
    assert!(said.contains("the window of frames 67 to 82 goes past its 12 frames"), "{said}");
    let (_, said, _) = check(&["--window", "dense"]);
    assert!(said.contains("the window of frames 0 to 25 goes past its 12 frames"), "{said}");
    let (status, said, _) = check(&["--window", "whole"]);
    assert!(status == Some(0) && !said.contains("goes past"), "{said}");
    assert!(
        said.contains("12 of 16 sampled frames are distinct; the window has only 12"),
        "{said}"
    );
    let (status, _, error) = check(&["--window", "3..9", "--end-frame", "8"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("--end-frame 8: contradicts --window 3..9"), "{error}");

    let sheet = |window: &str, seed: &str| {
        let out = folder.path().join("sheet.png");
        let size = ["--img-height=24", "--img-width=24", "--device=cpu", "--seeds=1"];
        let args = [
            "augment",
            "--dataset-root",
            root,
            "--action",
            "3",
            "--window",
            window,
            "--seed",
            seed,
        ];
        let none = ["--augmentation-strength=none", "--out", out.to_str().unwrap()];
        let output = polyview(&[&args[..], &size, &none].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read(&out).unwrap()
    };
    assert_ne!(sheet("0..5", "1"), sheet("6..11", "1"));
    // Without augmentation, the seed determines only the window and the caption.
    assert_ne!(sheet("segments", "1"), sheet("segments", "2"));
}
