//! Samples frames from a window of a clip.

use serde::{Deserialize, Serialize};

use super::clip::ClipInfo;
use super::place::{Draws, Place};
use super::window::Window;

/// The window of a clip and the number of frames that are sampled from it.
///
/// Serialised as `start_frame` and `end_frame` if the window is given in frames, otherwise as
/// `window`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct WindowSpec {
    /// The stretch of the clip from which frames are sampled.
    pub window: Window,
    /// Sampling rate, frames per second; the clip's own rate if that is lower. It has no effect on
    /// [`Window::Segments`] and [`Window::Whole`].
    pub target_fps: f64,
    /// Number of frames per clip, T.
    pub frames_per_clip: usize,
}

/// The serialised form of a [`WindowSpec`].
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_frame: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_frame: Option<usize>,
    target_fps: f64,
    frames_per_clip: usize,
}

impl From<WindowSpec> for Stored {
    fn from(spec: WindowSpec) -> Self {
        let (window, start_frame, end_frame) = match spec.window {
            Window::Frames { start, end } => (None, Some(start), Some(end)),
            window => (Some(window), None, None),
        };
        let WindowSpec { target_fps, frames_per_clip, .. } = spec;
        Self { window, start_frame, end_frame, target_fps, frames_per_clip }
    }
}

impl TryFrom<Stored> for WindowSpec {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let window = match (stored.window, stored.start_frame, stored.end_frame) {
            (Some(window), None, None) => window,
            (None, Some(start), Some(end)) => Window::Frames { start, end },
            _ => return Err("a window has `start_frame` and `end_frame`, or `window`"),
        };
        let Stored { target_fps, frames_per_clip, .. } = stored;
        Ok(Self { window, target_fps, frames_per_clip })
    }
}

/// The sampled frames of one clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPick {
    /// Frame indices in ascending order, `frames_per_clip` of them; frames may repeat.
    pub indices: Vec<usize>,
    /// Whether the window extends past the clip's end, so that the last frame is repeated.
    pub past_end: bool,
    /// Number of distinct frames among `indices`.
    pub distinct: usize,
    /// First and last frame of the window, which may lie past the clip's end.
    pub window: [usize; 2],
}

impl WindowPick {
    fn new(indices: Vec<usize>, window: [usize; 2], frames: usize) -> Self {
        let changes = indices.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let distinct = if indices.is_empty() { 0 } else { changes + 1 };
        Self { indices, past_end: window[1] >= frames, distinct, window }
    }
}

impl WindowSpec {
    /// Returns the window from frame `start` to `end`, inclusive.
    pub const fn frames(start: usize, end: usize, target_fps: f64, frames_per_clip: usize) -> Self {
        Self { window: Window::Frames { start, end }, target_fps, frames_per_clip }
    }

    /// Samples frames; a window without a fixed position lies in the middle of the clip
    /// ([`WindowSpec::pick`]).
    ///
    /// With a window from frame 67 to 82, 15 frames per second and 16 frames per clip, a clip at 25
    /// frames per second has a step of 5/3 and 10 positions, which are spread over the 16 frames:
    ///
    /// ```
    /// use polyview::data::{clip::ClipInfo, sampling::WindowSpec};
    /// let window = WindowSpec::frames(67, 82, 15.0, 16);
    /// let info = ClipInfo { frames: 126, fps: 25.0, ..ClipInfo::default() };
    /// let pick = window.window_indices(&info);
    /// assert_eq!(
    ///     pick.indices,
    ///     [67, 69, 69, 70, 70, 72, 74, 74, 75, 75, 77, 79, 79, 80, 80, 82]
    /// );
    /// assert_eq!((pick.distinct, pick.past_end), (10, false));
    /// ```
    pub fn window_indices(&self, info: &ClipInfo) -> WindowPick {
        self.pick(info, Place::MIDDLE, "")
    }

    /// Samples frames of a clip of `action`. The clip has n frames; the step is `fps / target_fps`
    /// source frames, at least 1.
    ///
    /// * **Given by its ends**: the positions are `start + round(i * step)` up to the end; of these
    ///   m positions, number `round(j * (m - 1) / (T - 1))` is taken for j = 0, 1, …, T - 1. If
    ///   there are fewer positions than T, some repeat. If T = 1, the middle one is taken. Times
    ///   are rounded to frames.
    /// * **Center, dense**: the positions are `start + round(j * step)`. With s = n minus the
    ///   number of frames that they span, at least 0, `start` is `round(s / 2)` in the middle,
    ///   `round(k * s / (K - 1))` at place k of K > 1, and `floor(u * (s + 1))` if drawn, with u
    ///   uniform in [0, 1).
    /// * **Segments**: part j has l frames, from `floor(j * n / T)` up to the start of the next
    ///   part, and at least one. Of these, number `floor((k + 1/2) / K * l)` is taken at place k of
    ///   K, and `floor(u * l)` if drawn, with a separate u for each j.
    /// * **Whole**: frame `round(j * (n - 1) / (T - 1))` is taken for each j; if T = 1, the middle
    ///   one.
    ///
    /// Halves round up. A position past the clip's end is replaced by its last frame. A clip
    /// without frames yields no indices.
    pub fn pick(&self, info: &ClipInfo, place: Place, action: &str) -> WindowPick {
        let (frames, wanted) = (info.frames, self.frames_per_clip);
        let Some(last) = frames.checked_sub(1) else {
            let window = [0, 0];
            return WindowPick { indices: Vec::new(), past_end: true, distinct: 0, window };
        };
        match self.window {
            Window::Frames { start, end } => self.between(start, end, info),
            Window::Seconds { start, end } => {
                let fps = self.rate_of(info);
                let frame = |seconds: f64| (seconds * fps + 0.5).floor() as usize;
                self.between(frame(start), frame(end), info)
            }
            Window::Center => self.consecutive(info, Place::MIDDLE, action),
            Window::Dense => self.consecutive(info, place, action),
            Window::Segments => {
                let start = |j: usize| (j as u128 * frames as u128 / wanted as u128) as usize;
                let length = |j| (start(j + 1) - start(j)).max(1);
                let indices = match place {
                    Place::Even { index, of } => {
                        let share = |j| (2 * index + 1) * length(j) / (2 * of);
                        (0..wanted).map(|j| start(j) + share(j)).collect()
                    }
                    Place::Drawn { seed, turn } => {
                        let mut draws = Draws::new(seed, turn, action);
                        (0..wanted).map(|j| start(j) + below(length(j), draws.unit())).collect()
                    }
                };
                WindowPick::new(indices, [0, last], frames)
            }
            Window::Whole => {
                let indices = (0..wanted).map(|j| spaced(j, wanted, frames)).collect();
                WindowPick::new(indices, [0, last], frames)
            }
        }
    }

    /// Samples consecutive frames at the target rate.
    fn consecutive(&self, info: &ClipInfo, place: Place, action: &str) -> WindowPick {
        let (frames, wanted) = (info.frames, self.frames_per_clip);
        let mut walk = Walk { start: 0, step: self.step(info.fps), count: wanted };
        let places = frames.saturating_sub(walk.last().saturating_add(1)) + 1;
        walk.start = match place {
            Place::Even { index, of } => spaced(index, of, places),
            Place::Drawn { seed, turn } => below(places, Draws::new(seed, turn, action).unit()),
        };
        let indices = (0..wanted).map(|j| walk.position(j).min(frames - 1)).collect();
        WindowPick::new(indices, [walk.start, walk.last()], frames)
    }

    /// Samples from a window that is given by its ends.
    fn between(&self, start: usize, end: usize, info: &ClipInfo) -> WindowPick {
        let (walk, last) = (self.walk(start, end, info.fps), info.frames - 1);
        let wanted = self.frames_per_clip;
        let position = |j| walk.position(spaced(j, wanted, walk.count)).min(last);
        let pick = WindowPick::new(
            (0..wanted).map(position).collect(),
            [start, end.max(start)],
            info.frames,
        );
        // At some rates the last position comes before the end of the window.
        WindowPick { past_end: walk.last() > last, ..pick }
    }

    /// Returns the clip's frame rate, or the target rate if the former is not a positive number.
    fn rate_of(&self, info: &ClipInfo) -> f64 {
        if info.fps.is_finite() && info.fps > 0.0 { info.fps } else { self.target_fps }
    }

    /// Returns the number of source frames per sampled frame. A frame rate that is not a positive
    /// number counts as the target rate.
    fn step(&self, fps: f64) -> f64 {
        let step = fps / self.target_fps;
        if step.is_finite() { step.max(1.0) } else { 1.0 }
    }

    /// Returns the positions from frame `start` to `end`.
    fn walk(&self, start: usize, end: usize, fps: f64) -> Walk {
        let step = self.step(fps);
        let length = end.saturating_sub(start);
        let mut walk = Walk { start, step, count: 1 };
        // Offsets round(i * step) <= length are those with i * step < length + 1/2; the division
        // can be off by one through rounding.
        let count = ((length as f64 + 0.5) / step).ceil() as usize;
        walk.count = count.max(1);
        if walk.count > 1 && walk.last() - start > length {
            walk.count -= 1;
        }
        walk
    }
}

/// Positions in a window at the target rate.
struct Walk {
    start: usize,
    step: f64,
    count: usize,
}

impl Walk {
    fn position(&self, i: usize) -> usize {
        self.start.saturating_add((i as f64 * self.step + 0.5).floor() as usize)
    }

    fn last(&self) -> usize {
        self.position(self.count.saturating_sub(1))
    }
}

/// Returns the `j`-th of `wanted` numbers spaced evenly over `0..count`, in integer arithmetic so
/// that halves round up on every machine.
fn spaced(j: usize, wanted: usize, count: usize) -> usize {
    if wanted <= 1 {
        return count / 2;
    }
    let (j, gaps, last) = (j as u128, (wanted - 1) as u128, (count - 1) as u128);
    ((2 * j * last + gaps) / (2 * gaps)) as usize
}

/// Maps a uniform number in [0, 1) to an integer below `count`.
fn below(count: usize, unit: f64) -> usize {
    ((unit * count as f64) as usize).min(count - 1)
}
