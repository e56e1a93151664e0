//! Clips that are folders of images: in every format, regardless of the extension, and upright.

use std::fs;
use std::path::Path;

use image::{ExtendedColorType, ImageFormat, Rgb, RgbImage};
use polyview::data::clip::ClipError;
use polyview::data::resize::Resizer;
use polyview::data::video::{read_clip, read_resized, verify_clip, visit_frames};

fn picture(shade: u8) -> RgbImage {
    RgbImage::from_fn(6, 4, |x, y| Rgb([shade, x as u8, y as u8]))
}

#[test]
fn the_formats_may_be_mixed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shade) in [("1.bmp", 1), ("2.WebP", 2), ("3.png", 3), ("4.jpeg", 4)] {
        // The last one is a PNG under another name.
        let format = ImageFormat::from_path(name).unwrap();
        let format = if format == ImageFormat::Jpeg { ImageFormat::Png } else { format };
        picture(shade).save_with_format(folder.path().join(name), format).unwrap();
    }
    fs::write(folder.path().join("._1.bmp"), b"x").unwrap();
    let (info, frames) = read_clip(folder.path(), |_| vec![0, 1, 2, 3]).unwrap();
    assert_eq!((info.frames, info.width, info.height, info.codec.as_str()), (4, 6, 4, "bmp"));
    for t in 0..4 {
        assert_eq!(frames.frame(t), picture(t as u8 + 1).as_raw(), "frame {t}");
    }
    assert_eq!(verify_clip(folder.path()).unwrap(), info);
}

#[test]
fn photographs_are_rotated_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.jpg");
    // Left half dark, right half bright.
    let image = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 10 } else { 240 }; 3]));
    image.save(&path).unwrap();
    let file = fs::read(&path).unwrap();
    // An EXIF segment after the start of the image: orientation 6, to be rotated clockwise by 90
    // degrees.
    let mut exif =
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut segment = vec![0xff, 0xe1];
    segment.extend(((exif.len() + 2) as u16).to_be_bytes());
    segment.append(&mut exif);
    fs::write(&path, [&file[..2], &segment, &file[2..]].concat()).unwrap();
    let (info, frames) = read_clip(folder.path(), |_| vec![0]).unwrap();
    assert_eq!((info.width, info.height), (16, 32));
    let at = |y: usize| frames.frame(0)[(y * 16 + 8) * 3];
    assert!(at(4) < 40 && at(28) > 200, "{} above {}", at(4), at(28));
}

#[test]
fn an_image_of_one_row_is_read_at_the_size_of_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let image = RgbImage::from_pixel(65536, 1, Rgb([9, 80, 200]));
    image.save(folder.path().join("1.png")).unwrap();
    let mut resizer = Resizer::new(224, 398);
    let mut out = vec![0; resizer.bytes()];
    let info = read_resized(folder.path(), |_| vec![0], &mut resizer, &mut out).unwrap();
    assert_eq!((info.width, info.height), (65536, 1));
    assert_eq!(out, [9, 80, 200].repeat(224 * 398));
}

/// Returns the reason why frame `t` of a folder cannot be read.
fn refusal(folder: &Path, t: usize) -> String {
    let error = read_clip(folder, |_| vec![t]).unwrap_err();
    assert_eq!(verify_clip(folder), Err(error.clone()));
    let ClipError::Damaged { path, reason } = error else { panic!("{error}") };
    assert_eq!(path, folder.join(format!("{}.png", t + 1)));
    reason
}

/// Writes a PNG that states this size but consists of little more than its header.
fn stated(path: &Path, width: u32, height: u32, color: ExtendedColorType) {
    let kind = match color {
        ExtendedColorType::L8 => [8, 0],
        ExtendedColorType::Rgba16 => [16, 6],
        _ => [8, 2],
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &kind, &[0; 3]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in [(b"IHDR", &header[..]), (b"IDAT", &[0x78, 0x9c])] {
        let chunk = [&name[..], content].concat();
        file.extend((content.len() as u32).to_be_bytes());
        file.extend_from_slice(&chunk);
        file.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    fs::write(path, file).unwrap();
}

#[test]
fn images_that_state_more_than_memory_holds_are_not_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("1.png");
    // The limit counts the stored bytes per pixel, but at least three.
    for (side, color) in [
        (100_000, ExtendedColorType::Rgb8),
        (15_000, ExtendedColorType::L8),
        (9_000, ExtendedColorType::Rgba16),
    ] {
        stated(&first, side, side, color);
        let reason = refusal(folder.path(), 0);
        assert_eq!(reason, format!("an image of {side}x{side} does not fit in memory"));
    }
    picture(1).save(&first).unwrap();
    let second = folder.path().join("2.png");
    stated(&second, 100_000, 100_000, ExtendedColorType::Rgb8);
    assert_eq!(refusal(folder.path(), 1), "an image of 100000x100000 does not fit in memory");
    // Other images are compared with the first one before they are decoded.
    stated(&second, 5_000, 4_000, ExtendedColorType::Rgb8);
    assert_eq!(refusal(folder.path(), 1), "5000x4000, but the clip's first is 6x4");
}

#[test]
fn a_panic_while_images_are_read_affects_only_the_clip() {
    let folder = tempfile::tempdir().unwrap();
    picture(1).save(folder.path().join("1.png")).unwrap();
    let error =
        visit_frames(folder.path(), |_| vec![0], |_| panic!("as a decoder may")).unwrap_err();
    assert_eq!(error.kind(), "damaged", "{error}");
}
