//! A tenth of the clips that `scripts/clip_matrix.py` makes, against what the ffmpeg program decodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use polyview::data::clip::ClipError;
use polyview::data::video::visit_frames;
use serde_json::Value;

use crate::common::clips::{ffmpeg, have_ffmpeg, mean_difference};
use crate::common::skip::{skip, skip_unless_required};

/// Largest allowed difference of a frame's mean in any channel, in grey levels.
const MEAN: f64 = 2.0;

/// Largest allowed mean absolute difference of a frame's pixels, in grey levels. Chroma is
/// interpolated differently, which shows at the pattern's edges; a frame that is not upright
/// differs by more than twice as much.
const PIXELS: f64 = 12.0;

/// One decoded frame.
struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn mean(&self, channel: usize) -> f64 {
        let sum: u64 = self.rgb.iter().skip(channel).step_by(3).map(|&v| u64::from(v)).sum();
        sum as f64 / (self.width * self.height) as f64
    }
}

/// Makes the clips; `None` after reporting a skip where this machine cannot.
fn make(folder: &Path) -> Option<Vec<Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clip_matrix.py");
    let python = ["python3", "python"].into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(python) = python else {
        skip_unless_required("POLYVIEW_REQUIRE_PYTHON", "no Python 3");
        return None;
    };
    let mut command = Command::new(python);
    let output = command.arg(script).arg("make").arg(folder).args(["--every", "10"]).output();
    let output = output.expect("Python has printed its version");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    // Encoders that this ffmpeg lacks.
    log.lines().for_each(skip);
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Vec<Value> = serde_json::from_slice(&manifest).unwrap();
    assert!(!manifest.is_empty());
    Some(manifest)
}

/// Returns every frame as decoded by the ffmpeg program, upright, whatever its time stamp.
fn theirs(path: &Path) -> Vec<Picture> {
    // `-fps_mode` came with ffmpeg 5.1; `-vsync`, its old name, has been removed since.
    for option in ["-fps_mode", "-vsync"] {
        let mut command = ffmpeg();
        command.arg("-i").arg(path).args(["-map", "0:V:0", option, "passthrough"]);
        // In this format each frame states its size.
        command.args(["-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"]);
        let pictures = parse(&command.output().expect("have_ffmpeg has found one").stdout);
        if !pictures.is_empty() {
            return pictures;
        }
    }
    Vec::new()
}

/// Splits binary PPM images: "P6", width and height, 255, each on its line, then RGB.
fn parse(mut bytes: &[u8]) -> Vec<Picture> {
    let mut pictures = Vec::new();
    while let Some(rest) = bytes.strip_prefix(b"P6\n") {
        let mut lines = rest.splitn(3, |&byte| byte == b'\n');
        let size = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let (width, height) = size.split_once(' ').unwrap();
        let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
        assert_eq!(lines.next(), Some(&b"255"[..]));
        let (rgb, rest) = lines.next().unwrap().split_at(width * height * 3);
        pictures.push(Picture { width, height, rgb: rgb.to_vec() });
        bytes = rest;
    }
    pictures
}

/// Returns every frame as decoded by polyview.
fn ours(path: &Path) -> Result<Vec<Picture>, ClipError> {
    let mut pictures: Vec<Option<Picture>> = Vec::new();
    let all = |info: &polyview::data::clip::ClipInfo| (0..info.frames).collect();
    visit_frames(path, all, |frame| {
        for &t in frame.positions {
            pictures.resize_with(pictures.len().max(t + 1), || None);
            let (width, height) = (frame.width, frame.height);
            pictures[t] = Some(Picture { width, height, rgb: frame.data.to_vec() });
        }
        Ok(())
    })?;
    Ok(pictures.into_iter().map(|picture| picture.expect("each frame is delivered")).collect())
}

/// Returns how the frames of a clip differ from ffmpeg's; `None` if they do not.
fn differences(path: &Path, mirrored: bool) -> Option<String> {
    let theirs = theirs(path);
    if theirs.is_empty() {
        skip(format_args!("ffmpeg reads no frame of {}", path.display()));
        return None;
    }
    let ours = match ours(path) {
        Ok(pictures) => pictures,
        Err(error) => return Some(error.to_string()),
    };
    if ours.len() != theirs.len() {
        return Some(format!("{} frames, ffmpeg has {}", ours.len(), theirs.len()));
    }
    for (t, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        if (our.width, our.height) != (their.width, their.height) {
            let sizes = [(our.width, our.height), (their.width, their.height)];
            return Some(format!("frame {t}: size {:?}, ffmpeg's {:?}", sizes[0], sizes[1]));
        }
        for channel in 0..3 {
            let (our, their) = (our.mean(channel), their.mean(channel));
            if (our - their).abs() > MEAN {
                return Some(format!("frame {t}: mean {our:.1}, ffmpeg's {their:.1}"));
            }
        }
        // Before version 5 ffmpeg rotates frames, but does not mirror them.
        let pixels = mean_difference(&our.rgb, &their.rgb);
        if pixels > PIXELS && !mirrored {
            return Some(format!("frame {t}: its pixels differ by {pixels:.1} levels"));
        }
    }
    None
}

#[test]
fn clips_of_all_kinds_agree_with_ffmpeg() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(manifest) = make(folder.path()) else { return };
    let mut wrong = Vec::new();
    for clip in &manifest {
        let path: PathBuf = folder.path().join(clip["name"].as_str().unwrap());
        if let Some(how) = differences(&path, clip["rotation"].is_string()) {
            wrong.push(format!("{clip}: {how}"));
        }
    }
    let share = manifest.len() - wrong.len();
    assert!(wrong.is_empty(), "{share} of {} agree\n{}", manifest.len(), wrong.join("\n"));
}
