//! Small files that claim huge contents, as fuzzing found them: refused before memory or time is
//! spent. `tests/fuzz` looks for more.

use std::fs;
use std::path::{Path, PathBuf};

use polyview::data::clip::ClipError;
use polyview::data::video::{read_clip, verify_clip, visit_luma};

use crate::common::clips::have_ffmpeg;

/// Returns the error of the in-process decoder; ffmpeg is not used.
fn refusal(path: &Path) -> String {
    let error = visit_luma(path, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), "damaged", "{error}");
    let ClipError::Damaged { reason, .. } = error else { unreachable!() };
    reason
}

fn hostile(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile").join(name)
}

fn boxed(name: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes(), name.as_bytes(), content].concat()
}

/// Builds a file of one video track with these edits, which may be empty, and this sample table.
fn movie(edits: &[u8], table: &[u8]) -> Vec<u8> {
    let handler = boxed("hdlr", b"\0\0\0\0\0\0\0\0vide\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let media = boxed("minf", &boxed("stbl", table));
    let media = boxed("mdia", &[handler, media].concat());
    let track = boxed("trak", &[edits, &media].concat());
    [boxed("ftyp", b"isom\0\0\0\0"), boxed("moov", &track)].concat()
}

#[test]
fn tables_that_claim_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let refused = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    // Three hundred bytes for each of four billion entries.
    let count = b"\0\0\0\0\xff\xff\xff\xff";
    for name in ["stsd", "stts", "ctts", "stss", "stsc", "stco", "co64"] {
        let reason = refused(movie(&[], &boxed(name, count)));
        assert!(reason.contains(&format!("{name} names more entries than it holds")), "{reason}");
    }
    let sizes = boxed("stsz", b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff");
    let reason = refused(movie(&[], &sizes));
    assert!(reason.contains("stsz names more entries"), "{reason}");
    let edits = boxed("edts", &boxed("elst", count));
    let reason = refused(movie(&edits, &[]));
    assert!(reason.contains("elst names more entries"), "{reason}");
    // One entry more than the box holds.
    let reason = refused(movie(&[], &boxed("stss", b"\0\0\0\0\0\0\0\x02\0\0\0\x01")));
    assert!(reason.contains("stss names more entries"), "{reason}");
}

#[test]
fn boxes_that_extend_beyond_their_parent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let refused = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    let sizes: [&[u8]; 5] = [
        b"\x7f\xff\xff\xffavcC",
        b"\0\0\0\x09avcC",
        b"\0\0\0\x07avcC",
        b"\0\0\0\0avcC",
        b"\0\0\0\x01avcC\x7f\xff\xff\xff\xff\xff\xff\xff",
    ];
    for size in sizes {
        let entry = boxed("avc1", &[&[0; 78][..], size].concat());
        let table = boxed("stsd", &[b"\0\0\0\0\0\0\0\x01", &entry[..]].concat());
        let reason = refused(movie(&[], &table));
        assert!(reason.contains("lies outside of its box"), "{size:?}: {reason}");
        let reason = refused(movie(size, &[]));
        assert!(reason.contains("lies outside of its box"), "{size:?}: {reason}");
    }
    // Lists that end with fewer bytes than a box header are valid; this one merely has no samples.
    let bytes = movie(&[], &boxed("stsd", b"\0\0\0\0\0\0\0\0\0\0\0\0"));
    fs::write(&path, bytes).unwrap();
    let error = visit_luma(&path, |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    // The parser allocated memory for brands before it found that there are none.
    let reason = refused(b"\x7f\xff\xff\xffftypisom\0\0\0\0isom".to_vec());
    assert!(reason.contains("no usable index"), "{reason}");
}

#[test]
fn boxes_that_do_not_concern_the_video_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let tags = boxed("udta", b"\x7f\xff\xff\xffmeta");
    let systems = boxed("pssh", &[&[0; 20][..], b"\xff\xff\xff\xff"].concat());
    let handler = boxed("hdlr", b"\0\0\0\0\0\0\0\0soun\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let table = boxed("stbl", &boxed("stsd", b"\0\0\0\0\xff\xff\xff\xff"));
    let media = boxed("mdia", &[handler, boxed("minf", &table)].concat());
    let sound = boxed("trak", &media);
    let bytes = boxed("moov", &[tags, systems, sound].concat());
    fs::write(&path, bytes).unwrap();
    assert_eq!(visit_luma(&path, |_, _| {}), Err(ClipError::NoVideo(path)));
}

/// Claims a million reference frames, with gaps that the decoder fills with grey ones.
#[test]
fn too_many_reference_pictures() {
    let reason = refusal(&hostile("references.mp4"));
    assert_eq!(reason, "it asks for 1048576 reference pictures");
}

/// A kilobyte that claims frames of 37 megapixels, more than the standard's highest level has.
#[test]
fn frames_larger_than_any_level_allows() {
    let error = visit_luma(&hostile("large_picture.mp4"), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("H.264 with unusual parameter sets"), "{error}");
}

/// Ten kilobytes that ask ffmpeg for a picture of 81 megapixels, and so for half a gigabyte.
#[test]
fn pictures_that_are_too_large_for_ffmpeg() {
    if !have_ffmpeg() {
        return;
    }
    let error = verify_clip(&hostile("many_pixels.mkv")).unwrap_err().to_string();
    assert!(error.contains("9000x9000") && error.contains("max pixel count"), "{error}");
}

/// More frames than memory holds, of a valid clip.
#[test]
fn more_frames_than_memory_holds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/clips/two_parts.mp4");
    let ClipError::Damaged { reason, .. } = read_clip(&path, |_| vec![0; 200_000]).unwrap_err()
    else {
        panic!("unexpected error");
    };
    assert_eq!(reason, "200000 frames of 4608 bytes do not fit in memory");
}

/// Forty samples in the bytes of one.
#[test]
fn samples_that_share_their_bytes() {
    let reason = refusal(&hostile("shared_samples.mp4"));
    assert_eq!(reason, "its samples are larger than the file");
}

/// Prediction weights beyond any picture: the decoder's product overflows, which is a panic in a
/// build with overflow checks, and a wrong pixel otherwise.
#[test]
fn weights_that_overflow() {
    let clip = read_clip(&hostile("weights.mp4"), |info| (0..info.frames).collect());
    assert!(clip.is_ok(), "{clip:?}");
}
