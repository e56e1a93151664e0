//! Clips that are folders of images: every format, whatever a file's extension says, upright.

use std::fs;

use image::{ImageFormat, Rgb, RgbImage};
use polyview::data::video::{read_clip, verify_clip};

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
fn photographs_are_turned_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.jpg");
    // Left half dark, right half bright.
    let image = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 10 } else { 240 }; 3]));
    image.save(&path).unwrap();
    let file = fs::read(&path).unwrap();
    // An EXIF segment after the start of the image: orientation 6, to be turned right by 90 degrees.
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
