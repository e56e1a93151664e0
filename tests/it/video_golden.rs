//! Frames, times, colours and orientation of mp4 files that are decoded in process, against PyAV's
//! output (`tests/data/clips/golden.py`).

use std::fs;
use std::path::Path;

use polyview::data::video::{read_clip, verify_clip, visit_luma};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    width: usize,
    height: usize,
    fps: f64,
    /// Mean of red, green and blue of each frame.
    rgb: Vec<[f64; 3]>,
    /// Mean of red, green and blue of each quarter of the first frame, upright: two above, two
    /// below.
    quarters: [[f64; 3]; 4],
}

/// Returns the mean colour of a part of a frame `[H, W, 3]`.
fn mean(frame: &[u8], width: usize, rows: [usize; 2], columns: [usize; 2]) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for y in rows[0]..rows[1] {
        for pixel in frame[3 * (y * width + columns[0])..3 * (y * width + columns[1])].chunks(3) {
            for (sum, value) in sum.iter_mut().zip(pixel) {
                *sum += f64::from(*value);
            }
        }
    }
    sum.map(|sum| sum / ((rows[1] - rows[0]) * (columns[1] - columns[0])) as f64)
}

fn difference(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn golden_clips_agree_with_pyav() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips");
    let golden = fs::read(folder.join("golden.json")).unwrap();
    let golden: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&golden).unwrap();
    assert!(golden.len() > 20);
    let mut largest: f64 = 0.0;
    for (name, facts) in golden {
        let facts: Golden = serde_json::from_value(facts).unwrap();
        let path = folder.join(&name);
        let mut seen = 0;
        visit_luma(&path, |_, _| seen += 1).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(seen, facts.rgb.len(), "{name}: frames decoded in process");
        let (info, frames) = read_clip(&path, |info| (0..info.frames).collect()).unwrap();
        assert_eq!((info.width, info.height), (facts.width, facts.height), "{name}");
        assert_eq!(frames.count, facts.rgb.len(), "{name}");
        assert!((info.fps / facts.fps - 1.0).abs() < 1e-3, "{name}: {} fps", info.fps);
        assert_eq!(info.complaint, None, "{name}");
        assert_eq!(verify_clip(&path).unwrap(), info, "{name}");
        let (w, h) = (info.width, info.height);
        for (t, expected) in facts.rgb.iter().enumerate() {
            let found = mean(frames.frame(t), w, [0, h], [0, w]);
            let off = difference(found, *expected);
            assert!(off < 0.1, "{name}, frame {t}: {found:?}, not {expected:?}");
            largest = largest.max(off);
        }
        for (quarter, expected) in facts.quarters.iter().enumerate() {
            let part = |half: usize, size: usize| [[0, size / 2], [size / 2, size]][half];
            let found = mean(frames.frame(0), w, part(quarter / 2, h), part(quarter % 2, w));
            let off = difference(found, *expected);
            assert!(off < 0.1, "{name}, quarter {quarter}: {found:?}, not {expected:?}");
        }
    }
    println!("largest difference of a frame's mean: {largest:.2} grey levels");
}

#[test]
fn the_rotation_of_clips_is_reported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips");
    for (name, rotation, mirrored) in [
        ("turned.mp4", 270, false),
        ("bt709_turned_90_reversed.mp4", 90, false),
        ("full_turned_180_no_times.mp4", 180, false),
        ("mirrored.mov", 180, true),
        ("two_parts.mp4", 0, false),
    ] {
        let info = verify_clip(&folder.join(name)).unwrap();
        assert_eq!((info.rotation, info.mirrored), (rotation, mirrored), "{name}");
        assert_eq!(info.pixel_aspect, [1, 1], "{name}");
    }
}

/// Returns the offset of a box's content in an mp4 file.
fn offset(bytes: &[u8], name: &[u8; 4]) -> usize {
    bytes.windows(4).position(|window| window == name).expect("the file has the box") + 4
}

#[test]
fn the_pixel_aspect_ratio_is_reported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("clip.mp4");
    let aspect = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        verify_clip(&path).unwrap().pixel_aspect
    };
    for (name, expected) in [("two_parts.mp4", [4, 3]), ("bt709_turned_90_reversed.mp4", [3, 4])] {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        let at = offset(&bytes, b"pasp");
        bytes[at..at + 8].copy_from_slice(&[0, 0, 0, 40, 0, 0, 0, 30]);
        assert_eq!(aspect(&bytes), expected, "{name}");
        // An invalid ratio.
        bytes[at..at + 8].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 30]);
        assert_eq!(aspect(&bytes), [1, 1], "{name}");
        // Without the box, the display size in the track header decides: twice as wide.
        bytes[at - 4..at].copy_from_slice(b"free");
        let width = offset(&bytes, b"tkhd") + 76;
        let stored = u16::from_be_bytes([bytes[width], bytes[width + 1]]);
        bytes[width..width + 2].copy_from_slice(&(2 * stored).to_be_bytes());
        let wide = if expected[0] > expected[1] { [2, 1] } else { [1, 2] };
        assert_eq!(aspect(&bytes), wide, "{name}");
    }
}

#[test]
fn an_odd_angle_is_left_to_ffmpeg() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips");
    let mut bytes = fs::read(folder.join("two_parts.mp4")).unwrap();
    let matrix = offset(&bytes, b"tkhd") + 40;
    for (index, number) in [(0, 56756i32), (1, 32768), (3, -32768), (4, 56756)] {
        bytes[matrix + 4 * index..][..4].copy_from_slice(&number.to_be_bytes());
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("clip.mp4");
    fs::write(&path, bytes).unwrap();
    let refusal = visit_luma(&path, |_, _| {}).unwrap_err().to_string();
    assert!(refusal.contains("rotation by an angle that is not a multiple of 90°"), "{refusal}");
}
