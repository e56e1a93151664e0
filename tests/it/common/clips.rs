//! Clips for tests, and reading them with our decoder and with ffmpeg.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use polyview::data::clip::{ClipError, Frames};
use polyview::data::resize::Resizer;
use polyview::data::video::read_clip;
use polyview::synth::{SynthOptions, write};

use super::data::task;
use super::skip::{skip, skip_unless_required};

/// Environment variable that, set to 1, makes tests fail on a machine without ffmpeg or one of the
/// encoders.
const REQUIRED: &str = "POLYVIEW_REQUIRE_FFMPEG";

/// Checks whether there is an ffmpeg program; reports a skip if there is none.
pub fn have_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        skip_unless_required(REQUIRED, "no ffmpeg program");
    }
    found
}

/// Returns an ffmpeg command that prints errors only and reads nothing from the terminal.
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin"]);
    command
}

/// Runs an encoding command and returns whether it succeeded; reports a skip if this ffmpeg lacks the
/// encoder.
pub fn encoded(command: &mut Command) -> bool {
    let output = command.output().expect("have_ffmpeg was called");
    if !output.status.success() {
        skip_unless_required(REQUIRED, String::from_utf8_lossy(&output.stderr).trim());
    }
    output.status.success()
}

/// Returns this ffmpeg's option for writing each frame once, whatever its timestamp.
pub fn each_frame() -> [&'static str; 2] {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let help = Command::new("ffmpeg").args(["-hide_banner", "-h", "full"]).output();
        let help = help.expect("have_ffmpeg was called").stdout;
        String::from_utf8_lossy(&help).lines().any(|line| line.starts_with("-fps_mode"))
    });
    [if *known { "-fps_mode" } else { "-vsync" }, "passthrough"]
}

/// Decodes every frame of a file with ffmpeg to raw frames, with these output options.
pub fn ffmpeg_raw(path: &Path, options: &[&str]) -> Vec<u8> {
    let mut command = ffmpeg();
    command.arg("-i").arg(path).args(each_frame());
    let output = command.args(options).args(["-f", "rawvideo", "-"]).output();
    let output = output.expect("have_ffmpeg was called");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Decodes a file with ffmpeg to raw RGB frames; interlaced ones are converted field by field.
pub fn ffmpeg_rgb(path: &Path) -> Vec<u8> {
    ffmpeg_raw(path, &["-vf", "scale=interl=-1", "-pix_fmt", "rgb24"])
}

/// Reads every frame of a clip.
pub fn read_all(path: &Path) -> Result<Frames, ClipError> {
    read_clip(path, |info| (0..info.frames).collect()).map(|(_, frames)| frames)
}

/// Returns the mean red, green and blue of each frame.
pub fn means(frames: &Frames) -> Vec<[f64; 3]> {
    let mean = |frame: &[u8]| {
        let channel =
            |c: usize| frame.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>();
        [0, 1, 2].map(|c| channel(c) * 3.0 / frame.len() as f64)
    };
    (0..frames.count).map(|t| mean(frames.frame(t))).collect()
}

/// Returns the path of a small file in `tests/data/cases`.
pub fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases").join(name)
}

/// Resizes every frame and concatenates the results.
pub fn resize_all(resizer: &mut Resizer, frames: &Frames) -> Vec<u8> {
    let mut out = vec![0; frames.count * resizer.bytes()];
    for (t, out) in out.chunks_exact_mut(resizer.bytes()).enumerate() {
        resizer
            .frame(frames.frame(t), frames.height, frames.width, out)
            .expect("frames have their size");
    }
    out
}

/// Returns the mean absolute difference in grey levels.
pub fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

/// Returns the folder of real clips: `POLYVIEW_SAMPLE`, or the one beside the repository; `None` after
/// reporting a skip if there is none.
pub fn sample_folder() -> Option<PathBuf> {
    let named = std::env::var_os("POLYVIEW_SAMPLE").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mvfoul-sample");
    let folder = named.unwrap_or(beside);
    if folder.join("frames.json").is_file() {
        return Some(folder);
    }
    skip(format_args!("no sample clips at {}", folder.display()));
    None
}

/// Returns a synthetic clip of 60 frames, which is written once for all tests.
pub fn synthetic_clip() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("set");
        let options =
            SynthOptions { out, actions: 1, views: 1, frames: 60, ..SynthOptions::default() };
        write(&options, &[task("a", 1), task("b", 1)], |_, _| {}).expect("an empty folder");
        folder
    });
    folder.path().join("set/mvfouls/train/action_0/clip_0.mp4")
}

/// Creates a clip that is a folder of images.
pub fn picture_clip(folder: &Path, pictures: impl IntoIterator<Item = image::RgbImage>) {
    std::fs::create_dir_all(folder).expect("the folder is writable");
    for (number, picture) in pictures.into_iter().enumerate() {
        picture.save(folder.join(format!("{number}.png"))).expect("the folder is writable");
    }
}
