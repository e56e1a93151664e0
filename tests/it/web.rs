//! The exported page in a real browser: its parts agree with their counterparts in Rust, and it
//! predicts as `polyview predict` does.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::f16;
use image::RgbImage;
use polyview::checkpoint;
use polyview::data::clip::ClipInfo;
use polyview::data::sampling::WindowSpec;
use polyview::data::video::read_clip;
use polyview::data::{InputSpec, Window};
use polyview::evaluate::{Calibration, TaskCalibration};
use polyview::model::{BackboneKind, ModelConfig};
use polyview::schema::Schema;
use polyview::web::WebModel;
use polyview_cpu::colour::{Yuv420, YuvToRgb};
use polyview_cpu::resize::Resizer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::browser::{run_script, run_script_with};
use crate::common::clips::{
    encoded, ffmpeg, have_ffmpeg, picture_clip, sample_folder, synthetic_clip,
};
use crate::common::program::{command, text};
use crate::common::run::{run, small_config, with};

/// The page's functions, followed by the test script that calls them.
const PARTS: &str = concat!(
    include_str!("../../templates/model/sampling.js"),
    include_str!("../../templates/model/resize.js"),
    include_str!("../../templates/model/timeline.js"),
    include_str!("../../templates/model/clips.js"),
    include_str!("../../templates/model/network.js"),
    include_str!("web/parts.js"),
);

/// Concatenates a script with the one that opens the whole page.
macro_rules! opening {
    ($script:literal) => {
        concat!(include_str!("web/open.js"), include_str!($script))
    };
}

/// Script that uses the page from choosing clips to the answer.
const WHOLE: &str = opening!("web/page.js");

/// Returns the path of one of the video tests' clips.
fn small_clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips").join(name)
}

/// Returns a checksum that depends on every byte and its position; the page computes the same.
fn mixed(bytes: &[u8]) -> f64 {
    bytes
        .iter()
        .zip((0..251).cycle())
        .fold(0, |sum: u64, (byte, place)| (sum + u64::from(*byte) * place) % 1_000_000_000)
        as f64
}

#[test]
fn a_page_samples_resizes_and_converts_as_training_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let windows = ["67..82", "0..7", "2.5s..3.3s", "center", "dense", "segments", "whole"];
    let infos = [(126, 25.0), (90, 29.97), (5, 25.0), (1, 12.0), (200, 60.0)];
    let mut picks = Vec::new();
    let mut picked = Vec::new();
    for window in windows {
        for (frames, fps) in infos {
            for wanted in [1, 8, 16] {
                let spec = WindowSpec {
                    window: window.parse::<Window>().unwrap(),
                    target_fps: 15.0,
                    frames_per_clip: wanted,
                };
                let info = ClipInfo { frames, fps, ..ClipInfo::default() };
                let input = json!({ "size": [wanted, 1, 1], "window": window, "targetFps": 15.0 });
                picks.push(json!({ "input": input, "info": { "frames": frames, "fps": fps } }));
                picked.push(spec.window_indices(&info).indices);
            }
        }
    }
    let mut files = HashMap::new();
    let sizes = [
        ([96, 128], [36, 48]),
        ([37, 53], [64, 80]),
        ([64, 64], [64, 64]),
        ([50, 31], [17, 40]),
        ([40, 90], [40, 48]),
        ([90, 31], [17, 31]),
        ([1, 5000], [32, 48]),
    ];
    let mut resizes = Vec::new();
    let mut resized = Vec::new();
    for (number, (from, to)) in sizes.into_iter().enumerate() {
        let frame: Vec<u8> = (0..from[0] * from[1] * 3).map(|_| rng.random()).collect();
        let mut out = vec![0; to[0] * to[1] * 3];
        Resizer::new(to[0], to[1]).frame(&frame, from[0], from[1], &mut out).unwrap();
        resizes.push(json!({ "frame": format!("{number}"), "from": from, "to": to }));
        files.insert(format!("{number}"), frame);
        resized.push(out);
    }
    let (width, height) = (7, 5);
    let mut planes = Vec::new();
    let mut colours = Vec::new();
    for (kr, kb) in [(0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)] {
        for full in [false, true] {
            let mut random = |count| (0..count).map(|_| rng.random()).collect::<Vec<u8>>();
            let (y, u, v) = (random(width * height), random(12), random(12));
            let mut rgb = vec![0; width * height * 3];
            let frame = Yuv420 { y: &y, u: &u, v: &v, width, height };
            YuvToRgb::new(kr, kb, full).convert(&frame, &mut rgb);
            colours.push(rgb);
            planes.push(json!({ "y": y, "u": u, "v": v, "width": width, "height": height,
                "matrix": [kr, kb], "full": full }));
        }
    }
    let empty_samples = small_clip("empty_samples.m4v");
    let mut clips = vec![synthetic_clip(), empty_samples];
    if let Some(sample) = sample_folder() {
        clips.push(sample.join("mvfouls/valid/action_3/clip_0.mp4"));
    }
    for (number, clip) in clips.iter().enumerate() {
        files.insert(format!("{number}.mp4"), fs::read(clip).unwrap());
    }
    let names: Vec<String> = (0..clips.len()).map(|number| format!("{number}.mp4")).collect();
    // An even number of values, and an odd one, which is padded to an even one.
    let numbers: [Vec<f32>; 2] =
        [16, 15].map(|count| (0..count).map(|_| rng.random_range(-3.0..3.0)).collect());
    let halved = numbers.clone().map(|values| {
        let mut bits: Vec<u16> = values.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
        bits.resize(16, 0);
        bits
    });
    let turned = small_clip("full_turned_180_no_times.mp4");
    files.insert("turned_180.mp4".to_owned(), fs::read(&turned).unwrap());
    let task = json!({ "picks": picks, "resizes": resizes, "planes": planes, "clips": names,
        "numbers": numbers, "turned": ["turned_180.mp4"] });
    let Some(answer) = run_script_with(PARTS, &task, files) else { return };

    let found: Vec<Vec<usize>> = serde_json::from_value(answer["picks"].clone()).unwrap();
    for ((found, expected), task) in found.iter().zip(&picked).zip(&picks) {
        assert_eq!(found, expected, "{task}");
    }
    let found: [Vec<u16>; 2] = serde_json::from_value(answer["halved"].clone()).unwrap();
    assert_eq!(found, halved);
    let found: Vec<Vec<u8>> = serde_json::from_value(answer["colours"].clone()).unwrap();
    assert_eq!(found, colours);
    let found: Vec<Vec<u8>> = serde_json::from_value(answer["resized"].clone()).unwrap();
    for ((found, expected), (from, to)) in found.iter().zip(&resized).zip(sizes) {
        assert_eq!(found, expected, "{from:?} to {to:?}");
    }
    // The first pixels, as the browser draws them.
    let corner: Vec<f64> = serde_json::from_value(answer["corners"][0].clone()).unwrap();
    let (_, frames) = read_clip(&turned, |_| vec![0]).unwrap();
    for (found, expected) in corner.iter().zip(frames.frame(0)) {
        assert!(
            (found - f64::from(*expected)).abs() < 20.0,
            "{corner:?}: {:?}",
            &frames.frame(0)[..24]
        );
    }
    for (clip, opened) in clips.iter().zip(answer["opened"].as_array().unwrap()) {
        let (info, frames) =
            read_clip(clip, |info| vec![0, info.frames / 2, info.frames - 1]).unwrap();
        assert_eq!(opened["frames"], info.frames, "{}", clip.display());
        assert!(
            (opened["fps"].as_f64().unwrap() - info.fps).abs() < 1e-9,
            "{opened}: {}",
            info.fps
        );
        for (t, shown) in opened["middle"].as_array().unwrap().iter().enumerate() {
            let expected = frames.frame(t);
            assert_eq!([&shown["height"], &shown["width"]], [frames.height, frames.width]);
            // As decoded, or drawn by the browser, whose colours are a little different.
            let mean = expected.iter().map(|byte| f64::from(*byte)).sum::<f64>();
            let mean = mean / expected.len() as f64;
            assert!((shown["mean"].as_f64().unwrap() - mean).abs() < 2.0, "{shown}: {mean}");
            println!("frame {t}: same bytes: {}", shown["sum"] == mixed(expected));
        }
    }
}

#[test]
fn a_page_counts_the_frames_of_videos_without_an_index() {
    if !have_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let picture = "-f lavfi -i testsrc2=s=96x64:r=25:d=2";
    let sound = "-f lavfi -i sine=d=3.5";
    // With the stated length; with longer sound; and from a pipe, so that the length is unknown, as
    // in recordings.
    let mut files = HashMap::new();
    for (name, inputs, out) in [
        ("plain.webm", vec![picture], "file"),
        ("sound.webm", vec![picture, sound], "file"),
        ("piped.webm", vec![picture], "pipe"),
        ("piped_sound.webm", vec![picture, sound], "pipe"),
        ("sound.mkv", vec![picture, sound], "file"),
    ] {
        let path = folder.path().join(name);
        let mut command = ffmpeg();
        command.args(inputs.join(" ").split(' '));
        command.args("-c:v libvpx -b:v 200k -c:a libopus".split(' '));
        let made = match out {
            "file" => encoded(command.arg(&path)),
            _ => {
                let output = command.args(["-f", "webm", "-"]).output().unwrap();
                fs::write(&path, &output.stdout).unwrap();
                output.status.success()
            }
        };
        if !made {
            return;
        }
        files.insert(name.to_owned(), fs::read(&path).unwrap());
    }
    let names: Vec<String> = files.keys().cloned().collect();
    let task = json!({ "picks": [], "resizes": [], "planes": [], "clips": names,
        "numbers": [], "turned": [] });
    let Some(answer) = run_script_with(PARTS, &task, files) else { return };
    for (name, opened) in names.iter().zip(answer["opened"].as_array().unwrap()) {
        assert_eq!(opened["frames"], 50, "{name}");
        assert!((opened["fps"].as_f64().unwrap() - 25.0).abs() < 0.01, "{name}: {opened}");
        // The first, the middle and the last frame.
        assert_eq!(opened["middle"].as_array().unwrap().len(), 3, "{name}");
    }
}

/// A trained network whose temperature makes small differences large, with its page and two clips.
struct Fixture {
    _folder: TempDir,
    checkpoint: PathBuf,
    page: String,
    clips: PathBuf,
}

impl Fixture {
    fn new(options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let config = with(&small_config(&folder), "--no-gradual-finetuning --epochs 1");
        let config = with(&config, options);
        run(&config);
        let best = config.run.save_dir.join(checkpoint::BEST);
        let (net, mut info) = checkpoint::load(&best, &burn::tensor::Device::flex()).unwrap();
        let calibrated = |temperature| TaskCalibration {
            temperature,
            ece_before: 0.0,
            ece_after: 0.0,
            actions: 20,
            thresholds: None,
        };
        info.calibration = Some(Calibration { tasks: [0.1, 0.2].map(calibrated).into() });
        let checkpoint = folder.path().join("sharp.safetensors");
        checkpoint::save(&checkpoint, &net, &info).unwrap();
        let page = folder.path().join("model.html");
        let output = command(&["export", "--for", "web", "--checkpoint"])
            .arg(&checkpoint)
            .arg("--out")
            .arg(&page)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        println!("{}", text(&output.stdout));
        let clips = config.data.dataset_root.join("mvfouls/test/action_0");
        let page = fs::read_to_string(page).unwrap();
        Self { _folder: folder, checkpoint, page, clips }
    }

    /// Returns the output of `predict` for clips.
    fn predict(&self, clips: &[PathBuf]) -> Value {
        let mut predict = command(&["predict", "--device", "cpu", "--json", "--top", "20"]);
        let output =
            predict.arg("--checkpoint").arg(&self.checkpoint).args(clips).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].take()
    }
}

/// Returns the confidences by class, and the shares by view.
fn numbers(prediction: &Value) -> (HashMap<String, f64>, Vec<f64>) {
    let mut confidences = HashMap::new();
    for (task, classes) in prediction["tasks"].as_object().unwrap() {
        for class in classes.as_array().unwrap() {
            let name = format!("{task}: {}", class["class"].as_str().unwrap());
            confidences.insert(name, class["confidence"].as_f64().unwrap());
        }
    }
    let views = prediction["views"].as_array().unwrap().iter();
    (confidences, views.map(|view| view["share"].as_f64().unwrap()).collect())
}

#[test]
fn a_page_predicts_as_the_program_does() {
    let fixture = Fixture::new("");
    let folder = TempDir::new().unwrap();
    let pictures = folder.path().join("pictures");
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    picture_clip(
        &pictures,
        (0..12).map(|_| {
            let colour: [u8; 3] = rng.random();
            RgbImage::from_fn(90, 70, |x, y| {
                image::Rgb(colour.map(|value| value ^ ((x / 9 + y / 7) % 64) as u8))
            })
        }),
    );
    let mut files = HashMap::from([("model.html".to_owned(), fixture.page.clone().into_bytes())]);
    let videos = [0, 1].map(|view| fixture.clips.join(format!("clip_{view}.mp4")));
    for clip in &videos {
        let name = clip.file_name().unwrap().to_str().unwrap().to_owned();
        files.insert(name, fs::read(clip).unwrap());
    }
    let images: Vec<String> = (0..12).map(|number| format!("{number}.png")).collect();
    for name in &images {
        files.insert(name.clone(), fs::read(pictures.join(name)).unwrap());
    }
    files.insert("broken.mp4".to_owned(), b"no video".to_vec());
    let task = json!({ "files": ["clip_0.mp4", "clip_1.mp4", "broken.mp4"], "images": [images] });
    let Some(answer) = run_script_with(WHOLE, &task, files) else { return };
    println!("{}", answer["shown"]);

    let expected = fixture.predict(&[videos[0].clone(), videos[1].clone(), pictures]);
    let (found, shares) = numbers(&answer["json"]);
    let (wanted, wanted_shares) = numbers(&expected);
    assert_eq!((found.len(), shares.len()), (wanted.len(), 3), "{answer}");
    let off = wanted.iter().map(|(name, confidence)| (found[name] - confidence).abs());
    let off = off.fold(0.0, f64::max);
    let share_off = shares.iter().zip(&wanted_shares).map(|(a, b)| (a - b).abs());
    let share_off = share_off.fold(0.0, f64::max);
    println!("largest difference: {off:.1e} of confidences, {share_off:.1e} of shares; {wanted:?}");
    assert!(off < 1e-3 && share_off < 1e-3, "{answer}\n{expected}");
    assert_eq!(answer["seen"], json!([]));
    assert_eq!(answer["asked"], json!([]));
}

#[test]
fn a_page_takes_no_more_views_than_the_network() {
    let fixture = Fixture::new("--max-views 1");
    let videos = [1, 0].map(|view| fixture.clips.join(format!("clip_{view}.mp4")));
    let mut files = HashMap::from([("model.html".to_owned(), fixture.page.clone().into_bytes())]);
    files.insert("a.mp4".to_owned(), fs::read(&videos[0]).unwrap());
    files.insert("b.mp4".to_owned(), fs::read(&videos[1]).unwrap());
    files.insert("notes.txt".to_owned(), b"text".to_vec());
    let task = json!({ "files": ["a.mp4", "b.mp4", "notes.txt"], "images": [] });
    let Some(answer) = run_script_with(WHOLE, &task, files) else { return };
    let (found, shares) = numbers(&answer["json"]);
    let (wanted, _) = numbers(&fixture.predict(&videos));
    assert_eq!(shares, [1.0]);
    for (name, confidence) in &wanted {
        assert!(
            (found[name] - confidence).abs() < 1e-3,
            "{name}: {} and {confidence}",
            found[name]
        );
    }
    assert_eq!(answer["seen"], json!([]));
}

/// Returns a model with random weights, for clips of 8×48×64.
fn model(kind: BackboneKind, half: bool) -> WebModel {
    model_for(kind, half, [8, 48, 64])
}

fn model_for(kind: BackboneKind, half: bool, [t, h, w]: [usize; 3]) -> WebModel {
    let schema = Schema::mvfoul().unwrap();
    let config = ModelConfig::new(kind, &schema);
    let net = config.init(1, &burn::tensor::Device::flex());
    let info = checkpoint::CheckpointInfo::new(&schema, config);
    let window = WindowSpec::frames(67, 82, 15.0, t);
    let input = InputSpec { window, size: [h, w], max_views: None };
    WebModel::new(&net, &info, &schema, &input, half, "random").unwrap()
}

/// Runs a script on the page of a model with random weights, and returns its answer.
fn used(script: &str, video: Option<&Path>) -> Option<Value> {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("model.html");
    model(BackboneKind::R3dTiny, false).write(&page).unwrap();
    let video = video.map(|video| ("video.mp4".to_owned(), fs::read(video).unwrap()));
    let page = ("model.html".to_owned(), fs::read(&page).unwrap());
    let files = video.into_iter().chain([page]).collect();
    let answer = run_script_with(script, &json!({}), files)?;
    println!("{answer}");
    assert_eq!(answer["seen"], json!([]), "messages in the console");
    Some(answer)
}

#[test]
fn a_dragged_slider_reads_little_and_hides_no_later_answer() {
    let Some(answer) = used(opening!("web/slider.js"), None) else { return };
    // The window that was being read, and the one where the slider stopped; 8 frames each.
    for drag in ["far", "back"] {
        let read = answer[drag].as_u64().unwrap();
        assert!((1..=16).contains(&read), "{read} pictures were read: {drag}");
    }
    assert_eq!((&answer["still"], &answer["shift"]), (&json!(0), &json!(-40)));
    assert_eq!(answer["hidden"], json!(false));
}

#[test]
fn folders_of_the_same_name_are_separate_clips() {
    let Some(answer) = used(opening!("web/folders.js"), None) else { return };
    let views = json!({ "view_0/frames": "4", "view_1/frames": "3", "goal": "2" });
    assert_eq!((&answer["chosen"], &answer["dropped"]), (&views, &views), "{}", answer["problem"]);
}

#[test]
fn a_device_that_fails_releases_its_memory() {
    let Some(answer) = used(opening!("web/retry.js"), None) else { return };
    let problem = "Something went wrong: as the test wants it";
    assert_eq!(answer["problems"], json!([problem, problem, ""]));
    assert_eq!((&answer["opened"], &answer["destroyed"]), (&json!(3), &json!(2)));
    let decodings = answer["decodings"].as_array().unwrap();
    assert!(decodings.iter().all(|count| *count == decodings[0]), "{decodings:?}");
    assert!(answer["json"]["views"].is_array(), "{answer}");
}

#[test]
fn a_video_that_is_removed_while_it_is_read_leaves_no_trace() {
    let clip = synthetic_clip();
    let Some(answer) = used(opening!("web/remove.js"), Some(&clip)) else { return };
    assert_eq!((&answer["disabled"], &answer["waits"]), (&json!(true), &json!(1)));
    // Less than the 10 s after which reading is aborted.
    assert!(answer["waited"].as_f64().unwrap() < 5000.0, "{answer}");
    assert_eq!((&answer["views"], &answer["problem"]), (&json!(1), &json!("")));
}

#[test]
fn every_shader_of_a_page_compiles_in_a_browser() {
    let kinds = [BackboneKind::R3dTiny, BackboneKind::Mc3_18, BackboneKind::R3d50];
    let models = kinds.map(|kind| model(kind, true));
    let mut texts = HashMap::new();
    for program in models.iter().flat_map(WebModel::programs) {
        // A device without f16 uses the other programs.
        if !program.features.contains(&"shader-f16") {
            for shader in &program.shaders {
                texts.insert(shader.clone(), shader.clone());
            }
        }
        let memory = program.memory;
        println!("{memory:?}");
        assert!(memory.least <= memory.activations && memory.activations < 2 * memory.least);
    }
    let script = include_str!("shaders/compile.js");
    let Some(answer) = run_script(script, &json!({ "texts": texts })) else { return };
    assert_eq!(answer["refused"], json!({}), "of {} texts", texts.len());
}

#[test]
fn clips_of_an_odd_number_of_values_fit_their_buffer_in_whole_words() {
    let size @ [t, h, w] = [15, 113, 113];
    let model = model_for(BackboneKind::R3dTiny, true, size);
    let mut halves = 0;
    for program in model.programs() {
        halves += usize::from(program.half);
        let written = (3 * t * h * w * if program.half { 2 } else { 4 }).next_multiple_of(4);
        assert!(written <= program.buffers[program.input].bytes, "{written}");
    }
    assert!(halves > 0);
}

#[test]
fn max_pooling_takes_the_largest_of_each_window() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let sizes: [[usize; 5]; 3] = [[1, 3, 4, 6, 8], [2, 2, 5, 7, 3], [1, 1, 1, 1, 1]];
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for from @ [n, c, t, h, w] in sizes {
        let to @ [_, _, to_t, to_h, to_w] = [n, c, t.div_ceil(2), h.div_ceil(2), w.div_ceil(2)];
        let x: Vec<f32> = (0..from.iter().product()).map(|_| rng.random_range(-9.0..9.0)).collect();
        let window = |place: usize, size: usize| (2 * place).max(1) - 1..(2 * place + 2).min(size);
        let mut y = Vec::new();
        for plane in x.chunks(t * h * w) {
            for place in 0..to_t * to_h * to_w {
                let (i, j, k) = (place / to_w / to_h, place / to_w % to_h, place % to_w);
                let mut most = f32::MIN;
                for at in window(i, t) {
                    for row in window(j, h) {
                        let line = (at * h + row) * w;
                        most = window(k, w).fold(most, |most, at| most.max(plane[line + at]));
                    }
                }
                y.push(most);
            }
        }
        let plan = polyview::web::testing::max_pool_plan([from, to]).unwrap();
        cases.push(json!({ "plan": plan, "operands": [x], "written": y.len() }));
        expected.push(y);
    }
    let script = include_str!("shaders/plan.js");
    let Some(answer) = run_script(script, &json!({ "cases": cases })) else { return };
    let found: Vec<Vec<f32>> = serde_json::from_value(answer).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn a_large_page_becomes_a_folder() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("large.html");
    let large = model(BackboneKind::R3d18, false);
    let written = large.write(&out).unwrap();
    assert_eq!(written.page, folder.path().join("large/index.html"));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let files: Vec<PathBuf> =
        fs::read_dir(folder.path().join("large")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), written.files);
    assert_eq!(files.iter().map(|file| size(file)).sum::<u64>(), written.bytes);
    let page = fs::read_to_string(&written.page).unwrap();
    for number in 1..written.files {
        assert!(page.contains(&format!("<script src=\"weights-{number}.js\">")));
    }
    assert!(!out.exists());
    // It may overwrite itself, but is not written among other files.
    assert_eq!(large.write(&out).unwrap(), written);
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/best.state"), b"x").unwrap();
    let error = large.write(&folder.path().join("run.html")).unwrap_err().to_string();
    assert!(error.contains("this one holds other files"), "{error}");
}

#[test]
fn what_cannot_be_exported_is_refused_in_one_line() {
    let fixture = Fixture::new("");
    let refused = |args: &[&str]| {
        let mut export = command(&["export", "--checkpoint"]);
        let output = export.arg(&fixture.checkpoint).args(args).output().unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    let page = page.to_str().unwrap();
    let report = folder.path().join("report.html");
    fs::write(&report, "<!doctype html>\n<title>run</title>").unwrap();
    let report = report.to_str().unwrap();
    for (args, expected) in [
        (vec!["--for", "web", "--out", "page.txt"], "the name must end with .html"),
        (vec!["--out", "a.safetensors", "--size", "4,32,32"], "--size needs --for web"),
        (vec!["--for", "web", "--out", page, "--size", "4,32"], "frames, rows and columns"),
        (vec!["--for", "web", "--out", page, "--size", "4,8,32"], "16 to 4096"),
        (vec!["--for", "web", "--out", page, "--size", "512,4096,4096"], "choose another --size"),
        (vec!["--for", "web", "--out", "/none/page.html"], "there is no folder /none"),
        (vec!["--for", "web", "--out", report], "already exists and is not a page of a network"),
        (vec!["--out", "page.html"], "--out page.html: a page is written with --for web"),
        (vec!["--out", "a.pt"], "--out a.pt: the name must end with .safetensors"),
    ] {
        let error = refused(&args);
        assert!(
            error.contains(expected) && error.trim_end().lines().count() <= 3,
            "{args:?}: {error}"
        );
    }
}
