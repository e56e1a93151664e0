//! A batch with its records, checked once for both executions.

use super::geometry::{Geometry, MAX_SIDE};
use super::noise::Noise;
use super::record::{ClipRecord, RecordError};

/// Per-channel mean of RGB in [0, 1]: torchvision's statistics for its video models (Kinetics-400).
pub const MEAN: [f32; 3] = [0.43216, 0.394666, 0.37645];
/// Per-channel standard deviation, likewise.
pub const STD: [f32; 3] = [0.22803, 0.22145, 0.216989];

/// The last step, (x − mean)/std per channel. The default is [`MEAN`] and [`STD`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Of RGB in [0, 1].
    pub mean: [f32; 3],
    /// Of RGB in [0, 1]; above 0.
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
    /// 0 to 255, as decoded.
    U8(&'a [u8]),
    /// 0 to 1.
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
    /// A batch of nothing, or a frame without pixels.
    #[error("nothing to augment: {clips} clips of {from:?} to frames of {to:?}")]
    Empty {
        /// N.
        clips: usize,
        /// `[T, H, W]`.
        from: [usize; 3],
        /// `[H', W']`.
        to: [usize; 2],
    },
    /// The number of frames does not fit the size.
    #[error("{clips} clips of {size:?} have {expected} values, not {found}")]
    Length {
        /// N, the number of records.
        clips: usize,
        /// `[T, H, W]`.
        size: [usize; 3],
        /// N·T·H·W·3.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// A record that does not fit.
    #[error("clip {clip}: {reason}")]
    Record {
        /// Which of the batch.
        clip: usize,
        /// What is wrong with it.
        reason: RecordError,
    },
    /// Records of one batch with different numbers of output frames.
    #[error("clip {clip} has {found} output frames, clip 0 has {expected}")]
    Frames {
        /// Which of the batch.
        clip: usize,
        /// Frames of clip 0.
        expected: usize,
        /// Frames of this clip.
        found: usize,
    },
    /// A normalisation that divides by 0 or has no finite result.
    #[error("mean {:?} and std {:?} are no normalisation", .0.mean, .0.std)]
    Normalisation(Normalisation),
    /// A frame too high or too wide.
    #[error("a frame has a side of {side} pixels, the limit is {limit}")]
    Side {
        /// Pixels.
        side: usize,
        /// Pixels.
        limit: usize,
    },
    /// More than 32-bit indices or the device's buffers can hold.
    #[error("the augmented clips need {need} bytes in one buffer, the limit is {limit}")]
    TooLarge {
        /// Bytes.
        need: u64,
        /// Bytes.
        limit: u64,
    },
}

/// What an execution needs to know of a clip beside its frame table.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Where each output pixel comes from.
    pub geometry: Geometry,
    /// `[x0, y0, x1, y1]`, ends excluded; empty = none.
    pub cutout: [usize; 4],
    /// Value of the cutout, before colour.
    pub fill: f32,
    /// Factor of every value.
    pub brightness: f32,
    /// Factor of the distance from 0.5.
    pub contrast: f32,
    /// 0.5 − 0.5·contrast: x·contrast + this is (x − 0.5)·contrast + 0.5, and exact at contrast 1.
    pub contrast_shift: f32,
    /// What is added to each value.
    pub noise: Option<Noise>,
}

/// A batch that passed all checks: what it holds can be executed without reading outside it.
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
    /// `frames` of `[T, H, W]` = `size` per clip, one record per clip, to frames of
    /// `[H', W']` = `out_size`.
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
        // A clip's elements are counted in 32 bits by the noise, and f32 has 4 bytes.
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

    /// The source, `[N, T, H, W, 3]`.
    pub fn frames(&self) -> Frames<'a> {
        self.frames
    }

    /// `[T, H, W]` of the source.
    pub fn size(&self) -> [usize; 3] {
        self.size
    }

    /// One record per clip.
    pub fn records(&self) -> &'a [ClipRecord] {
        self.records
    }

    /// What the records come to at these sizes, one entry per clip.
    pub fn clips(&self) -> &[Clip] {
        &self.clips
    }

    /// `[T', H', W']` of the output.
    pub fn out(&self) -> [usize; 3] {
        self.out
    }

    /// Per channel what is subtracted from a value, and by what the difference is multiplied:
    /// mean and 1/std.
    pub fn normalisation(&self) -> [[f32; 3]; 2] {
        [self.mean, self.scale]
    }

    /// `[N, 3, T', H', W']`.
    pub fn out_shape(&self) -> [usize; 5] {
        let [t, h, w] = self.out;
        [self.clips.len(), 3, t, h, w]
    }
}
