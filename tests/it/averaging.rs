//! Testing with several clips, crops and flips of each action.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use polyview::checkpoint;
use polyview::data::sampling::WindowSpec;
use polyview::data::{Dataset, Window};
use polyview::evaluate::{ActionPrediction, Averaging, PredictOptions, predict_dataset};
use polyview::model::{BackboneKind, ModelConfig, MultiViewNet};
use polyview::schema::Schema;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::clips::picture_clip;
use crate::common::program::{command, last_error, polyview, text};
use crate::common::run::{run, small_config, with};

/// Number of frames of a clip.
const FRAMES: usize = 9;

/// Draws a picture of noise.
fn picture(rng: &mut ChaCha8Rng, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |_, _| image::Rgb(rng.random()))
}

/// Draws two actions, one of two views and one of a single view, as pictures.
fn actions(width: u32, height: u32) -> Vec<Vec<Vec<RgbImage>>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut clip = || (0..FRAMES).map(|_| picture(&mut rng, width, height)).collect::<Vec<_>>();
    vec![vec![clip(), clip()], vec![clip()]]
}

/// Writes each picture after applying `change`, and returns the actions' clips.
fn written(
    folder: &Path,
    actions: &[Vec<Vec<RgbImage>>],
    change: impl Fn(&RgbImage) -> RgbImage,
) -> Vec<(String, Vec<PathBuf>)> {
    let write = |(action, views): (usize, &Vec<Vec<RgbImage>>)| {
        let paths = views.iter().enumerate().map(|(view, pictures)| {
            let path = folder.join(format!("{action}-{view}"));
            picture_clip(&path, pictures.iter().map(&change));
            path
        });
        (action.to_string(), paths.collect())
    };
    actions.iter().enumerate().map(write).collect()
}

fn net() -> MultiViewNet {
    let schema = Schema::mvfoul().unwrap();
    ModelConfig::new(BackboneKind::R3dTiny, &schema).init(1, &Device::flex())
}

fn predict(
    net: &MultiViewNet,
    clips: Vec<(String, Vec<PathBuf>)>,
    window: Window,
    averaging: Averaging,
    batch_size: usize,
) -> Vec<ActionPrediction> {
    let spec = WindowSpec { window, target_fps: 25.0, frames_per_clip: 2 };
    let dataset = Arc::new(Dataset::of_clips(clips, spec, [16, 16]).allow_unreadable());
    let (workers, max_clips, inputs) = (0, usize::MAX, Vec::new());
    let options = PredictOptions {
        batch_size,
        workers,
        max_clips,
        inputs,
        averaging,
        temperatures: Vec::new(),
        thresholds: Vec::new(),
    };
    predict_dataset(net, &dataset, &options, &Device::flex(), &mut |_, _| {}).unwrap()
}

/// Returns the mean probabilities and shares of an action; all predictions must have the same views.
fn mean(all: &[Vec<ActionPrediction>], action: usize) -> (Vec<f64>, Vec<f64>) {
    let of = |values: &dyn Fn(&ActionPrediction) -> Vec<f64>| {
        let mut sum = values(&all[0][action]);
        for other in &all[1..] {
            sum.iter_mut().zip(values(&other[action])).for_each(|(sum, value)| *sum += value);
        }
        sum.iter().map(|sum| sum / all.len() as f64).collect()
    };
    (of(&|p| p.probabilities.concat()), of(&|p| p.shares.clone()))
}

fn assert_close(ours: &[f64], expected: &[f64]) {
    assert_eq!(ours.len(), expected.len());
    assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} {expected:?}");
}

/// Each averaged prediction is repeated on a data set of its own, whose frames are cut, cropped and
/// flipped in advance.
#[test]
fn an_average_is_the_mean_of_separate_predictions() {
    let folder = TempDir::new().unwrap();
    let net = net();
    // As wide as the input, and one and a half times as high.
    let actions = actions(16, 24);
    let whole = written(&folder.path().join("whole"), &actions, RgbImage::clone);
    let averaging = Averaging { clips: 3, three_crops: true, flip: true };
    let ours = predict(&net, whole.clone(), Window::Dense, averaging, 2);
    let mut separate = Vec::new();
    // The first, the middle and the last two of nine frames.
    for start in [0, 4, 7] {
        for top in [0, 4, 8] {
            for flip in [false, true] {
                let name = format!("{start}-{top}-{flip}");
                let clips = written(&folder.path().join(name), &actions, |picture| {
                    let cut = crop_imm(picture, 0, top, 16, 16).to_image();
                    if flip { flip_horizontal(&cut) } else { cut }
                });
                let window = Window::Frames { start, end: start + 1 };
                separate.push(predict(&net, clips, window, Averaging::NONE, 1));
            }
        }
    }
    assert_eq!(ours.len(), 2);
    for (action, ours) in ours.iter().enumerate() {
        assert_eq!((ours.action.as_str(), ours.averaged), (["0", "1"][action], 18));
        let (probabilities, shares) = mean(&separate, action);
        assert_close(&ours.probabilities.concat(), &probabilities);
        assert_close(&ours.shares, &shares);
        assert!((ours.shares.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }
    // The separate predictions differ.
    assert_ne!(separate[0][0].probabilities, separate[17][0].probabilities);
    let one = predict(&net, whole, Window::Dense, Averaging::NONE, 2);
    assert_ne!(one[0].probabilities, ours[0].probabilities);
    assert_eq!(one[0].averaged, 1);
}

#[test]
fn three_crops_count_once_if_no_clip_is_cropped() {
    let folder = TempDir::new().unwrap();
    let net = net();
    let three = Averaging { three_crops: true, ..Averaging::NONE };
    let square = written(folder.path(), &actions(32, 32), RgbImage::clone);
    let [one, ours] = [Averaging::NONE, three]
        .map(|averaging| predict(&net, square.clone(), Window::Whole, averaging, 2));
    assert_eq!(ours, one);
    // If one clip has another shape, three are averaged for all actions.
    let mut mixed = actions(32, 32);
    mixed[1] = actions(48, 32)[1].clone();
    let mixed = written(&folder.path().join("mixed"), &mixed, RgbImage::clone);
    let ours = predict(&net, mixed, Window::Whole, three, 2);
    assert_eq!(ours.iter().map(|action| action.averaged).collect::<Vec<_>>(), [3, 3]);
    assert_close(&ours[0].probabilities.concat(), &one[0].probabilities.concat());
    assert!(ours[1].probabilities != one[1].probabilities);
}

#[test]
fn a_partly_readable_view_counts_where_it_is_readable() {
    let folder = TempDir::new().unwrap();
    let net = net();
    let actions = actions(16, 16);
    let clips = written(folder.path(), &actions, RgbImage::clone);
    // Damages the last frame of the first view, which only the last of three windows contains.
    std::fs::write(clips[0].1[0].join(format!("{}.png", FRAMES - 1)), b"no image").unwrap();
    let averaging = Averaging { clips: 3, ..Averaging::NONE };
    let ours = predict(&net, clips.clone(), Window::Dense, averaging, 2);
    let separate: Vec<_> = [0, 4, 7]
        .map(|start| {
            let window = Window::Frames { start, end: start + 1 };
            predict(&net, clips.clone(), window, Averaging::NONE, 2)
        })
        .to_vec();
    assert_eq!((&separate[1][0].views, &separate[2][0].views), (&vec![0, 1], &vec![1]));
    assert_eq!((&ours[0].views, ours[0].averaged), (&vec![0, 1], 3));
    let share = (separate[0][0].shares[0] + separate[1][0].shares[0]) / 3.0;
    assert_close(&ours[0].shares, &[share, 1.0 - share]);
    // An action that has no readable view in one of the windows.
    let alone = vec![("b".to_owned(), vec![clips[0].1[0].clone()]), clips[1].clone()];
    let ours = predict(&net, alone, Window::Dense, averaging, 1);
    let averaged: Vec<_> = ours.iter().map(|p| (p.action.as_str(), p.averaged)).collect();
    assert_eq!(averaged, [("b", 2), ("1", 3)]);
}

#[test]
fn evaluate_and_predict_say_how_many_they_average() {
    let folder = TempDir::new().unwrap();
    let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1 --window dense");
    run(&config);
    let best = config.run.save_dir.join(checkpoint::BEST);
    let [best, root] = [&best, &config.data.dataset_root].map(|path| path.to_str().unwrap());
    let clip = config.data.dataset_root.join("mvfouls/test/action_0/clip_0.mp4");
    let predict = |args: &[&str]| {
        let mut command = command(&["predict", "--json", "--device=cpu", "--checkpoint", best]);
        command.arg(&clip).args(args).output().unwrap()
    };
    let parsed = |output: std::process::Output| -> (Value, String) {
        assert!(output.status.success(), "{}", text(&output.stderr));
        (serde_json::from_slice(&output.stdout).unwrap(), text(&output.stderr))
    };
    let (one, said) = parsed(predict(&[]));
    assert!(one[0]["averaged"] == 1 && !said.contains("averaged"), "{one} {said}");
    let (four, said) = parsed(predict(&["--test-clips=2", "--flip-test", "--test-crops=3"]));
    assert_eq!(four[0]["averaged"], 4);
    assert!(said.contains("4 predictions averaged for each action"), "{said}");
    assert_eq!(said.matches("its three crops are the same").count(), 1, "{said}");
    assert_ne!(one[0]["tasks"], four[0]["tasks"]);
    let evaluate = |args: &[&str]| {
        let usual =
            ["evaluate", "--json", "--device=cpu", "--checkpoint", best, "--dataset-root", root];
        polyview(&[&usual[..], args].concat())
    };
    assert_eq!(parsed(evaluate(&[])).0["averaged"], 1);
    // The input is wider than tall, so a crop of a square clip has 16 of its 24 rows.
    let (figures, said) = parsed(evaluate(&["--test-crops=3", "--img-width=24", "--test-clips=2"]));
    assert_eq!(figures["averaged"], 6, "{said}");
    for (args, error) in [
        (
            &["--test-clips=2", "--window=2..5"] as &[&str],
            "--test-clips 2: the window 2..5 has a fixed position in the clip: use --window dense or segments, \
             which can be placed anywhere in it",
        ),
        (
            &["--test-clips=2", "--window=whole"],
            "--test-clips 2: the window whole has a fixed position",
        ),
        (&["--test-clips=0"], "--test-clips 0: must be a whole number between 1 and 1000"),
        (&["--test-crops=2"], "--test-crops 2: must be 1 or 3"),
        (
            &["--end-frame=7"],
            "--end-frame 7: needs --start-frame too: the window is dense otherwise",
        ),
        (&["--window=5..2"], "--window 5..2: must not end before it starts"),
        (&["--window=2..5", "--end-frame=7"], "--end-frame 7: contradicts --window 2..5"),
    ] {
        for output in [predict(args), evaluate(args)] {
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            let shown = last_error(&output);
            assert!(shown.contains(error), "{args:?}: {shown}");
        }
    }
    let (_, said) = parsed(predict(&["--window=2..5"]));
    assert!(said.contains("--window 2..5 instead of the checkpoint's dense"), "{said}");
}
