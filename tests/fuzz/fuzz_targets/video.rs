//! Any bytes as a clip: its index, a window of frames, and the whole of it.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use polyview::data::clip::ClipError;
use polyview::data::video::{read_clip, verify_clip};

static CLIP: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/polyview-fuzz-{}.mp4", std::process::id())));

/// Frames of a window, as many as training takes by default.
const WINDOW: usize = 16;

/// Pixels of a clip that is read at every chance: a picture as large as the decoder takes costs a
/// thousand times the work of a small one, and shows little more.
const SMALL: usize = 256 * 256;

fuzz_target!(init: polyview::guard(), |bytes: &[u8]| {
    fs::write(&*CLIP, bytes).expect("room in memory");
    let Ok((facts, _)) = read_clip(&CLIP, |_| Vec::new()).map_err(one_line) else {
        return;
    };
    if facts.width * facts.height > SMALL && !bytes.len().is_multiple_of(16) {
        return;
    }
    // A start that differs between inputs, and the last frame again where the clip ends early.
    let first = bytes.len() % facts.frames;
    let wanted = (first..first + WINDOW).map(|t| t.min(facts.frames - 1)).collect();
    if let Ok((info, frames)) = read_clip(&CLIP, |_| wanted).map_err(one_line) {
        assert_eq!(info, facts);
        assert_eq!((frames.count, frames.height, frames.width), (WINDOW, info.height, info.width));
        assert_eq!(frames.data.len(), WINDOW * info.height * info.width * 3);
        assert!(info.fps.is_finite() && info.fps > 0.0);
    }
    if let Ok(info) = verify_clip(&CLIP).map_err(one_line) {
        assert_eq!(info, facts);
    }
});

/// Errors end up in tables and logs.
fn one_line(error: ClipError) {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}
