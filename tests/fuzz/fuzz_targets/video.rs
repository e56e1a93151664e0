//! Reads arbitrary bytes as a clip: its index, a window of frames at the original size and resized,
//! and then the whole clip.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use polyview::data::clip::ClipError;
use polyview::data::resize::Resizer;
use polyview::data::video::{read_clip, read_resized, verify_clip};

static CLIP: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/polyview-fuzz-{}.mp4", std::process::id())));

/// Number of frames in a window, which is training's default.
const WINDOW: usize = 16;

/// Height and width of resized frames.
const OTHER: (usize, usize) = (24, 40);

/// Largest frame size, in pixels, at which every input is decoded: a frame of the largest size that
/// the decoder accepts takes a thousand times the work of a small one and reveals little more.
const SMALL: usize = 256 * 256;

fuzz_target!(init: polyview::guard(), |bytes: &[u8]| {
    fs::write(&*CLIP, bytes).expect("write to /dev/shm");
    let Ok((facts, _)) = read_clip(&CLIP, |_| Vec::new()).map_err(one_line) else {
        return;
    };
    if facts.width * facts.height > SMALL && !bytes.len().is_multiple_of(16) {
        return;
    }
    // The start differs between inputs; the last frame is repeated where the clip ends early.
    let first = bytes.len() % facts.frames;
    let wanted: Vec<usize> = (first..first + WINDOW).map(|t| t.min(facts.frames - 1)).collect();
    let read = read_clip(&CLIP, |_| wanted.clone()).map_err(one_line);
    // Frames that keep their size are decoded directly into the output.
    let kept = read.is_ok() && bytes.len().is_multiple_of(2);
    let (height, width) = if kept { (facts.height, facts.width) } else { OTHER };
    let mut resized = vec![0; WINDOW * height * width * 3];
    let mut resizer = Resizer::new(height, width);
    let again = read_resized(&CLIP, |_| wanted.clone(), &mut resizer, &mut resized).map_err(one_line);
    assert!(!kept || again.is_ok());
    if let Ok((info, frames)) = read {
        assert_eq!(info, facts);
        assert_eq!((frames.count, frames.height, frames.width), (WINDOW, info.height, info.width));
        assert_eq!(frames.data.len(), WINDOW * info.height * info.width * 3);
        assert!(info.fps.is_finite() && info.fps > 0.0);
        assert!(!kept || frames.data == resized, "frames decoded in place differ");
    }
    if let Ok(info) = verify_clip(&CLIP).map_err(one_line) {
        assert_eq!(info, facts);
    }
});

/// Errors end up in tables and logs.
fn one_line(error: ClipError) {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}
