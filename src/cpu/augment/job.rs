//! A batch with its records, checked once for execution on the host or on a device.

use super::geometry::{Geometry, MAX_SIDE};
use super::noise::Noise;
use super::record::{ClipRecord, RecordError};

/// Per-channel mean of RGB in [0, 1]: torchvision's statistics for its video models (Kinetics-400).
pub const MEAN: [f32; 3] = [0.43216, 0.394666, 0.37645];
/// Per-channel standard deviation of RGB in [0, 1], from the same source as [`MEAN`].
pub const STD: [f32; 3] = [0.22803, 0.22145, 0.216989];

/// The last stage, (x − mean)/std per channel. The default is [`MEAN`] and [`STD`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Mean of RGB in [0, 1].
    pub mean: [f32; 3],
    /// Standard deviation of RGB in [0, 1]; above 0.
    pub std: [f32; 3],
}

impl Default for Normalisation {
    fn default() -> Self {
        Self { mean: MEAN, std: STD }
    }
}

/// Source frames `[N, T, H, W, 3]`.
#[derive(Debug, Clone, Copy)]
pub enum Frames<'a> {
    /// Values from 0 to 255, as decoded.
    U8(&'a [u8]),
    /// Values from 0 to 1.
    F32(&'a [f32]),
}

impl Frames<'_> {
    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

/// Why a batch could not be augmented.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AugmentError {
    /// The batch has no clips, or a frame has no pixels.
    #[error("nothing to augment: {clips} clips of {from:?} to frames of {to:?}")]
    Empty {
        /// N, the number of clips.
        clips: usize,
        /// `[T, H, W]` of the source.
        from: [usize; 3],
        /// `[H', W']` of the output.
        to: [usize; 2],
    },
    /// The number of values does not match the size.
    #[error("{clips} clips of {size:?} have {expected} values, not {found}")]
    Length {
        /// N, the number of records.
        clips: usize,
        /// `[T, H, W]` of the source.
        size: [usize; 3],
        /// Expected number of values, N·T·H·W·3.
        expected: usize,
        /// Number of values given.
        found: usize,
    },
    /// A record is invalid for its clip.
    #[error("clip {clip}: {reason}")]
    Record {
        /// Index of the clip in the batch.
        clip: usize,
        /// What is wrong with it.
        reason: RecordError,
    },
    /// The records of the batch have different numbers of output frames.
    #[error("clip {clip} has {found} output frames, clip 0 has {expected}")]
    Frames {
        /// Index of the clip in the batch.
        clip: usize,
        /// Number of output frames of clip 0.
        expected: usize,
        /// Number of output frames of this clip.
        found: usize,
    },
    /// The normalisation divides by 0 or has no finite result.
    #[error("mean {:?} and std {:?} are not a valid normalisation", .0.mean, .0.std)]
    Normalisation(Normalisation),
    /// A frame is too high or too wide.
    #[error("a frame has a side of {side} pixels, the limit is {limit}")]
    Side {
        /// Length of the side in pixels.
        side: usize,
        /// Largest length in pixels.
        limit: usize,
    },
    /// The result exceeds 32-bit indices or the device's largest buffer.
    #[error("the augmented clips need {need} bytes in one buffer, the limit is {limit}")]
    TooLarge {
        /// Required bytes.
        need: u64,
        /// Available bytes.
        limit: u64,
    },
}

/// Precomputed values of one clip that the execution needs besides its frame records.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Map from output pixels to source positions.
    pub geometry: Geometry,
    /// Cutout rectangle `[x0, y0, x1, y1]`, ends excluded; empty if there is none.
    pub cutout: [usize; 4],
    /// Value of the cutout, before the colour stage.
    pub fill: f32,
    /// Factor that every value is multiplied by.
    pub brightness: f32,
    /// Factor that the distance from 0.5 is multiplied by.
    pub contrast: f32,
    /// 0.5 − 0.5·contrast: x·contrast + `contrast_shift` equals (x − 0.5)·contrast + 0.5 and is
    /// exact at contrast 1.
    pub contrast_shift: f32,
    /// Noise that is added to each value.
    pub noise: Option<Noise>,
}

/// A batch that passed all checks: it can be executed without reading outside its buffers.
#[derive(Debug)]
pub struct AugmentJob<'a> {
    pub(super) frames: Frames<'a>,
    pub(super) size: [usize; 3],
    pub(super) records: &'a [ClipRecord],
    pub(super) clips: Vec<Clip>,
    pub(super) out: [usize; 3],
    pub(super) mean: [f32; 3],
    pub(super) scale: [f32; 3],
}

impl<'a> AugmentJob<'a> {
    /// Checks and prepares the augmentation of clips of `[T, H, W]` = `size`, one record per clip,
    /// to frames of `[H', W']` = `out_size`.
    pub fn new(
        frames: Frames<'a>,
        size: [usize; 3],
        records: &'a [ClipRecord],
        out_size: [usize; 2],
        normalisation: &Normalisation,
    ) -> Result<Self, AugmentError> {
        let n = records.len();
        let [t, h, w] = size;
        let [out_h, out_w] = out_size;
        let Some(first) = records.first() else {
            return Err(AugmentError::Empty { clips: 0, from: size, to: out_size });
        };
        if [t, h, w, out_h, out_w].contains(&0) {
            return Err(AugmentError::Empty { clips: n, from: size, to: out_size });
        }
        let out_t = first.frames.len();
        // The noise indexes a clip's elements with 32 bits, and an f32 has 4 bytes.
        let bytes = [n, 3, out_t, out_h, out_w, 4].map(|v| v as u64);
        let need = bytes.into_iter().fold(1, u64::saturating_mul);
        let clip = need / (n as u64 * 4);
        if clip > u64::from(u32::MAX) {
            return Err(AugmentError::TooLarge { need, limit: 4 * u64::from(u32::MAX) });
        }
        if let Some(&side) = [h, w, out_h, out_w].iter().find(|side| **side > MAX_SIDE) {
            return Err(AugmentError::Side { side, limit: MAX_SIDE });
        }
        let expected = [n, t, h, w, 3].into_iter().fold(1, usize::saturating_mul);
        if frames.len() != expected {
            let found = frames.len();
            return Err(AugmentError::Length { clips: n, size, expected, found });
        }
        let Normalisation { mean, std } = *normalisation;
        let scale = std.map(|std| 1.0 / std);
        if !mean.iter().chain(&scale).all(|v| v.is_finite()) || std.iter().any(|v| *v <= 0.0) {
            return Err(AugmentError::Normalisation(*normalisation));
        }
        let mut clips = Vec::with_capacity(n);
        for (clip, record) in records.iter().enumerate() {
            record.check(size).map_err(|reason| AugmentError::Record { clip, reason })?;
            let found = record.frames.len();
            if found != out_t {
                return Err(AugmentError::Frames { clip, expected: out_t, found });
            }
            clips.push(Clip {
                geometry: Geometry::new(record, [h, w], out_size),
                cutout: record.cutout.map_or([0; 4], |cutout| cutout.pixels(out_size)),
                fill: record.cutout.map_or(0.0, |cutout| cutout.fill),
                brightness: record.brightness,
                contrast: record.contrast,
                contrast_shift: 0.5 - 0.5 * record.contrast,
                noise: (record.noise_std > 0.0)
                    .then(|| Noise::new(record.noise_key, record.noise_std)),
            });
        }
        let out = [out_t, out_h, out_w];
        Ok(Self { frames, size, records, clips, out, mean, scale })
    }

    /// Source frames, `[N, T, H, W, 3]`.
    pub fn frames(&self) -> Frames<'a> {
        self.frames
    }

    /// `[T, H, W]` of the source.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// Records, one per clip.
    pub fn records(&self) -> &'a [ClipRecord] {
        self.records
    }

    /// Values precomputed from the records for these sizes, one entry per clip.
    pub fn clips(&self) -> &[Clip] {
        &self.clips
    }

    /// `[T', H', W']` of the output.
    pub fn out(&self) -> [usize; 3] {
        self.out
    }

    /// Mean and 1/std per channel: a value minus the mean is multiplied by 1/std.
    pub fn normalisation(&self) -> [[f32; 3]; 2] {
        [self.mean, self.scale]
    }

    /// Shape of the output, `[N, 3, T', H', W']`.
    pub fn out_shape(&self) -> [usize; 5] {
        let [t, h, w] = self.out;
        [self.clips.len(), 3, t, h, w]
    }
}
