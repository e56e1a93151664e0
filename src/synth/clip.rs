//! Renders and encodes one clip.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use yuv::{
    YuvChromaSubsampling, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
    rgb_to_yuv420,
};

use super::SynthOptions;
use super::encode::Mp4Encoder;
use super::scene::{ClipPlan, Scene};

/// Returns the bytes of a clip's mp4 file.
pub(super) fn encode(plan: &ClipPlan) -> Result<Vec<u8>, String> {
    let SynthOptions { width, height, frames, seed, .. } = *plan.options;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(plan.stream);
    let scene = Scene::new(plan, &mut rng);
    let mut rgb = vec![0; width * height * 3];
    let (w, h) = (width as u32, height as u32);
    let mut planes = YuvPlanarImageMut::alloc(w, h, YuvChromaSubsampling::Yuv420);
    let mut encoder = Mp4Encoder::new(width, height)?;
    for t in 0..frames {
        scene.paint(t, &mut rng, &mut rgb);
        rgb_to_yuv420(
            &mut planes,
            &rgb,
            w * 3,
            YuvRange::Limited,
            YuvStandardMatrix::Bt601,
            YuvConversionMode::Balanced,
        )
        .map_err(|error| error.to_string())?;
        let (y, u, v) = (&planes.y_plane, &planes.u_plane, &planes.v_plane);
        encoder.push([y.borrow(), u.borrow(), v.borrow()])?;
    }
    encoder.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::video::read_clip;

    #[test]
    fn decoding_gives_the_rendered_frames() {
        let options = SynthOptions { frames: 40, ..SynthOptions::default() };
        let counts = [4, 8];
        let classes = [2, 5];
        let plan =
            ClipPlan { options: &options, counts: &counts, classes: &classes, view: 1, stream: 9 };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        fs::write(&path, encode(&plan).unwrap()).unwrap();
        let (info, frames) = read_clip(&path, |info| (0..info.frames).collect()).unwrap();
        assert_eq!((info.frames, info.width, info.height), (40, 128, 96));
        assert_eq!((info.fps, info.codec.as_str()), (25.0, "h264"));

        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(plan.stream);
        let scene = Scene::new(&plan, &mut rng);
        let mut rgb = vec![0; 128 * 96 * 3];
        for t in 0..options.frames {
            scene.paint(t, &mut rng, &mut rgb);
            let pairs = rgb.iter().zip(frames.frame(t));
            let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / rgb.len() as f64;
            assert!(mean < 4.0, "frame {t} is {mean:.2} levels off");
        }
    }
}
