//! Reading a window: skipped frames change nothing, and frames are written in place.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use polyview::data::resize::Resizer;
use polyview::data::sampling::WindowSpec;
use polyview::data::video::{read_clip, read_resized, verify_clip, visit_frames, visit_luma};

use crate::common::clips::{
    encoded, ffmpeg, ffmpeg_raw, have_ffmpeg, read_all, resize_all, sample_folder, synthetic_clip,
};

/// Encodes 61 moving frames of 128x96 with x264; returns false where this ffmpeg lacks it.
fn encode(path: &Path, options: &str) -> bool {
    let source = "mandelbrot=size=128x96:rate=25:end_scale=0.1,noise=alls=8:allf=t";
    let mut command = ffmpeg();
    command.args(["-y", "-f", "lavfi", "-i", source, "-frames:v", "61"]);
    command.args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-x264-params"]);
    encoded(command.arg(options).arg(path))
}

/// Compares windows with the same frames of a complete decoding.
fn windows_are_exact(path: &Path, name: &str) {
    let whole = read_all(path).unwrap();
    let last = whole.count - 1;
    let spec = WindowSpec::frames(67, 82, 15.0, 16);
    let mut windows: Vec<Vec<usize>> = (0..=last).step_by(11).map(|t| vec![t]).collect();
    windows.extend([vec![last, 0], vec![37, 21, 21, 23], (30..46).collect()]);
    let mut usual = Vec::new();
    read_clip(path, |info| {
        usual = spec.window_indices(info).indices;
        Vec::new()
    })
    .unwrap();
    windows.push(usual);
    for wanted in windows {
        let (_, frames) = read_clip(path, |_| wanted.clone()).unwrap();
        assert_eq!(frames.count, wanted.len());
        for (i, &t) in wanted.iter().enumerate() {
            assert!(frames.frame(i) == whole.frame(t), "{name}: frame {t} of {wanted:?}");
        }
    }
}

#[test]
fn windows_of_real_clips_are_exact() {
    windows_are_exact(&synthetic_clip(), "synthetic");
    let Some(folder) = sample_folder() else {
        return;
    };
    let golden: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("frames.json")).unwrap()).unwrap();
    for name in golden["clips"].as_object().unwrap().keys() {
        windows_are_exact(&folder.join(name), name);
    }
}

#[test]
fn windows_of_every_kind_of_reference_structure_are_exact() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut variants = vec![
        "bframes=3:open-gop=1:keyint=20:min-keyint=5".to_string(),
        "bframes=8:b-adapt=0:open-gop=1:keyint=20:ref=4".into(),
        "intra-refresh=1:bframes=2:keyint=12".into(),
        "intra-refresh=1:bframes=0:keyint=12:ref=1".into(),
        "slices=4:bframes=3:ref=3".into(),
        "slice-max-mbs=5:bframes=3:b-pyramid=strict".into(),
        "bframes=3:direct=temporal:ref=2".into(),
        "bframes=3:direct=spatial:cabac=0:8x8dct=0".into(),
        "bframes=3:weightb=1:weightp=2:ref=5".into(),
        "bframes=3:b-adapt=0:keyint=7:scenecut=0".into(),
        "keyint=1".into(),
        "nal-hrd=vbr:vbv-maxrate=400:vbv-bufsize=400:aud=1:bframes=3".into(),
    ];
    // Without B-frames x264 counts pictures by type 2, else by type 0.
    for bframes in [0, 3, 8] {
        for pyramid in ["none", "normal", "strict"] {
            for refs in [1, 2, 4, 8] {
                variants
                    .push(format!("bframes={bframes}:b-adapt=0:b-pyramid={pyramid}:ref={refs}"));
            }
        }
    }
    let path = folder.path().join("variant.mp4");
    for options in variants {
        if encode(&path, &options) {
            windows_are_exact(&path, &options);
            let theirs = ffmpeg_raw(&path, &["-vf", "extractplanes=y"]);
            let mut frames = theirs.chunks_exact(128 * 96).count();
            visit_luma(&path, |t, luma| {
                assert!(luma == &theirs[t * luma.len()..][..luma.len()], "{options}: frame {t}");
                frames -= 1;
            })
            .unwrap();
            assert_eq!(frames, 0, "{options}");
        }
    }
}

/// Overwrites every frame that no other refers to, and returns their number. The file's `mdat`
/// must be one run of units with four-byte lengths.
fn spoil_unreferenced(path: &Path) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let name = bytes.windows(4).position(|w| w == b"mdat").unwrap();
    let length = |bytes: &[u8], at: usize| -> usize {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()).try_into().unwrap()
    };
    let end = name - 4 + length(&bytes, name - 4);
    let (mut at, mut spoilt) = (name + 4, 0);
    while at < end {
        let next = at + 4 + length(&bytes, at);
        if bytes[at + 4] == 1 {
            bytes[at + 5..next].fill(0);
            spoilt += 1;
        }
        at = next;
    }
    fs::write(path, bytes).unwrap();
    spoilt
}

#[test]
fn frames_that_are_not_needed_are_not_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    if !have_ffmpeg() || !encode(&path, "bframes=3:b-adapt=0:b-pyramid=none:scenecut=0") {
        return;
    }
    // I B B B P B B B P ...
    let wanted = [40, 44, 48, 60];
    let (_, sound) = read_clip(&path, |_| wanted.to_vec()).unwrap();
    assert_eq!(spoil_unreferenced(&path), 45);
    let (_, frames) = read_clip(&path, |_| wanted.to_vec()).unwrap();
    assert!(frames == sound, "a frame that nothing needs changes the result");
    let errors = [verify_clip(&path).err(), read_clip(&path, |_| vec![44, 46]).err()];
    for error in errors {
        assert_eq!(error.unwrap().kind(), "damaged");
    }
}

/// Creates a folder of six images of 40x30.
fn images(folder: &Path) -> PathBuf {
    let clip = folder.join("images");
    fs::create_dir(&clip).unwrap();
    for t in 0..6u32 {
        let pixel = |x: u32, y: u32| Rgb([(40 * t) as u8, (6 * x) as u8, (8 * y) as u8]);
        RgbImage::from_fn(40, 30, pixel).save(clip.join(format!("{t}.png"))).unwrap();
    }
    clip
}

#[test]
fn frames_are_resized_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = vec![synthetic_clip(), images(folder.path())];
    let other = folder.path().join("lossless.mp4");
    if have_ffmpeg() && encode(&other, "qp=0") {
        paths.push(other);
    }
    let wanted = [5, 2, 2, 4, 5, 0];
    for path in paths {
        let (info, frames) = read_clip(&path, |_| wanted.to_vec()).unwrap();
        let mut seen = Vec::new();
        let visited = visit_frames(
            &path,
            |_| wanted.to_vec(),
            |frame| {
                assert_eq!(frame.data, frames.frame(frame.positions[0]));
                seen.push(frame.positions.to_vec());
                Ok(())
            },
        );
        assert_eq!(visited.unwrap(), info);
        seen.sort();
        assert_eq!(seen, [vec![0, 4], vec![1, 2], vec![3], vec![5]]);

        for (height, width) in [(info.height, info.width), (20, 24)] {
            let mut resizer = Resizer::new(height, width);
            let expected = resize_all(&mut resizer, &frames);
            let mut out = vec![1; expected.len()];
            read_resized(&path, |_| wanted.to_vec(), &mut resizer, &mut out).unwrap();
            assert!(out == expected, "{} at {height}x{width}", path.display());
            let short = &mut out[1..];
            assert!(read_resized(&path, |_| wanted.to_vec(), &mut resizer, short).is_err());
        }
    }
}
