//! Determines which samples of a track are shown, in which order and at what rate.

use super::super::super::clip::ClipInfo;
use super::order::Position;
use super::presentation::Edit;

/// The times of a sample, in the track's ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    /// Composition time.
    pub start: i64,
    /// Composition time of the next frame.
    pub end: i64,
    /// Decoding time.
    pub decoded: i64,
    /// Position among the frames of the same part.
    pub order: Position,
    /// Index of the sample.
    pub sample: usize,
}

/// The frames of a clip.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Samples in display order; edits may repeat some.
    pub shown: Vec<usize>,
    /// Frames per second between the first and the last frame; 25 without usable times.
    pub fps: f64,
    /// Largest deviation of a frame's time from its time at that constant rate, seconds.
    pub drift: f64,
}

impl Timeline {
    /// Applies the edits to a track with `ticks` ticks per second whose samples are shown at
    /// `times`. Fails if there are more than `most` frames.
    pub(super) fn new(
        mut times: Vec<Time>,
        edits: &[Edit],
        ticks: f64,
        most: u64,
    ) -> Result<Self, &'static str> {
        // The sort is stable: among equal times, the first in decoding order is shown first.
        times.sort_by_key(|time| time.start);
        let mut shown = Vec::new();
        // Presentation times of the first frame's start and end, and of the last frame's start.
        let mut span: Option<(i128, i128, i128)> = None;
        // Time at which each frame begins.
        let mut begins = Vec::new();
        let mut elapsed = 0i128;
        for edit in edits {
            let from = times.partition_point(|time| time.start < edit.start);
            let to = from.max(times.partition_point(|time| time.start < edit.end));
            if (shown.len() + to - from) as u64 > most {
                return Err("its edit list repeats its frames too often");
            }
            let part = &times[from..to];
            let mut frames: Vec<(Position, usize)> =
                part.iter().map(|time| (time.order, time.sample)).collect();
            frames.sort_by_key(|frame| frame.0);
            shown.extend(frames.iter().map(|frame| frame.1));
            let leading = part.iter().min_by_key(|time| time.sample);
            if let (Some(first), Some(last), Some(leading)) = (part.first(), part.last(), leading) {
                // A part's clock starts when its first sample is decoded, like in ffmpeg.
                let at = |time: i64| elapsed + i128::from(time) - i128::from(leading.decoded);
                let (start, end) = span.map_or((at(first.start), at(first.end)), |s| (s.0, s.1));
                span = Some((start, end, at(last.start)));
                begins.extend(part.iter().map(|time| at(time.start) as f64 / ticks));
            }
            elapsed += i128::from(edit.end) - i128::from(edit.start);
        }
        let (start, end, last) = span.ok_or("its edit list shows no frame")?;
        let (frames, ticked) = match shown.len() {
            1 => (1, end - start),
            n => (n - 1, last - start),
        };
        let fps = frames as f64 * ticks / ticked as f64;
        if !(fps.is_finite() && fps > 0.0) {
            return Ok(Self { shown, fps: 25.0, drift: 0.0 });
        }
        let drift = ClipInfo::drift(fps, begins.into_iter().enumerate());
        Ok(Self { shown, fps, drift })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten frames of 40 ticks from tick 80, the second and the third coded in reverse order.
    fn shown(edits: &[(i64, i64)]) -> Result<(Vec<usize>, f64), &'static str> {
        let order = [0, 2, 1, 3, 4, 5, 6, 7, 8, 9];
        let times = order.iter().enumerate().map(|(sample, position)| {
            let start = 80 + 40 * position;
            let decoded = 40 * sample as i64;
            Time { start, end: start + 40, decoded, order: (0, start), sample }
        });
        let edits: Vec<Edit> = edits.iter().map(|&(start, end)| Edit { start, end }).collect();
        let timeline = Timeline::new(times.collect(), &edits, 1000.0, 20)?;
        Ok((timeline.shown, timeline.fps))
    }

    #[test]
    fn edits_are_played_one_after_the_other() {
        let whole = [(i64::MIN, i64::MAX)];
        assert_eq!(shown(&whole), Ok((vec![0, 2, 1, 3, 4, 5, 6, 7, 8, 9], 25.0)));
        assert_eq!(shown(&[(80, 200)]), Ok((vec![0, 2, 1], 25.0)));
        // In any order, with repeats; a frame belongs to the part in which it begins.
        let expected = vec![8, 9, 0, 2, 8];
        assert_eq!(shown(&[(400, 480), (80, 160), (390, 430)]).map(|it| it.0), Ok(expected));
        assert_eq!(shown(&[(81, 121)]), Ok((vec![2], 25.0)));
        assert_eq!(shown(&[(-5, 40)]), Err("its edit list shows no frame"));
        assert_eq!(shown(&[(400, i64::MAX)]), Ok((vec![8, 9], 25.0)));
        let many = "its edit list repeats its frames too often";
        assert_eq!(shown(&[(80, 480), (80, 480), (80, 120)]), Err(many));
    }

    #[test]
    fn drift_is_the_deviation_from_the_mean_rate() {
        let drift = |starts: &[i64]| {
            let times = starts.iter().zip(0..).map(|(&start, sample)| Time {
                start,
                end: start + 40,
                decoded: start,
                order: (0, start),
                sample,
            });
            let whole = [Edit { start: i64::MIN, end: i64::MAX }];
            Timeline::new(times.collect(), &whole, 1000.0, 20).unwrap().drift
        };
        assert_eq!(drift(&[80, 120, 160, 200]), 0.0);
        // The mean is 100 ms: the second frame should begin at 100, the third at 200.
        assert!((drift(&[0, 50, 100, 300]) - 0.1).abs() < 1e-9);
        assert_eq!(drift(&[7, 7]), 0.0);
    }

    #[test]
    fn the_rate_is_that_of_the_shown_frames() {
        // The second part begins before the track does, and is one frame long.
        let (shown, fps) = shown(&[(80, 160), (40, 120)]).unwrap();
        assert_eq!(shown, [0, 2, 0]);
        assert!((fps - 2.0 * 1000.0 / 80.0).abs() < 1e-9, "{fps}");
        // Here the third one, after a pause of one frame.
        let (_, fps) = self::shown(&[(80, 160), (-40, 40), (80, 120)]).unwrap_or_default();
        assert!((fps - 2.0 * 1000.0 / 160.0).abs() < 1e-9, "{fps}");
    }
}
