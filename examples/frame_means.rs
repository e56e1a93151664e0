//! Summary of decoded clips: one line with a JSON object per clip, with its properties and, for
//! each frame in display order, the means of R, G and B (0 to 255) over the whole frame and over
//! its four quadrants, which show whether a frame is rotated. For a clip that cannot be read, the
//! object has `error` instead.
//!
//!     cargo run --example frame_means -- CLIP...

use std::error::Error;
use std::io::Write;
use std::path::Path;

use polyview::data::clip::{ClipError, Frame};
use polyview::data::video::visit_frames;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for clip in std::env::args_os().skip(1) {
        let path = Path::new(&clip);
        let mut line = describe(path)
            .unwrap_or_else(|error| json!({ "kind": error.kind(), "error": error.to_string() }));
        line["path"] = path.display().to_string().into();
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Returns the clip's properties and its frames' means. Only one frame is in memory at a time.
fn describe(path: &Path) -> Result<Value, ClipError> {
    let mut frames: Vec<Option<Summary>> = Vec::new();
    let info = visit_frames(
        path,
        |info| (0..info.frames).collect(),
        |frame| {
            // Frames arrive in decoding order.
            for &t in frame.positions {
                frames.resize(frames.len().max(t + 1), None);
                frames[t] = Some(summary(&frame));
            }
            Ok(())
        },
    )?;
    let means: Vec<_> = frames.iter().map(|frame| frame.map(|summary| summary.0)).collect();
    let quadrants: Vec<_> = frames.iter().map(|frame| frame.map(|summary| summary.1)).collect();
    Ok(json!({
        "frames": info.frames,
        "width": info.width,
        "height": info.height,
        "fps": info.fps,
        "codec": info.codec,
        "rotation": info.rotation,
        "pixel_aspect": info.pixel_aspect,
        "complaint": info.complaint,
        "means": means,
        "quadrants": quadrants,
    }))
}

/// Mean R, G, B of a frame, and of its quadrants: upper left, upper right, lower left, lower right.
type Summary = ([f64; 3], [[f64; 3]; 4]);

fn summary(frame: &Frame<'_>) -> Summary {
    let half = [frame.height / 2, frame.width / 2];
    // Sums over a grid of three by three. A middle row or column belongs to no quadrant, so that
    // rotating a frame permutes the quadrants exactly.
    let part = |at, half, size| usize::from(at >= half) + usize::from(at >= size - half);
    let mut sums = [[0u64; 3]; 9];
    for (y, row) in frame.data.chunks_exact(frame.width * 3).enumerate() {
        let band = 3 * part(y, half[0], frame.height);
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            let sum = &mut sums[band + part(x, half[1], frame.width)];
            (0..3).for_each(|channel| sum[channel] += u64::from(pixel[channel]));
        }
    }
    let mean = |sum: u64, pixels: usize| (sum as f64 / pixels as f64 * 100.0).round() / 100.0;
    let whole = [0, 1, 2].map(|c| sums.iter().map(|sum| sum[c]).sum());
    let corner = |at: usize| sums[at].map(|sum| mean(sum, (half[0] * half[1]).max(1)));
    (whole.map(|sum| mean(sum, frame.height * frame.width)), [0, 2, 6, 8].map(corner))
}
