//! Sampling frames from a window of a clip.

use serde::{Deserialize, Serialize};

use super::clip::ClipInfo;

/// The window of a clip and the number of frames that are sampled from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// First frame of the window, in the clip's own frames, counted from 0.
    pub start_frame: usize,
    /// Last frame of the window, inclusive.
    pub end_frame: usize,
    /// Sampling rate, frames per second; the clip's own rate if that is lower.
    pub target_fps: f64,
    /// Number of frames per clip, T.
    pub frames_per_clip: usize,
}

/// The sampled frames of one clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPick {
    /// Frame indices in ascending order, `frames_per_clip` of them; frames may repeat.
    pub indices: Vec<usize>,
    /// Whether the window goes past the clip's end, so that the last frame is repeated.
    pub past_end: bool,
    /// Number of different frames among `indices`.
    pub distinct: usize,
}

impl WindowSpec {
    /// Samples frames in two steps.
    ///
    /// 1. The window is sampled at `target_fps`: positions `start + round(i * step)` up to the end
    ///    frame, with `step = fps / target_fps` source frames, at least 1.
    /// 2. `frames_per_clip` of these n positions are taken at even distances, first and last included:
    ///    number `round(j * (n - 1) / (frames_per_clip - 1))` for j = 0, 1, …. If there are fewer
    ///    positions than frames, some repeat. A single frame is the middle one.
    ///
    /// Halves round up. A position past the clip's end becomes its last frame. A clip without
    /// frames gives no indices.
    ///
    /// With the defaults (frames 67 to 82 at 15 frames per second, 16 frames) a clip of 25 frames
    /// per second has a step of 5/3 and 10 positions, which are spread over the 16 frames:
    ///
    /// ```
    /// use polyview::data::{clip::ClipInfo, sampling::WindowSpec};
    /// let window =
    ///     WindowSpec { start_frame: 67, end_frame: 82, target_fps: 15.0, frames_per_clip: 16 };
    /// let info = ClipInfo { frames: 126, fps: 25.0, ..ClipInfo::default() };
    /// let pick = window.window_indices(&info);
    /// assert_eq!(
    ///     pick.indices,
    ///     [67, 69, 69, 70, 70, 72, 74, 74, 75, 75, 77, 79, 79, 80, 80, 82]
    /// );
    /// assert_eq!((pick.distinct, pick.past_end), (10, false));
    /// ```
    pub fn window_indices(&self, info: &ClipInfo) -> WindowPick {
        let Some(last) = info.frames.checked_sub(1) else {
            return WindowPick { indices: Vec::new(), past_end: true, distinct: 0 };
        };
        let walk = self.walk(info.fps);
        let past_end = walk.position(walk.count - 1) > last;
        let indices: Vec<usize> = (0..self.frames_per_clip)
            .map(|j| walk.position(spaced(j, self.frames_per_clip, walk.count)).min(last))
            .collect();
        let changes = indices.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let distinct = if indices.is_empty() { 0 } else { changes + 1 };
        WindowPick { indices, past_end, distinct }
    }

    /// Step 1. A frame rate that is not a positive number counts as the target rate.
    fn walk(&self, fps: f64) -> Walk {
        let step = fps / self.target_fps;
        let step = if step.is_finite() { step.max(1.0) } else { 1.0 };
        let start = self.start_frame;
        let length = self.end_frame.saturating_sub(start);
        let mut walk = Walk { start, step, count: 1 };
        // Offsets round(i * step) <= length are those with i * step < length + 1/2; the division
        // can be off by one through rounding.
        let count = ((length as f64 + 0.5) / step).ceil() as usize;
        walk.count = count.max(1);
        if walk.count > 1 && walk.position(walk.count - 1) - start > length {
            walk.count -= 1;
        }
        walk
    }
}

/// Positions of a window at the target rate; `count` is at least 1.
struct Walk {
    start: usize,
    step: f64,
    count: usize,
}

impl Walk {
    fn position(&self, i: usize) -> usize {
        self.start.saturating_add((i as f64 * self.step + 0.5).floor() as usize)
    }
}

/// Step 2: the `j`-th of `wanted` numbers spaced evenly over `0..count`, in integers so that halves
/// round up on every machine.
fn spaced(j: usize, wanted: usize, count: usize) -> usize {
    if wanted <= 1 {
        return count / 2;
    }
    let (j, gaps, last) = (j as u128, (wanted - 1) as u128, (count - 1) as u128);
    ((2 * j * last + gaps) / (2 * gaps)) as usize
}
