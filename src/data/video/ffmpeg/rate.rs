//! Computes the frame rate from time stamps.

/// Minimum number of repetitions of a time stamp that do not count as jitter: ffmpeg repeats the
/// last time stamp where those of the file restart.
const HELD: usize = 8;

/// Returns the average number of frames per second: the number of frames from the first to the
/// last, divided by the time between them, as for clips decoded in process. `None` if the rate
/// cannot be determined from the time stamps, which are in ticks.
///
/// In a `recording`, which may have been cut and joined or may have lost frames, only steps close
/// to the median count; the steps of film shown at 30 frames per second alternate in the ratio 3 to
/// 2.
pub(super) fn frame_rate(stamps: &[Option<i64>], tick: f64, recording: bool) -> Option<f64> {
    let known: Vec<(usize, i64)> =
        stamps.iter().enumerate().filter_map(|(frame, stamp)| Some((frame, (*stamp)?))).collect();
    // Frames and ticks from one time stamp to the next, as floats because the difference may
    // overflow.
    let steps = known.windows(2).map(|pair| {
        let [(from, start), (to, end)] = [pair[0], pair[1]];
        ((to - from) as f64, end as f64 - start as f64)
    });
    let mut steps: Vec<(f64, f64)> = steps.collect();
    if recording {
        let mut sorted: Vec<f64> = steps.iter().map(|(frames, ticks)| ticks / frames).collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        steps.retain(|(frames, ticks)| (0.5..=1.75).contains(&(ticks / frames / median)));
    } else {
        let held = |run: &[(f64, f64)]| run[0].1 == 0.0 && run.len() >= HELD;
        let runs = steps.chunk_by(|a, b| (a.1 == 0.0) == (b.1 == 0.0));
        steps = runs.filter(|run| !held(run)).flatten().copied().collect();
    }
    let frames: f64 = steps.iter().map(|step| step.0).sum();
    let ticks: f64 = steps.iter().map(|step| step.1).sum();
    usable(frames / (ticks * tick))
}

/// Returns the rate if it is usable, i.e. finite and positive.
pub(super) fn usable(rate: f64) -> Option<f64> {
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(stamps: &[i64], recording: bool) -> Option<f64> {
        let stamps: Vec<Option<i64>> = stamps.iter().copied().map(Some).collect();
        frame_rate(&stamps, 0.001, recording).map(|rate| (rate * 1e6).round() / 1e6)
    }

    #[test]
    fn the_rate_is_the_mean_over_the_clip() {
        assert_eq!(rate(&[0, 40, 80, 120], false), Some(25.0));
        assert_eq!(rate(&[7, 40, 107, 207], false), Some(15.0));
        assert_eq!(frame_rate(&[None, Some(40), None, Some(120)], 0.001, false), Some(25.0));
    }

    #[test]
    fn time_stamps_out_of_order_are_used_as_far_as_possible() {
        assert_eq!(rate(&[0, 40, 40, 120], false), Some(25.0));
        assert_eq!(rate(&[0, 40, 38, 120], false), Some(25.0));
        let held: Vec<i64> = (0..20).map(|t| t * 40).chain([760; 20]).collect();
        assert_eq!(rate(&held, false), Some(25.0));
        for stamps in [&[][..], &[5], &[5, 5, 5], &[50, 40, 30], &[i64::MAX, i64::MIN]] {
            assert_eq!((rate(stamps, false), rate(stamps, true)), (None, None));
        }
        assert_eq!(frame_rate(&[Some(0), Some(1)], 0.0, false), None);
    }

    #[test]
    fn gaps_in_a_recording_do_not_affect_the_rate() {
        assert_eq!(rate(&[0, 40, 80, 400, 440, 480], true), Some(25.0));
        assert_eq!(rate(&[0, 40, 80, 0, 40, 80, 80, 120], true), Some(25.0));
        let film = [0, 33, 83, 116, 166, 199, 249, 283];
        assert_eq!(rate(&film, true), rate(&film, false));
    }
}
