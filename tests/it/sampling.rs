use polyview::data::clip::ClipInfo;
use polyview::data::sampling::WindowSpec;
use polyview::data::{Place, Window};

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
fn windows_give_the_expected_frames() {
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
        // No frame requested, and a clip without frames.
        (window(0, 8, 10.0, 0), clip(7, 30.0), vec![], false),
        (window(0, 8, 10.0, 4), clip(0, 30.0), vec![], true),
        // Invalid frame rates.
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

/// Compares with the rule written out: all positions in a list, then an even choice from it.
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

const MIDDLE: Place = Place::MIDDLE;

fn window_spec(window: Window, target_fps: f64, frames_per_clip: usize) -> WindowSpec {
    WindowSpec { window, target_fps, frames_per_clip }
}

fn half_up(value: f64) -> usize {
    (value + 0.5).floor() as usize
}

/// Returns the middle, each of several even places, and some drawn ones.
fn places() -> Vec<Place> {
    let even = [1, 2, 3, 7].into_iter().flat_map(|of| (0..of).map(move |index| (index, of)));
    let drawn = (1..=5).map(|epoch| Place::Drawn { seed: 42, turn: epoch.into() });
    even.map(|(index, of)| Place::Even { index, of }).chain(drawn).collect()
}

#[test]
fn every_window_gives_ascending_frames_of_the_clip() {
    let windows = [Window::Center, Window::Dense, Window::Segments, Window::Whole];
    for window in windows {
        for frames in [1, 2, 3, 15, 16, 17, 25, 26, 27, 126, 1000] {
            for fps in [10.0, 25.0, 29.97, 50.0, 0.0, f64::NAN] {
                for wanted in [1, 2, 7, 16] {
                    for place in places() {
                        let info = clip(frames, fps);
                        let pick = window_spec(window, 15.0, wanted).pick(&info, place, "7");
                        let case = format!("{window}, {frames} at {fps}, {wanted}, {place:?}");
                        assert_eq!(pick.indices.len(), wanted, "{case}");
                        assert!(pick.indices.is_sorted(), "{case}: {:?}", pick.indices);
                        assert!(*pick.indices.last().unwrap() < frames, "{case}");
                        let mut different = pick.indices.clone();
                        different.dedup();
                        assert_eq!(pick.distinct, different.len(), "{case}");
                        assert_eq!(pick.past_end, pick.window[1] >= frames, "{case}");
                        if matches!(window, Window::Segments | Window::Whole) {
                            assert!(!pick.past_end, "{case}");
                            assert_eq!(pick.distinct == wanted, frames >= wanted, "{case}");
                        }
                    }
                    let none = window_spec(window, 15.0, wanted).window_indices(&clip(0, fps));
                    assert_eq!((none.indices.len(), none.past_end), (0, true));
                }
            }
        }
    }
}

#[test]
fn consecutive_frames_lie_around_the_middle_or_evenly_spread() {
    // 16 frames with a step of 5/3 span 26.
    let offsets: Vec<usize> = (0..16).map(|j| half_up(f64::from(j) * 5.0 / 3.0)).collect();
    assert_eq!(offsets[15], 25);
    for frames in [26, 27, 31, 126, 127] {
        let slack = frames - 26;
        let at = |window, place| {
            let pick = window_spec(window, 15.0, 16).pick(&clip(frames, 25.0), place, "7");
            let start = pick.indices[0];
            let expected: Vec<usize> = offsets.iter().map(|offset| start + offset).collect();
            assert_eq!((pick.indices, pick.window), (expected, [start, start + 25]));
            assert!(!pick.past_end);
            start
        };
        for place in places() {
            assert_eq!(at(Window::Center, place), half_up(slack as f64 / 2.0), "{place:?}");
        }
        assert_eq!(at(Window::Dense, MIDDLE), half_up(slack as f64 / 2.0));
        for of in 2..8 {
            for index in 0..of {
                let expected = half_up((index * slack) as f64 / (of - 1) as f64);
                assert_eq!(at(Window::Dense, Place::Even { index, of }), expected);
            }
        }
        let drawn = |epoch: usize| at(Window::Dense, Place::Drawn { seed: 1, turn: epoch.into() });
        let starts: std::collections::BTreeSet<usize> = (1..2000).map(drawn).collect();
        assert_eq!(starts, (0..=slack).collect(), "every place is drawn, both ends included");
    }
    // A clip that is shorter than the window repeats its last frame, wherever the window lies.
    for place in places() {
        let pick = window_spec(Window::Dense, 25.0, 5).pick(&clip(3, 25.0), place, "7");
        assert_eq!((pick.indices, pick.past_end, pick.window), (vec![0, 1, 2, 2, 2], true, [0, 4]));
    }
    let pick = window_spec(Window::Center, 25.0, 5).window_indices(&clip(5, 25.0));
    assert_eq!((pick.indices, pick.past_end), (vec![0, 1, 2, 3, 4], false));
}

#[test]
fn segments_give_one_frame_each() {
    for frames in [1, 2, 7, 8, 9, 100, 101] {
        for wanted in [1, 3, 8, 16] {
            for place in places() {
                let pick = window_spec(Window::Segments, 15.0, wanted).pick(
                    &clip(frames, 25.0),
                    place,
                    "7",
                );
                for (j, &frame) in pick.indices.iter().enumerate() {
                    let [start, next] = [j, j + 1].map(|j| j * frames / wanted);
                    let inside = start..next.max(start + 1);
                    assert!(inside.contains(&frame), "{frames}, {wanted}, {place:?}: {frame}");
                    if let Place::Even { index, of } = place {
                        // The offset compensates for rounding just below a whole number.
                        let share = (index as f64 + 0.5) / of as f64 + 1e-9;
                        assert_eq!(frame, start + (share * inside.len() as f64) as usize);
                    }
                }
            }
        }
    }
    let frames =
        |place| window_spec(Window::Segments, 15.0, 4).pick(&clip(12, 25.0), place, "7").indices;
    assert_eq!(frames(MIDDLE), [1, 4, 7, 10]);
    let all = (0..3).map(|index| frames(Place::Even { index, of: 3 }));
    assert_eq!(all.collect::<Vec<_>>(), [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]);
    let drawn: std::collections::BTreeSet<_> =
        (1..2000).map(|epoch| frames(Place::Drawn { seed: 5, turn: epoch.into() })).collect();
    assert_eq!(drawn.len(), 81, "each of three frames in each of four parts");
}

#[test]
fn the_whole_clip_is_spread_over_the_frames() {
    for frames in [1, 2, 15, 16, 17, 126] {
        for wanted in [1, 2, 5, 16] {
            let pick = window_spec(Window::Whole, 15.0, wanted).window_indices(&clip(frames, 25.0));
            let expected: Vec<usize> = (0..wanted)
                .map(|j| match wanted {
                    1 => frames / 2,
                    _ => half_up((j * (frames - 1)) as f64 / (wanted - 1) as f64),
                })
                .collect();
            assert_eq!(pick.indices, expected);
        }
    }
}

#[test]
fn seconds_are_rounded_to_the_nearest_frames() {
    let seconds = |start, end| window_spec(Window::Seconds { start, end }, 15.0, 16);
    let info = clip(126, 25.0);
    let expected = window(67, 82, 15.0, 16).window_indices(&info);
    assert_eq!(seconds(2.68, 3.28).window_indices(&info), expected);
    assert_eq!(seconds(2.69, 3.27).window_indices(&info), expected);
    let slow = clip(126, 12.5);
    let expected = window(34, 41, 15.0, 16).window_indices(&slow);
    assert_eq!(seconds(2.68, 3.28).window_indices(&slow), expected);
    // Past the end; and a clip without a frame rate counts as one with the target rate.
    assert!(seconds(3.0, 6.0).window_indices(&info).past_end);
    let expected = window(15, 30, 15.0, 16).window_indices(&clip(126, 0.0));
    assert_eq!(seconds(1.0, 2.0).window_indices(&clip(126, 0.0)), expected);
    assert_eq!(seconds(1e300, 1e300).window_indices(&info).indices, [125; 16]);
}

#[test]
fn a_place_is_drawn_from_seed_epoch_and_action_alone() {
    for window in [Window::Dense, Window::Segments] {
        let spec = window_spec(window, 25.0, 4);
        let drawn = |seed, epoch: usize, action: &str, frames| {
            spec.pick(&clip(frames, 25.0), Place::Drawn { seed, turn: epoch.into() }, action)
                .indices
        };
        let usual = drawn(42, 3, "17", 10_000);
        assert_eq!(drawn(42, 3, "17", 10_000), usual);
        for other in
            [drawn(43, 3, "17", 10_000), drawn(42, 4, "17", 10_000), drawn(42, 3, "18", 10_000)]
        {
            assert_ne!(other, usual);
        }
        // A view of another length shows the same part: cameras are synchronised.
        for (frames, scale) in [(5_000, 2.0), (20_000, 0.5)] {
            for (a, b) in usual.iter().zip(drawn(42, 3, "17", frames)) {
                assert!((*a as f64 - b as f64 * scale).abs() < 8.0, "{a} and {b} of {frames}");
            }
        }
    }
    // Windows that do not vary ignore the place.
    for window in ["3..9", "0.2s..0.6s", "center", "whole"] {
        let spec = window_spec(window.parse().unwrap(), 25.0, 4);
        let all = places().into_iter().map(|place| spec.pick(&clip(50, 25.0), place, "7"));
        assert!(all.into_iter().all(|pick| pick == spec.window_indices(&clip(50, 25.0))));
    }
}
