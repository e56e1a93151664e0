//! Clips that only ffmpeg decodes, made by ffmpeg itself; skipped where it is missing.

use std::path::Path;

use polyview::data::video::{read_clip, verify_clip, visit_luma};

use crate::common::clips::{encoded, ffmpeg, ffmpeg_rgb, have_ffmpeg, mean_difference, read_all};

/// Makes a clip of 30 moving frames of 96x64; false where this ffmpeg has no such encoder.
fn make(path: &Path, options: &[&str]) -> bool {
    let input = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1.2"];
    encoded(ffmpeg().args(input).args(options).arg(path))
}

/// Reads the clip and compares all its frames with ffmpeg's own.
fn compare(path: &Path, codec: &str, bound: f64) {
    let theirs = ffmpeg_rgb(path);
    let (info, frames) = read_clip(path, |info| (0..info.frames).collect()).unwrap();
    assert_eq!((info.codec.as_str(), info.width, info.height), (codec, 96, 64));
    assert_eq!((info.fps.round(), frames.count * 96 * 64 * 3), (25.0, theirs.len()));
    let difference = mean_difference(&frames.data, &theirs);
    assert!(difference <= bound, "{}: {difference}", path.display());
    let (_, some) = read_clip(path, |_| vec![20, 4, 20]).unwrap();
    for (i, t) in [20, 4, 20].into_iter().enumerate() {
        assert!(some.frame(i) == frames.frame(t));
    }
    assert_eq!(verify_clip(path).unwrap(), info);
}

#[test]
fn other_codecs_and_containers_go_to_ffmpeg() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &str, &[&str]); 8] = [
        ("a.avi", "mpeg4", &["-c:v", "mpeg4"]),
        ("b.mkv", "hevc", &["-c:v", "libx265", "-x265-params", "log-level=error"]),
        ("c.mp4", "hevc", &["-c:v", "libx265", "-x265-params", "log-level=error"]),
        ("d.mp4", "h264", &["-c:v", "libx264", "-flags", "+ilme+ildct"]),
        ("e.mp4", "h264", &["-c:v", "libx264", "-pix_fmt", "yuv444p"]),
        ("f.mp4", "h264", &["-c:v", "libx264", "-pix_fmt", "yuv420p10le"]),
        ("g.mp4", "h264", &["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"]),
        ("h.webm", "vp9", &["-c:v", "libvpx-vp9"]),
    ];
    for (name, codec, options) in cases {
        let path = folder.path().join(name);
        if make(&path, options) {
            assert!(visit_luma(&path, |_, _| {}).is_err(), "{name} was decoded in process");
            compare(&path, codec, 0.0);
        }
    }
}

#[test]
fn h264_variants_are_decoded_in_process() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 6] = [
        ("a.mp4", &["-bf", "3", "-g", "10"]),
        ("b.mp4", &["-bf", "3", "-g", "7", "-x264-params", "open-gop=1:b-pyramid=2"]),
        ("c.mp4", &["-profile:v", "baseline"]),
        ("d.mov", &["-bf", "2"]),
        // The first half cut away by an edit list, in the middle of a group of pictures.
        ("e.mp4", &["-g", "250"]),
        ("f.mp4", &["-x264-params", "slices=3"]),
    ];
    for (name, options) in cases {
        let path = folder.path().join(name);
        let options = [&["-c:v", "libx264", "-pix_fmt", "yuv420p"][..], options].concat();
        if !make(&path, &options) {
            continue;
        }
        visit_luma(&path, |_, _| {}).unwrap();
        compare(&path, "h264", 1.0);
        if name == "e.mp4" {
            let cut = folder.path().join("cut.mp4");
            let mut command = ffmpeg();
            command.args(["-ss", "0.6", "-i"]).arg(&path).args(["-c", "copy"]).arg(&cut);
            assert!(command.status().unwrap().success());
            let ours = read_all(&cut).unwrap();
            assert_eq!(ours.count, 15);
            assert!(ours.data == read_all(&path).unwrap().data[15 * 96 * 64 * 3..]);
        }
    }
}

#[test]
fn ffmpeg_finds_damage_and_missing_video() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mkv");
    if make(&path, &["-c:v", "mpeg4"]) {
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..300]).unwrap();
        assert_eq!(read_all(&path).unwrap_err().kind(), "damaged");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(verify_clip(&path).unwrap_err().kind(), "damaged");
    }
    for name in ["sound.mkv", "sound.mp4"] {
        let path = folder.path().join(name);
        let mut command = ffmpeg();
        command.args(["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]).arg(&path);
        assert!(command.status().unwrap().success());
        assert_eq!(read_all(&path).unwrap_err().kind(), "no video", "{name}");
    }
}

#[test]
fn a_playlist_is_not_a_clip() {
    if !have_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("video.ts");
    assert!(make(&video, &["-c:v", "mpeg2video"]));
    assert!(read_all(&video).is_ok());
    let hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.2,\n";
    // ffmpeg would wait for more of the second one.
    let lists = [
        ("a.m3u8", format!("{hls}{}\n#EXT-X-ENDLIST\n", video.display())),
        ("b.m3u8", format!("{hls}{}\n", video.display())),
    ];
    for (name, text) in lists {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let error = read_all(&path).unwrap_err();
        assert_eq!(error.kind(), "damaged", "{name}: {error}");
        assert!(error.to_string().contains("playlists"), "{name}: {error}");
    }
}
