//! Damaged and hostile files: an error of the expected kind or a whole clip, never a panic.

use std::fs;
use std::panic;
use std::path::Path;

use polyview::data::clip::ClipError;
use polyview::data::video::{read_clip, verify_clip};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::common::clips::{have_ffmpeg, read_all, sample_folder, synthetic_clip};

#[test]
fn files_that_are_not_clips() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let kind = |path: &Path| read_clip(path, |_| vec![0]).unwrap_err().kind();
    assert_eq!(kind(&at("empty.mp4", b"")), "empty");
    assert_eq!(
        kind(&at("text.mp4", b"This is a text of some length, and no video at all.")),
        "damaged"
    );
    assert_eq!(kind(&at("short.mp4", b"abc")), "damaged");
    assert_eq!(kind(&at("zeros.mp4", &[0; 4096])), "damaged");
    assert_eq!(kind(&at("only_ftyp.mp4", b"\0\0\0\x10ftypisom\0\0\0\0")), "damaged");
    // Other containers go to ffmpeg, which finds no video in this one.
    let avi = at("other.avi", b"RIFF\xff\0\0\0AVI LIST and nothing more");
    assert_eq!(kind(&avi), if have_ffmpeg() { "no video" } else { "unsupported" });
    // Boxes that claim size 0, and boxes that claim the largest 32-bit size.
    assert_eq!(kind(&at("zero_box.mp4", b"\0\0\0\x08ftyp\0\0\0\0moov\0\0\0\0trak")), "damaged");
    assert_eq!(kind(&at("huge_box.mp4", b"\xff\xff\xff\xffmoov\xff\xff\xff\xfftrak")), "damaged");
    // The handler of the only track renamed: a file without video.
    let mut bytes = fs::read(synthetic_clip()).unwrap();
    let at_vide = bytes.windows(4).position(|w| w == b"vide").unwrap();
    bytes[at_vide..at_vide + 4].copy_from_slice(b"text");
    let path = at("no_video.mp4", &bytes);
    assert_eq!(read_clip(&path, |_| vec![0]).unwrap_err(), ClipError::NoVideo(path));
}

#[test]
fn truncated_files() {
    let mut paths = vec![synthetic_clip()];
    paths.extend(sample_folder().map(|f| f.join("mvfouls/train/action_0/clip_2.mp4")));
    let folder = tempfile::tempdir().unwrap();
    for original in paths {
        let bytes = fs::read(original).unwrap();
        for part in [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97] {
            let path = folder.path().join("cut.mp4");
            fs::write(&path, &bytes[..(bytes.len() as f64 * part) as usize]).unwrap();
            for result in [read_all(&path).map(|_| ()), verify_clip(&path).map(|_| ())] {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), "damaged", "{part}: {error}");
                assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}

#[test]
fn random_bit_flips() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut originals = vec![fs::read(synthetic_clip()).unwrap()];
    if let Some(folder) = sample_folder() {
        let path = folder.join("mvfouls/valid/action_3/clip_0.mp4");
        originals.push(fs::read(path).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped.mp4");
    let (mut whole, mut refused, mut panics) = (0, 0, 0);
    for case in 0..200 {
        let mut bytes = originals[usize::from(case % 5 == 0) % originals.len()].clone();
        // Half of the cases hit the index, which is small compared to the frames.
        let moov = bytes.windows(4).position(|w| w == b"moov").unwrap();
        let range = if case % 4 < 2 { moov..bytes.len().min(moov + 4000) } else { 0..bytes.len() };
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(range.clone());
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        fs::write(&path, &bytes).unwrap();
        // A panic that the reader caught is an error that says so; none of either is expected.
        let result = panic::catch_unwind(|| read_all(&path));
        match result {
            Ok(Ok(frames)) => {
                let bytes = frames.count * frames.height * frames.width * 3;
                assert_eq!(frames.data.len(), bytes);
                assert!(frames.count > 0);
                whole += 1;
            }
            Ok(Err(error)) => {
                assert!(!error.to_string().contains("the decoder failed"), "case {case}: {error}");
                refused += 1;
            }
            Err(_) => panics += 1,
        }
    }
    println!("bit flips: {whole} decoded, {refused} refused");
    assert_eq!(panics, 0);
}
