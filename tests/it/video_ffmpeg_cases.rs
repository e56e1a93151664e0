//! Files as they occur in practice, decoded by the installed ffmpeg. The expected frames are those
//! of PyAV 18.1 (`frame.to_ndarray(format="rgb24")`).

use std::fs::{copy, read, write};
use std::path::Path;

use polyview::data::clip::ClipInfo;
use polyview::data::video::{read_clip, verify_clip};

use crate::common::clips::{case, encoded, ffmpeg, have_ffmpeg, mean_difference, means, read_all};

/// Runs of equal frames: their number, and the mean red, green and blue of each frame.
type Means<'a> = &'a [(usize, [f64; 3])];

/// Reads a clip, checks its frames against `expected`, and returns its properties.
fn check_read(path: &Path, size: (usize, usize), expected: Means) -> ClipInfo {
    check_read_within(path, size, expected, 0.5)
}

fn check_read_within(path: &Path, size: (usize, usize), expected: Means, bound: f64) -> ClipInfo {
    let name = path.display();
    let all = |info: &ClipInfo| (0..info.frames).collect();
    let (info, frames) = read_clip(path, all).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((info.width, info.height), size, "{name}");
    assert_eq!(frames.count, expected.iter().map(|run| run.0).sum::<usize>(), "{name}");
    let expected = expected.iter().flat_map(|&(count, mean)| vec![mean; count]);
    for (t, (ours, theirs)) in means(&frames).into_iter().zip(expected).enumerate() {
        let near = (0..3).all(|c| (ours[c] - theirs[c]).abs() <= bound);
        assert!(near, "{name}: frame {t} has {ours:.1?} instead of {theirs:?}");
    }
    assert_eq!(verify_clip(path).unwrap(), info, "{name}");
    info
}

/// Returns a frame of each of these grey values.
fn greys(values: impl IntoIterator<Item = u8>) -> Vec<(usize, [f64; 3])> {
    values.into_iter().map(|value| (1, [f64::from(value); 3])).collect()
}

#[test]
fn a_plain_matroska_file_is_read_by_every_version() {
    if !have_ffmpeg() {
        return;
    }
    let info =
        check_read(&case("ffmpeg_older_than_5_1/clip_0.mkv"), (48, 32), &[(10, [0.0, 198.0, 0.0])]);
    assert_eq!((info.codec.as_str(), info.fps.round(), info.complaint), ("h264", 25.0, None));
    assert_eq!((info.rotation, info.pixel_aspect), (0, [1, 1]));
}

#[test]
fn the_rate_of_a_variable_rate_clip_is_that_of_its_time_stamps() {
    if !have_ffmpeg() {
        return;
    }
    let theirs = [153, 156, 158, 159, 161, 164, 166, 167, 170, 172, 173, 175, 178, 180, 181, 183];
    let clips = ["hevc_vfr_rate/hevc_vfr.mov", "hevc_vfr_rate/h264_vfr.mp4"].map(|name| {
        let (info, frames) = read_clip(&case(name), |_| (67..83).collect()).unwrap();
        for (mean, grey) in means(&frames).iter().zip(theirs) {
            assert!((mean[0] - f64::from(grey)).abs() <= 1.0, "{name}: {mean:?}, {grey}");
        }
        info
    });
    let [hevc, h264] = clips;
    assert_eq!((hevc.frames, hevc.codec.as_str(), h264.codec.as_str()), (90, "hevc", "h264"));
    assert!((hevc.fps - 26.7).abs() < 0.05, "{}", hevc.fps);
    assert!((hevc.fps - h264.fps).abs() < 1e-6, "{} {}", hevc.fps, h264.fps);
}

#[test]
fn a_live_recording_without_a_rate_is_read() {
    if !have_ffmpeg() {
        return;
    }
    let theirs = greys((0..30).map(|t| 19 + 7 * t + u8::from(t > 27)));
    let info = check_read(&case("live_webm/clip_0.webm"), (48, 32), &theirs);
    assert_eq!(info.codec, "vp8");
    // From its time stamps, 0 to 957 ms: the file states no rate.
    assert!((info.fps - 29.0 / 0.957).abs() < 1e-6, "{}", info.fps);
}

#[test]
fn streams_that_start_between_key_frames_begin_at_the_first() {
    if !have_ffmpeg() {
        return;
    }
    let theirs = [(12, [72.2, 48.5, 39.2]), (6, [73.5, 47.8, 39.2])];
    for name in [
        "ts_starts_mid_gop/clip_0.ts",
        "mp4_starts_without_key_frame/clip_0.mkv",
        "mp4_starts_without_key_frame/clip_0.mp4",
    ] {
        let info = check_read(&case(name), (48, 32), &theirs);
        assert_eq!((info.codec.as_str(), info.fps.round()), ("h264", 25.0), "{name}");
        let complaint = info.complaint.expect("the frames before the first key frame are missing");
        assert!(complaint.starts_with("ffmpeg: "), "{complaint}");
    }
}

#[test]
fn frames_have_the_size_of_the_first_one() {
    if !have_ffmpeg() {
        return;
    }
    let mut theirs = greys((0..10).map(|t| 19 + 7 * t));
    theirs.push((10, [252.0, 0.0, 0.0]));
    // The mp4 is first tried in process.
    for name in ["mp4_resolution_change/clip_0.mkv", "mp4_resolution_change/clip_0.mp4"] {
        let info = check_read(&case(name), (48, 32), &theirs);
        assert_eq!((info.frames, info.complaint), (20, None));
    }
}

#[test]
fn recordings_that_were_cut_and_joined_are_read_through() {
    if !have_ffmpeg() {
        return;
    }
    let theirs = [
        (4, [68.7, 49.7, 42.3]),
        (1, [70.7, 49.0, 41.2]),
        (5, [70.7, 49.6, 38.4]),
        (17, [72.2, 48.1, 38.1]),
        (5, [73.3, 48.7, 38.9]),
    ];
    let info = check_read(&case("joined_stream/cut.ts"), (48, 32), &theirs);
    assert!(info.complaint.is_some_and(|complaint| complaint.starts_with("ffmpeg: ")));
    // The gap does not count for the rate.
    assert!((info.fps - 25.0).abs() < 0.01, "{}", info.fps);

    let (info, frames) = read_clip(&case("joined_stream/cut.mpg"), |_| vec![0, 24]).unwrap();
    assert_eq!((info.frames, info.codec.as_str()), (25, "mpeg2video"));
    assert!((info.fps - 25.0).abs() < 0.01, "{}", info.fps);
    let theirs = [[69.4, 49.8, 43.1], [72.7, 48.7, 38.5]];
    for (ours, theirs) in means(&frames).iter().flatten().zip(theirs.iter().flatten()) {
        assert!((ours - theirs).abs() <= 0.5, "{ours} {theirs}");
    }
}

#[test]
fn time_stamps_may_be_missing_or_go_back() {
    if !have_ffmpeg() {
        return;
    }
    let theirs = [
        (4, [68.7, 49.7, 42.3]),
        (1, [70.7, 49.0, 41.2]),
        (5, [70.7, 49.6, 38.4]),
        (10, [72.2, 48.1, 38.1]),
        (5, [73.3, 48.7, 38.9]),
    ];
    let info = check_read(&case("muxer_clock/jitter.mkv"), (48, 32), &theirs);
    assert!((info.fps - 25.0).abs() < 1.0, "{}", info.fps);
    assert_eq!(info.complaint, None);
}

#[test]
fn a_broken_sound_track_does_not_damage_a_clip() {
    if !have_ffmpeg() {
        return;
    }
    let path = case("broken_sound/clip.mkv");
    let output = ffmpeg().arg("-i").arg(&path).args(["-map", "0:V:0", "-f", "null", "-"]).output();
    assert!(!output.unwrap().stderr.is_empty(), "ffmpeg reports the sound track");
    let info = verify_clip(&path).unwrap();
    assert_eq!((info.frames, info.complaint), (10, None));
}

#[test]
fn colours_are_converted_as_the_stream_specifies() {
    if !have_ffmpeg() {
        return;
    }
    let clips: [(&str, &str, Means); 6] = [
        ("h264_full_interlaced.mkv", "h264", &[(3, [79.5, 60.6, 60.3]), (1, [80.4, 60.6, 58.5])]),
        ("hevc_bt709.mov", "hevc", &[(3, [75.8, 58.9, 56.4]), (1, [76.8, 58.8, 54.2])]),
        ("mjpeg_full.avi", "mjpeg", &[(3, [78.4, 60.6, 57.9]), (1, [79.4, 60.6, 56.1])]),
        (
            "mpeg2_bt709_interlaced.ts",
            "mpeg2video",
            &[(3, [77.9, 59.7, 59.7]), (1, [78.8, 59.7, 58.0])],
        ),
        ("mpeg4_untagged.avi", "mpeg4", &[(3, [77.4, 60.0, 57.0]), (1, [78.2, 60.1, 55.1])]),
        ("vp9_bt709_full.webm", "vp9", &[(3, [77.0, 59.2, 57.0]), (1, [77.9, 59.2, 55.1])]),
    ];
    for (name, codec, theirs) in clips {
        let info = check_read(&case("colour_tags").join(name), (64, 48), theirs);
        assert_eq!((info.codec.as_str(), info.complaint), (codec, None), "{name}");
    }
    // Chroma of more than 8 bits is interpolated, which PyAV does in another way.
    let theirs = [(4, [200.3, 94.6, 78.7])];
    check_read_within(&case("colour_tags/hevc_bt2020.mkv"), (64, 48), &theirs, 1.0);
}

#[test]
fn frames_are_upright_and_their_rotation_is_reported() {
    if !have_ffmpeg() {
        return;
    }
    let stored = read_all(&case("rotation/hevc_wide.mov")).unwrap();
    let wide = verify_clip(&case("rotation/hevc_wide.mov")).unwrap();
    assert_eq!((wide.width, wide.height, wide.rotation), (64, 48, 0));
    assert_eq!(wide.pixel_aspect, [4, 3]);
    // The names give the degrees counterclockwise.
    for (name, rotation) in [("hevc_90.mov", 270), ("hevc_270.mov", 90)] {
        let (info, turned) =
            read_clip(&case("rotation").join(name), |info| (0..info.frames).collect()).unwrap();
        assert_eq!((info.width, info.height, info.rotation), (48, 64, rotation), "{name}");
        let (height, width) = (stored.height, stored.width);
        let mut upright = Vec::new();
        for t in 0..stored.count {
            for (y, x) in (0..width).flat_map(|y| (0..height).map(move |x| (y, x))) {
                let (from_y, from_x) =
                    if rotation == 90 { (height - 1 - x, y) } else { (x, width - 1 - y) };
                let at = (from_y * width + from_x) * 3;
                upright.extend_from_slice(&stored.frame(t)[at..at + 3]);
            }
        }
        // Chroma is sampled at other positions after rotation.
        assert!(mean_difference(&turned.data, &upright) < 6.0, "{name}");
    }
}

#[test]
fn clips_with_any_file_name_are_read() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clip = case("ffmpeg_older_than_5_1/clip_0.mkv");
    let mut names = vec!["a%03d.mkv", "-i.mkv", "a b'[1]\"$(x).MKV", "clip Ü.mkv"];
    if cfg!(unix) {
        names.extend(["a:b.mkv", "concat:a|b.mkv", "line\nbreak.mkv", "?*.mkv"]);
    }
    for name in names {
        let path = folder.path().join(name);
        copy(&clip, &path).unwrap();
        check_read(&path, (48, 32), &[(10, [0.0, 198.0, 0.0])]);
    }
    #[cfg(target_os = "linux")]
    {
        let name = std::os::unix::ffi::OsStrExt::from_bytes(&b"clip\xe9.mkv"[..]);
        let path = folder.path().join::<&std::ffi::OsStr>(name);
        copy(&clip, &path).unwrap();
        check_read(&path, (48, 32), &[(10, [0.0, 198.0, 0.0])]);
    }
}

#[test]
fn a_clip_that_changes_is_examined_again() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mkv");
    copy(case("ffmpeg_older_than_5_1/clip_0.mkv"), &path).unwrap();
    assert_eq!(verify_clip(&path).unwrap().frames, 10);
    copy(case("mp4_resolution_change/clip_0.mkv"), &path).unwrap();
    assert_eq!(verify_clip(&path).unwrap().frames, 20);
    let bytes = read(&path).unwrap();
    write(&path, &bytes[..bytes.len() - 300]).unwrap();
    assert_eq!(verify_clip(&path).unwrap_err().kind(), "damaged");
    write(&path, &bytes).unwrap();
    // It changes while it is being read.
    let select = |info: &ClipInfo| {
        assert_eq!(info.frames, 20);
        copy(case("ffmpeg_older_than_5_1/clip_0.mkv"), &path).unwrap();
        (0..20).collect()
    };
    let error = read_clip(&path, select).unwrap_err();
    assert!(error.to_string().contains("delivered 10 of 20 frames"), "{error}");
    assert_eq!(read_all(&path).unwrap().count, 10);
}

#[test]
fn truncated_files_with_an_index_are_damaged() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let input = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1.2", "-g", "12"];
    let formats: [(&str, &[&str]); 6] = [
        ("avi", &["-c:v", "mpeg4"]),
        ("mkv", &["-c:v", "libx264"]),
        ("webm", &["-c:v", "libvpx"]),
        ("wmv", &["-c:v", "wmv2"]),
        ("flv", &["-c:v", "flv"]),
        ("mp4", &["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"]),
    ];
    for (format, options) in formats {
        let path = folder.path().join("clip").with_extension(format);
        if !encoded(ffmpeg().args(input).args(options).arg(&path)) {
            continue;
        }
        assert_eq!(verify_clip(&path).unwrap().frames, 30, "{format}");
        let bytes = read(&path).unwrap();
        write(&path, &bytes[..bytes.len() * 6 / 10]).unwrap();
        let error = verify_clip(&path).unwrap_err();
        assert_eq!(error.kind(), "damaged", "{error}");
    }
}
