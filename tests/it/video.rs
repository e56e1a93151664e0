//! Reading valid clips: golden frames, windows, order, folders of images.

use std::fs;

use image::{Rgb, RgbImage};
use polyview::data::clip::ClipError;
use polyview::data::video::{read_clip, resolve_clip, verify_clip, visit_luma};
use serde_json::Value;

use crate::common::clips::{
    ffmpeg_rgb, have_ffmpeg, mean_difference, read_all, sample_folder, synthetic_clip,
};
use crate::common::fill::fnv1a;

#[test]
fn golden_sample_luma() {
    let Some(folder) = sample_folder() else {
        return;
    };
    let golden: Value =
        serde_json::from_slice(&fs::read(folder.join("frames.json")).unwrap()).unwrap();
    let clips = golden["clips"].as_object().unwrap();
    assert!(!clips.is_empty());
    for (name, facts) in clips {
        let at = facts["at"].as_object().unwrap();
        let (mut seen, mut compared) = (0, 0);
        let info = visit_luma(&folder.join(name), |t, luma| {
            seen += 1;
            if let Some(frame) = at.get(&t.to_string()) {
                let hash = format!("{:016x}", fnv1a(luma));
                assert_eq!(frame["luma_fnv1a64"], hash, "{name}, frame {t}");
                compared += 1;
            }
        })
        .unwrap();
        assert_eq!(facts["frames"], info.frames, "{name}");
        assert_eq!((&facts["width"], &facts["height"]), (&info.width.into(), &info.height.into()));
        assert_eq!((seen, compared), (info.frames, at.len()), "{name}");
        assert_eq!((info.codec.as_str(), info.fps.round()), ("h264", 25.0), "{name}");
    }
}

#[test]
fn sample_colours_are_those_of_ffmpeg() {
    let Some(folder) = sample_folder() else {
        return;
    };
    if !have_ffmpeg() {
        return;
    }
    let path = folder.join("mvfouls/train/action_0/clip_0.mp4");
    let (_, frames) = read_clip(&path, |_| vec![75]).unwrap();
    let theirs = ffmpeg_rgb(&path);
    let size = frames.data.len();
    let difference = mean_difference(&frames.data, &theirs[75 * size..76 * size]);
    println!("mean difference of frame 75 to ffmpeg: {difference:.3} levels");
    assert!(difference < 1.0, "{difference}");
}

#[test]
fn a_window_equals_the_same_frames_of_the_whole_clip() {
    let mut paths = vec![synthetic_clip()];
    if let Some(folder) = sample_folder() {
        paths.push(folder.join("mvfouls/train/action_1/clip_1"));
    }
    for path in paths {
        let whole = read_all(&path).unwrap();
        assert_eq!(whole, read_all(&path).unwrap());
        let last = whole.count - 1;
        for wanted in [vec![last], vec![30, 31, 32, 33], vec![40, 3, 40, last, 0, 17, 3], vec![26]]
        {
            let (info, frames) = read_clip(&path, |_| wanted.clone()).unwrap();
            assert_eq!((info.frames, frames.count), (whole.count, wanted.len()));
            for (i, &t) in wanted.iter().enumerate() {
                assert!(frames.frame(i) == whole.frame(t), "{}: frame {t}", path.display());
            }
        }
        let (info, none) = read_clip(&path, |_| Vec::new()).unwrap();
        assert_eq!((none.count, none.data.len(), none.width), (0, 0, info.width));
        assert_eq!(verify_clip(&path).unwrap(), info);
        let beyond = read_clip(&path, |info| vec![info.frames]);
        assert!(matches!(beyond, Err(ClipError::Damaged { .. })));
    }
}

#[test]
fn names_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let missing = resolve_clip(&at("clip_0"));
    assert_eq!(missing, Err(ClipError::Missing(at("clip_0"))));
    fs::create_dir(at("clip_0")).unwrap();
    assert_eq!(resolve_clip(&at("clip_0")), Ok(at("clip_0")));
    fs::write(at("clip_0.webm"), b"").unwrap();
    assert_eq!(resolve_clip(&at("clip_0")), Ok(at("clip_0.webm")));
    fs::write(at("clip_0.MP4"), b"").unwrap();
    assert_eq!(
        resolve_clip(&at("clip_0")).unwrap().extension().unwrap().to_ascii_lowercase(),
        "mp4"
    );
    fs::write(at("v1.5"), b"").unwrap();
    assert_eq!(resolve_clip(&at("v1.5")), Ok(at("v1.5")));
    assert_eq!(read_clip(&at("clip_0.webm"), |_| vec![0]).unwrap_err().kind(), "empty");
}

#[test]
fn a_folder_of_images_is_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip_3");
    fs::create_dir(&clip).unwrap();
    assert_eq!(read_clip(&clip, |_| Vec::new()), Err(ClipError::Empty(clip.clone())));
    for t in 1..=12u8 {
        let image = RgbImage::from_fn(6, 4, |x, y| Rgb([t, x as u8, y as u8]));
        image.save(clip.join(format!("frame_{t}.png"))).unwrap();
    }
    for other in ["notes.txt", ".DS_Store", "._frame_1.png"] {
        fs::write(clip.join(other), "no image").unwrap();
    }
    let (info, frames) = read_clip(&clip, |_| vec![11, 0, 1, 1]).unwrap();
    assert_eq!((info.frames, info.width, info.height, info.fps), (12, 6, 4, 25.0));
    assert_eq!(info.codec, "png");
    let firsts: Vec<u8> = (0..4).map(|i| frames.frame(i)[0]).collect();
    assert_eq!(firsts, [12, 1, 2, 2]);
    assert_eq!(frames.frame(0)[3 * (6 + 2)..][..3], [12, 2, 1]);
    assert_eq!(verify_clip(&clip).unwrap(), info);

    RgbImage::new(5, 4).save(clip.join("frame_4.png")).unwrap();
    fs::write(clip.join("frame_5.png"), b"no png").unwrap();
    for (t, sound) in [(0, true), (3, false), (4, false)] {
        assert_eq!(read_clip(&clip, |_| vec![t]).is_ok(), sound, "frame {t}");
    }
    assert_eq!(verify_clip(&clip).unwrap_err().kind(), "damaged");
}
