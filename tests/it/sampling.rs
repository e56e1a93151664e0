use polyview::data::clip::ClipInfo;
use polyview::data::sampling::WindowSpec;

fn clip(frames: usize, fps: f64) -> ClipInfo {
    ClipInfo { frames, fps, ..ClipInfo::default() }
}

fn window(start_frame: usize, end_frame: usize, target_fps: f64, n: usize) -> WindowSpec {
    WindowSpec::frames(start_frame, end_frame, target_fps, n)
}

#[test]
fn the_default_window_gives_ten_frames_over_sixteen() {
    let pick = window(67, 82, 15.0, 16).window_indices(&clip(126, 25.0));
    assert_eq!(pick.indices, [67, 69, 69, 70, 70, 72, 74, 74, 75, 75, 77, 79, 79, 80, 80, 82]);
    assert_eq!(pick.distinct, 10);
    assert!(!pick.past_end);
}

#[test]
fn cases() {
    // window, clip, expected frames, past the end
    let cases = [
        (window(67, 82, 25.0, 16), clip(126, 25.0), (67..=82).collect(), false),
        // A slow clip is never sampled more often than it has frames.
        (window(10, 13, 15.0, 4), clip(50, 10.0), vec![10, 11, 12, 13], false),
        // Four of sixteen: 0, 5, 10, 15.
        (window(0, 15, 25.0, 4), clip(50, 25.0), vec![0, 5, 10, 15], false),
        // Halves round up: 0, 1.5, 3.
        (window(0, 3, 25.0, 3), clip(50, 25.0), vec![0, 2, 3], false),
        // One frame: the middle one; of two, the second.
        (window(67, 82, 15.0, 1), clip(126, 25.0), vec![75], false),
        (window(4, 8, 25.0, 1), clip(50, 25.0), vec![6], false),
        (window(4, 5, 25.0, 1), clip(50, 25.0), vec![5], false),
        // A window of one frame repeats it; so does one that ends before it starts.
        (window(9, 9, 15.0, 3), clip(50, 25.0), vec![9, 9, 9], false),
        (window(9, 2, 15.0, 2), clip(50, 25.0), vec![9, 9], false),
        // Past the end.
        (window(4, 9, 25.0, 6), clip(7, 25.0), vec![4, 5, 6, 6, 6, 6], true),
        (window(67, 82, 15.0, 3), clip(1, 25.0), vec![0, 0, 0], true),
        // The last frame of the window is not reached at this step: 0, 3, 6.
        (window(0, 8, 10.0, 3), clip(7, 30.0), vec![0, 3, 6], false),
        // No frame wanted, no frame there.
        (window(0, 8, 10.0, 0), clip(7, 30.0), vec![], false),
        (window(0, 8, 10.0, 4), clip(0, 30.0), vec![], true),
        // Rates that are no rates.
        (window(3, 5, 15.0, 3), clip(50, 0.0), vec![3, 4, 5], false),
        (window(3, 5, 15.0, 3), clip(50, f64::NAN), vec![3, 4, 5], false),
        (window(3, 5, 0.0, 3), clip(50, 25.0), vec![3, 4, 5], false),
    ];
    for (window, clip, expected, past_end) in cases {
        let pick = window.window_indices(&clip);
        assert_eq!(pick.indices, expected, "{window:?} {clip:?}");
        assert_eq!(pick.past_end, past_end, "{window:?} {clip:?}");
        let mut frames = pick.indices.clone();
        frames.dedup();
        assert_eq!(pick.distinct, frames.len());
    }
}

/// Against the rule spelled out: all positions in a list, then an even choice from it.
#[test]
fn any_window_follows_the_rule() {
    for (start, length) in [(0, 0), (0, 1), (5, 4), (67, 15), (3, 30), (0, 125)] {
        for fps in [10.0, 12.5, 15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 120.0] {
            for target in [5.0, 7.5, 15.0, 25.0, 30.0] {
                let step = f64::max(fps / target, 1.0);
                let positions: Vec<usize> = (0..)
                    .map(|i| (f64::from(i) * step + 0.5).floor() as usize)
                    .take_while(|offset| *offset <= length)
                    .map(|offset| start + offset)
                    .collect();
                for n in 1..20 {
                    let expected: Vec<usize> = (0..n)
                        .map(|j| match n {
                            1 => positions[positions.len() / 2],
                            _ => {
                                let even = (j * (positions.len() - 1)) as f64 / (n - 1) as f64;
                                positions[(even + 0.5).floor() as usize]
                            }
                        })
                        .map(|frame| frame.min(79))
                        .collect();
                    let pick =
                        window(start, start + length, target, n).window_indices(&clip(80, fps));
                    assert_eq!(pick.indices, expected, "{start}+{length} {fps}/{target} {n}");
                    assert_eq!(pick.past_end, *positions.last().unwrap() > 79);
                }
            }
        }
    }
}

#[test]
fn an_absurd_window_neither_hangs_nor_overflows() {
    let pick = window(67, usize::MAX, 15.0, 4).window_indices(&clip(126, 25.0));
    assert_eq!(pick.indices, [67, 125, 125, 125]);
    let pick = window(usize::MAX, usize::MAX, 15.0, 2).window_indices(&clip(126, 25.0));
    assert_eq!(pick.indices, [125, 125]);
}
