//! What polyview decodes of clips: one JSON object per clip and line, with its properties and, for
//! each frame in display order, the means of R, G and B (0 to 255) over the whole frame and over its
//! four quadrants, by which a turned frame is told from an upright one. A clip that cannot be read
//! gets `error` instead.
//!
//!     cargo run --example frame_means -- CLIP...

use std::error::Error;
use std::io::Write;
use std::ops::Range;
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

/// The clip's properties and its frames' means. One frame is in memory at a time.
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
    let (width, height) = (frame.width, frame.height);
    // A middle row or column belongs to no quadrant, so that turning a frame permutes them exactly.
    let (left, right) = (0..width / 2, width.div_ceil(2)..width);
    let (upper, lower) = (0..height / 2, height.div_ceil(2)..height);
    let quadrants = [(&upper, &left), (&upper, &right), (&lower, &left), (&lower, &right)];
    let quadrants = quadrants.map(|(rows, columns)| mean(frame, rows.clone(), columns.clone()));
    (mean(frame, 0..height, 0..width), quadrants)
}

/// Mean R, G, B of a rectangle, to two decimals.
fn mean(frame: &Frame<'_>, rows: Range<usize>, columns: Range<usize>) -> [f64; 3] {
    let mut sums = [0u64; 3];
    for row in rows.clone() {
        let row = &frame.data[(row * frame.width + columns.start) * 3..][..columns.len() * 3];
        for (i, &value) in row.iter().enumerate() {
            sums[i % 3] += u64::from(value);
        }
    }
    let pixels = (rows.len() * columns.len()).max(1) as f64;
    sums.map(|sum| (sum as f64 / pixels * 100.0).round() / 100.0)
}
