use polyview::data::clip::Frames;
use polyview::data::resize::{Cover, Crop, ResizeError, Resizer};

use crate::common::clips::resize_all;
use crate::common::fill;
use crate::common::reference::{self, counts, entries, field, shape, text};

#[test]
fn golden_frame_resize() {
    let golden = reference::load("frame_resize.json");
    for case in entries(&golden, "cases") {
        let name = text(case, "frame_name");
        let [h, w, channels] = shape(case, "frame_shape_hwc");
        let [th, tw] = shape(case, "target");
        assert_eq!(channels, 3, "{name}");
        let frame = fill::bytes(name, h * w * 3);

        let cover = Cover::new(h, w, th, tw);
        assert_eq!([cover.height, cover.width], shape(case, "resized"), "{name}");
        assert_eq!([cover.top, cover.left], shape(case, "crop_top_left"), "{name}");

        let mut ours = vec![0; th * tw * 3];
        Resizer::new(th, tw).frame(&frame, h, w, &mut ours).unwrap();
        let theirs = counts(field(case, "antialias_u8"));
        assert_eq!(theirs.len(), ours.len(), "{name}");
        for (i, theirs) in theirs.iter().enumerate() {
            // The golden array is [3, th, tw], ours [th, tw, 3].
            let (channel, pixel) = (i / (th * tw), i % (th * tw));
            let ours = usize::from(ours[pixel * 3 + channel]);
            assert!(ours.abs_diff(*theirs) <= 1, "{name}[{i}]: {ours} against {theirs}");
        }
    }
}

#[test]
fn buffers_are_reused_between_sizes() {
    let mut resizer = Resizer::new(12, 20);
    let frames = |height: usize, width: usize, count: usize| Frames {
        data: fill::bytes("frames", count * height * width * 3),
        count,
        height,
        width,
    };
    let (large, small) = (frames(31, 47, 3), frames(9, 14, 2));
    for frames in [&large, &small, &large] {
        let resized = resize_all(&mut resizer, frames);
        assert_eq!(resized.len(), frames.count * 12 * 20 * 3);
        assert_eq!(resized, resize_all(&mut Resizer::new(12, 20), frames));
    }
}

#[test]
fn frames_of_the_right_size_stay_as_they_are() {
    let frames = Frames { data: fill::bytes("same", 2 * 5 * 7 * 3), count: 2, height: 5, width: 7 };
    assert_eq!(resize_all(&mut Resizer::new(5, 7), &frames), frames.data);
}

#[test]
fn a_flat_frame_stays_flat_whatever_the_size() {
    for (h, w) in [(1, 1), (3, 200), (200, 3), (224, 398), (720, 1280)] {
        let mut out = vec![0; 24 * 43 * 3];
        Resizer::new(24, 43).frame(&vec![77; h * w * 3], h, w, &mut out).unwrap();
        assert_eq!(out, vec![77; 24 * 43 * 3], "{h}×{w}");
    }
}

#[test]
fn a_crop_equals_the_same_part_of_the_whole_resized_frame() {
    let to = [24, 43];
    for (h, w) in
        [(31, 200), (200, 31), (720, 1280), (5, 9), (7, 400), (300, 2), (24, 90), (90, 43)]
    {
        let frame = fill::bytes("part", h * w * 3);
        let cover = Cover::new(h, w, to[0], to[1]);
        // At this size nothing is cropped.
        let mut whole = vec![0; cover.height * cover.width * 3];
        Resizer::new(cover.height, cover.width).frame(&frame, h, w, &mut whole).unwrap();
        for crop in [Crop::Start, Crop::Middle, Crop::End] {
            let mut resizer = Resizer::new(to[0], to[1]);
            resizer.crop = crop;
            let mut ours = vec![0; resizer.bytes()];
            resizer.frame(&frame, h, w, &mut ours).unwrap();
            let cover = cover.keeping(crop, to[0], to[1]);
            for (y, row) in ours.chunks(to[1] * 3).enumerate() {
                let at = ((cover.top + y) * cover.width + cover.left) * 3;
                for (x, (ours, whole)) in row.iter().zip(&whole[at..]).enumerate() {
                    // Weights are rounded to fewer bits where the frame's edge has larger ones.
                    assert!(ours.abs_diff(*whole) <= 1, "{h}×{w}, {crop:?}, row {y}, byte {x}");
                }
            }
        }
    }
}

#[test]
fn a_frame_of_one_row_takes_no_memory_for_the_cropped_part() {
    // Resized as a whole, the longest would take 34 GB.
    for length in [12_000, 65_536, 20_000_000_usize] {
        let mut frame = vec![10; length * 3];
        // The middle is brighter, and wider than the part that is kept.
        frame[(length / 2 - 4) * 3..(length / 2 + 4) * 3].fill(200);
        for (h, w) in [(1, length), (length, 1)] {
            let mut out = vec![0; 24 * 43 * 3];
            Resizer::new(24, 43).frame(&frame, h, w, &mut out).unwrap();
            assert_eq!(out, vec![200; 24 * 43 * 3], "{h}×{w}");
        }
    }
}

#[test]
fn impossible_sizes_are_errors() {
    let mut out = vec![9; 4 * 4 * 3];
    let mut resizer = Resizer::new(4, 4);
    let few = ResizeError::Bytes { expected: 12, found: 5 };
    assert_eq!(resizer.frame(&[0; 5], 2, 2, &mut out), Err(few));
    let narrow = ResizeError::Bytes { expected: 48, found: 47 };
    assert_eq!(resizer.frame(&[0; 12], 2, 2, &mut out[1..]), Err(narrow));
    let nothing = ResizeError::Size { width: 0, height: 3 };
    assert_eq!(resizer.frame(&[], 3, 0, &mut out), Err(nothing));
    assert!(Resizer::new(0, 4).frame(&[0; 12], 2, 2, &mut []).is_err());
    assert_eq!(out, vec![9; 4 * 4 * 3]);
}
