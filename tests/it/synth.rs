//! The synthetic data set: layout, balance, and the same bytes for the same seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use polyview::data::DataSource;
use polyview::data::source::SourceSpec;
use polyview::data::video::{read_clip, verify_clip};
use polyview::schema::Schema;
use polyview::synth::{SynthError, SynthLayout, SynthOptions, tasks_of, write};
use serde_json::{Value, json};

use crate::common::data::task;

fn files(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>, root: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into, root);
        } else {
            into.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
        }
    }
}

#[test]
fn same_seed_same_bytes_and_the_layout_holds() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = [task("first", 4), task("second", 3), task("third", 2)];
    let mut sets = Vec::new();
    for (name, seed) in [("a", 5), ("b", 5), ("c", 6)] {
        let out = folder.path().join(name);
        let options = SynthOptions {
            out: out.clone(),
            actions: 12,
            views: 2,
            seed,
            frames: 4,
            width: 64,
            height: 48,
            ..SynthOptions::default()
        };
        let calls = AtomicUsize::new(0);
        // A folder that macOS has opened still counts as empty.
        fs::create_dir(&out).unwrap();
        fs::write(out.join(".DS_Store"), "").unwrap();
        let summary = write(&options, &tasks, |done, total| {
            assert!(done >= 1 && done <= total);
            calls.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(summary.clips, (12 + 8 + 8) * 2);
        assert_eq!(calls.into_inner(), summary.clips);
        assert_eq!(summary.root, out.join("mvfouls"));
        let mut set = BTreeMap::new();
        files(&out, &mut set, &out);
        assert_eq!(set.len(), summary.clips + 3 + 1);
        sets.push(set);
        let again = write(&options, &tasks, |_, _| {});
        assert_eq!(again, Err(SynthError::NotEmpty(out)));
    }
    assert_eq!(sets[0], sets[1]);
    assert_ne!(sets[0], sets[2]);

    let text = &sets[0][Path::new("mvfouls/train/annotations.json")];
    let json: Value = serde_json::from_slice(text).unwrap();
    assert_eq!(json["Set"], "train");
    assert_eq!(json["Number of actions"], 12);
    for (field, classes) in [("first", 4), ("second", 3), ("third", 2)] {
        for class in 0..classes {
            let actions = json["Actions"].as_object().unwrap().values();
            let times = actions.filter(|a| a[field] == json!(class.to_string())).count();
            assert_eq!(times, 12 / classes, "{field} {class}");
        }
    }
    let clips = json["Actions"]["11"]["Clips"].as_array().unwrap();
    assert_eq!(clips.len(), 2);
    assert_eq!(clips[1]["Url"], "Dataset/Train/action_11/clip_1");
    assert_eq!(clips[1]["Replay speed"], 1.0);
    let path = folder.path().join("a/mvfouls/train/action_11/clip_1");
    let info = verify_clip(&path).unwrap();
    assert_eq!((info.frames, info.width, info.height, info.fps), (4, 64, 48, 25.0));
}

#[test]
fn invalid_options_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = SynthOptions { out: folder.path().join("x"), ..SynthOptions::default() };
    let bad = [
        SynthOptions { views: 0, ..good.clone() },
        SynthOptions { actions: 0, ..good.clone() },
        SynthOptions { frames: 0, ..good.clone() },
        SynthOptions { held_out: Some(0), ..good.clone() },
        SynthOptions { noise: 0, ..good.clone() },
        SynthOptions { ratio: vec![1, 2, 3], ..good.clone() },
        SynthOptions { ratio: vec![1, 0], ..good.clone() },
        SynthOptions { width: 33, ..good.clone() },
        SynthOptions { height: 8192, ..good.clone() },
        // Beyond H.264's level 5.1, and any disk.
        SynthOptions { width: 4096, height: 4096, ..good.clone() },
        SynthOptions { actions: 1 << 20, views: 1 << 20, ..good.clone() },
    ];
    for options in bad {
        let error = write(&options, &[task("a", 2)], |_, _| {}).unwrap_err();
        assert!(matches!(error, SynthError::Options(_)));
        assert_eq!(error.to_string().lines().count(), 1);
    }
    assert!(write(&good, &[], |_, _| {}).is_err());
    assert!(write(&good, &[task("a", 0)], |_, _| {}).is_err());
    assert!(!good.out.exists());
}

#[test]
fn the_middle_disc_moves_according_to_its_class() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let options = SynthOptions { out, actions: 4, views: 1, ..SynthOptions::default() };
    write(&options, &[task("a", 1), task("b", 4)], |_, _| {}).unwrap();
    let root = options.out.join("mvfouls/train");
    let text = fs::read(root.join("annotations.json")).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    for action in 0..4 {
        let class: usize =
            json["Actions"][action.to_string()]["b"].as_str().unwrap().parse().unwrap();
        let path = root.join(format!("action_{action}/clip_0.mp4"));
        let (_, frames) = read_clip(&path, |_| vec![71, 79]).unwrap();
        // The centre of all bright pixels, before and after the middle of the window.
        let centre = |t: usize| {
            let (mut x, mut y, mut n) = (0.0, 0.0, 0.0);
            for (i, pixel) in frames.frame(t).chunks_exact(3).enumerate() {
                if pixel.iter().all(|&value| value > 140) {
                    x += (i % frames.width) as f64;
                    y += (i / frames.width) as f64;
                    n += 1.0;
                }
            }
            (x / n, y / n)
        };
        let (from, to) = (centre(0), centre(1));
        let moved = (to.0 - from.0, to.1 - from.1);
        // 8 frames, at a quarter of 128 pixels per 16 frames.
        let expected = [(16.0, 0.0), (0.0, 16.0), (-16.0, 0.0), (0.0, -16.0)][class];
        let off = (moved.0 - expected.0).hypot(moved.1 - expected.1);
        assert!(off < 2.0, "action {action}, class {class}: {moved:?}");
    }
}

#[test]
fn noise_and_held_out_actions_follow_the_options() {
    let folder = tempfile::tempdir().unwrap();
    // Mean absolute difference from the previous frame, to which a static texture adds nothing.
    let restless = |noise: u8| {
        let out = folder.path().join(format!("noise {noise}"));
        let options = SynthOptions {
            out,
            actions: 2,
            held_out: Some(5),
            views: 1,
            frames: 3,
            width: 64,
            height: 48,
            noise,
            ..SynthOptions::default()
        };
        let summary = write(&options, &[task("a", 1)], |_, _| {}).unwrap();
        let splits = [("train", 2), ("valid", 5), ("test", 5)];
        assert_eq!(summary.splits, splits.map(|(name, actions)| (name.to_owned(), actions)));
        let clip = summary.root.join("train/action_0/clip_0.mp4");
        let (_, frames) = read_clip(&clip, |_| vec![0, 1]).unwrap();
        let pairs = frames.frame(0).iter().zip(frames.frame(1));
        pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / (64.0 * 48.0 * 3.0)
    };
    let (usual, noisy) = (restless(2), restless(60));
    assert!(usual < 3.0 && noisy > 10.0, "{usual} {noisy}");
}

#[test]
fn clips_of_a_schema_are_where_it_expects_them() {
    let schema = |more: &str| {
        let text = format!(
            "name = \"s\"\ntitle = \"S\"\n{more}\n[[task]]\nname = \"kind\"\ntitle = \"Kind\"\n\
             field = \"Kind\"\nclass = [{{ name = \"a\" }}, {{ name = \"b\" }}]"
        );
        Schema::parse(&text, "s.toml").unwrap()
    };
    let plain = "split = [{ name = \"train\" }, { name = \"valid\" }, { name = \"test\" }]";
    let other = "split = [{ name = \"valid\", spellings = [\"val\"] }, { name = \"train\" }]\n\
                 [layout]\nfolder = \"clips\"\nurl_prefixes = [\"Data\", \"Other\"]";
    let folder = tempfile::tempdir().unwrap();
    for (name, text, splits) in
        [("plain", plain, vec!["train", "valid", "test"]), ("other", other, vec!["train", "valid"])]
    {
        let schema = schema(text);
        let options = SynthOptions {
            out: folder.path().join(name),
            actions: 4,
            views: 1,
            frames: 2,
            width: 32,
            height: 32,
            layout: SynthLayout::of(&schema),
            ..SynthOptions::default()
        };
        let summary = write(&options, &tasks_of(&schema), |_, _| {}).unwrap();
        assert_eq!(summary.splits.len(), splits.len());
        let spec =
            SourceSpec { root: options.out.clone(), schema: Some(schema), ..SourceSpec::default() };
        let source = DataSource::open(&spec).unwrap();
        for split in splits {
            let split = source.split(split).unwrap();
            assert_eq!((split.actions.len(), &split.problems[..]), (4, &[][..]), "{name}");
            for action in &split.actions {
                assert!(split.clip(&action.views[0]).with_extension("mp4").is_file(), "{name}");
            }
        }
    }
    let without = schema("split = [{ name = \"other\" }]");
    let options = SynthOptions {
        out: folder.path().join("without"),
        layout: SynthLayout::of(&without),
        ..SynthOptions::default()
    };
    let error = write(&options, &tasks_of(&without), |_, _| {}).unwrap_err();
    assert!(error.to_string().ends_with("the schema has no split train"), "{error}");
    assert!(!options.out.exists());

    let mut clips = task("views", 2);
    clips.classes[1].fields = vec![("Clips".to_owned(), "b".to_owned())];
    let options = SynthOptions { layout: SynthLayout::default(), ..options };
    let error = write(&options, &[clips], |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("the task views has the field Clips"), "{error}");
    assert!(!options.out.exists());
}
