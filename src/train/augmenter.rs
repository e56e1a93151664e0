//! Batches of frames to the network's augmented input.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::augment::{self, AugmentConfig, AugmentError, Frames, Normalisation, Turn, plan_clip};
use crate::data::Batch;

/// Augments training clips. The random choices depend on seed, turn, action and view alone, so
/// they are the same on every device and in a repeated run.
#[derive(Debug, Clone)]
pub struct Augmenter {
    /// The options.
    pub config: AugmentConfig,
    /// Seed of the run.
    pub seed: u64,
    /// The task whose classes [`Augmenter::rarity`] is about.
    pub task: usize,
    /// How rare each class of that task is, 0 to 1.
    pub rarity: Vec<f32>,
    /// Frame sizes `[H, W]` of which each batch takes one.
    pub sizes: Vec<[usize; 2]>,
}

/// Scales of multi-scale training.
const SCALES: [f64; 3] = [1.0, 0.875, 0.75];
/// Divisor of a multi-scale side: the product of the backbones' strides without max pooling.
const SIDE_STEP: usize = 16;

/// The three sizes of multi-scale training: 1, 7/8 and 3/4 of `[H, W]`, each side rounded down to
/// a multiple of 16 (at least 16).
pub fn multi_scale_sizes(size: [usize; 2]) -> Vec<[usize; 2]> {
    let side = |side: usize, scale: f64| {
        ((side as f64 * scale) as usize / SIDE_STEP * SIDE_STEP).max(SIDE_STEP)
    };
    SCALES.iter().map(|&scale| size.map(|s| side(s, scale))).collect()
}

impl Augmenter {
    /// Augments a training batch: `[N, 3, T, H, W]`. `step` is the batch's number in the run; it
    /// decides the batch's size.
    pub fn clips(
        &self,
        batch: &Batch,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<Tensor<5>, AugmentError> {
        self.clips_of(batch, 0..batch.clips(), epoch, step, device)
    }

    /// The same for some clips of a batch, numbered in the batch's order.
    pub fn clips_of(
        &self,
        batch: &Batch,
        range: Range<usize>,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<Tensor<5>, AugmentError> {
        let mut records = Vec::with_capacity(range.len());
        let owners = batch.view_counts.iter().enumerate();
        let owners = owners.flat_map(|(action, &count)| std::iter::repeat_n(action, count));
        let clips = owners.zip(&batch.views).skip(range.start).take(range.len());
        for (owner, &view) in clips {
            let class = batch.labels.get(self.task).and_then(|labels| labels[owner]);
            let rarity = class.and_then(|class| self.rarity.get(class)).copied().unwrap_or(0.0);
            let action = &batch.actions[owner];
            let (config, size) = (&self.config, batch.size);
            let turn = Turn { epoch, earlier: batch.earlier[owner] };
            records.push(plan_clip(config, self.seed, turn, action, view, size, rarity));
        }
        let size = self.size_of(step, batch);
        let frames = Frames::U8(batch.frames_of(range));
        let normalisation = Normalisation::default();
        let augment =
            if self.config.gpu_augmentation { augment::augment } else { augment::augment_on_host };
        augment(frames, batch.size, &records, size, &normalisation, device)
    }

    fn size_of(&self, step: usize, batch: &Batch) -> [usize; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(step as u64);
        let count = self.sizes.len();
        let [_, h, w] = batch.size;
        let choice = (rng.random::<f64>() * count as f64) as usize;
        self.sizes.get(choice.min(count.saturating_sub(1))).copied().unwrap_or([h, w])
    }
}
