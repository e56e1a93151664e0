//! The augmentation as a user sees it: options of `train`, and the contact sheet.

use std::path::Path;
use std::process::Output;

use image::AnimationDecoder;
use tempfile::TempDir;

use crate::common::clips::picture_clip;
use crate::common::data::{clip, small_set};
use crate::common::program::{polyview, text};

fn stderr(output: &Output) -> String {
    text(&output.stderr)
}

fn train(folder: &Path, save: &str, more: &[&str]) -> Output {
    let (data, save) = (folder.join("data"), folder.join(save));
    let mut args = vec!["train", "--dataset_root", data.to_str().unwrap()];
    args.extend(["--save_dir", save.to_str().unwrap(), "--backbone_name", "r3d_tiny"]);
    args.extend(["--img_height", "16", "--img_width", "20", "--frames_per_clip", "4"]);
    args.extend(["--start_frame", "2", "--end_frame", "9", "--target_fps", "25"]);
    args.extend(["--overwrite", "--epochs", "1", "--device", "cpu"]);
    args.extend(more);
    polyview(&args)
}

fn losses(folder: &Path, save: &str) -> (f64, f64) {
    let text = std::fs::read_to_string(folder.join(save).join("history.json")).unwrap();
    let history: serde_json::Value = serde_json::from_str(&text).unwrap();
    let loss = |pass: &str| history[0][pass]["loss"].as_f64().unwrap();
    (loss("train"), loss("valid"))
}

#[test]
fn every_option_has_an_effect_and_the_same_seed_repeats() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    small_set(&folder.join("data"));
    let run = |save: &str, more: &[&str]| {
        let output = train(folder, save, more);
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        losses(folder, save)
    };
    let usual = run("usual", &[]);
    assert_eq!(run("again", &["--aggressive_augmentation", "--gpu_augmentation"]), usual);
    for more in [
        &["--disable_augmentation"] as &[&str],
        &["--augmentation_strength", "mild"],
        &["--extreme_augmentation"],
        &["--temporal_jitter_strength", "1"],
        &["--dropout_prob", "0.7"],
        &["--spatial_crop_strength", "0.4"],
        &["--color_aug_strength", "0.9"],
        &["--noise_strength", "0.5"],
        &["--multi_scale"],
    ] {
        assert_ne!(run("other", more), usual, "{more:?} changes nothing");
    }
    let none = run("none", &["--augmentation_strength", "none"]);
    assert_eq!(run("none", &["--disable_augmentation"]), none);
    assert_eq!(run("host", &["--no_gpu_augmentation"]), usual, "on the CPU both run on the host");
    // All classes are equally common here, so none is rare.
    assert_eq!(run("even", &["--severity_aware_augmentation"]), usual);
}

#[test]
fn bad_options_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    for (more, words) in [
        (&["--augmentation_strength", "wild"] as &[&str], &["wild", "moderate"] as &[&str]),
        (&["--temporal_jitter_strength", "65"], &["--temporal-jitter-strength 65", "64"]),
        (&["--temporal_jitter_strength", "-1"], &["-1"]),
        (&["--dropout_prob", "1.5"], &["--dropout-prob 1.5"]),
        (&["--dropout_prob", "-0.1"], &["--dropout-prob -0.1"]),
        (&["--spatial_crop_strength", "0"], &["--spatial-crop-strength 0"]),
        (&["--color_aug_strength", "2"], &["--color-aug-strength 2"]),
        (&["--noise_strength", "nan"], &["--noise-strength nan"]),
        (
            &["--disable_augmentation", "--extreme_augmentation"],
            &["--disable-augmentation", "--extreme-augmentation"],
        ),
    ] {
        let output = train(folder.path(), "run", more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr(&output));
        for word in words {
            assert!(stderr(&output).contains(word), "{more:?}: {word:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn the_contact_sheet_has_a_row_per_seed() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    small_set(&data);
    let (sheet, gif) = (folder.path().join("sheet.png"), folder.path().join("clip.gif"));
    let draw = |more: &[&str]| {
        let mut args = vec!["augment", "--dataset-root", data.to_str().unwrap()];
        args.extend(["--action", "3", "--img-height", "40", "--img-width", "56"]);
        args.extend(["--device", "cpu", "--out", sheet.to_str().unwrap()]);
        args.extend(more);
        polyview(&args)
    };
    let output = draw(&["--seeds", "3", "--gif", gif.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let picture = image::open(&sheet).unwrap().to_rgb8();
    // A row is at least as high as a frame: the original and three draws.
    assert!(picture.height() >= 4 * 40, "{:?}", picture.dimensions());
    assert!(picture.width() >= 8 * 56, "{:?}", picture.dimensions());
    let file = std::io::BufReader::new(std::fs::File::open(&gif).unwrap());
    let frames = image::codecs::gif::GifDecoder::new(file).unwrap().into_frames();
    assert_eq!(frames.collect_frames().unwrap().len(), 16);

    let few = draw(&["--gif", gif.to_str().unwrap(), "--frames-per-clip=3", "--target-fps=5"]);
    assert!(few.status.success(), "{}", stderr(&few));
    let file = std::io::BufReader::new(std::fs::File::open(&gif).unwrap());
    let frames = image::codecs::gif::GifDecoder::new(file).unwrap().into_frames();
    assert_eq!(frames.collect_frames().unwrap().len(), 3);
    assert!(draw(&["--seeds", "3"]).status.success());
    let bytes = std::fs::read(&sheet).unwrap();
    assert!(draw(&["--seeds", "3"]).status.success());
    assert!(std::fs::read(&sheet).unwrap() == bytes, "the same seeds give the same sheet");
    assert!(draw(&["--seeds", "3", "--seed", "7"]).status.success());
    assert!(std::fs::read(&sheet).unwrap() != bytes, "other seeds give another sheet");

    for (more, words) in [
        (&["--action", "77"] as &[&str], "--action 77"),
        (&["--view", "9"], "--view 9"),
        (&["--dropout-prob", "2"], "--dropout-prob 2"),
        (&["--gif", "clip.mp4"], "--gif clip.mp4: the name must end with .gif"),
    ] {
        let output = draw(more);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // A sheet inside a clip that is a folder of images would be one more frame, in any split.
    let images = clip(&data, 0, 0).with_extension("");
    std::fs::remove_file(clip(&data, 0, 0)).unwrap();
    picture_clip(&images, vec![image::RgbImage::new(32, 32); 12]);
    let inside = images.join("x.png");
    let output = draw(&["--split", "valid", "--out", inside.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("belongs to the data set"), "{}", stderr(&output));
    assert!(!inside.exists());
    let output = draw(&["--out", "/no/such/folder/sheet.png"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("sheet.png: there is no folder"), "{}", stderr(&output));
}

#[test]
fn multi_scale_sizes_are_three_and_divisible_by_16() {
    let sizes = polyview::train::multi_scale_sizes([224, 398]);
    assert_eq!(sizes, [[224, 384], [192, 336], [160, 288]]);
    let sizes = polyview::train::multi_scale_sizes([16, 20]);
    assert!(sizes.iter().flatten().all(|side| *side == 16));
}
