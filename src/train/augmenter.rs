//! Batches of frames to the network's augmented input.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::augment::{
    self, AugmentConfig, AugmentError, Frames, Normalisation, Turn, plan_clip, rarity,
};
use crate::data::{Batch, Dataset};
use crate::schema::Schema;

/// How rare the classes of the imbalanced task are: what augmentation that knows of it goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rarity {
    task: usize,
    /// Of each class, 0 to 1.
    classes: Vec<f32>,
}

impl Rarity {
    /// By the class counts of a data set's split; `None` if the schema calls no task imbalanced.
    pub fn of(schema: &Schema, dataset: &Dataset) -> Option<Self> {
        let task = schema.imbalanced_task()?;
        let counts = dataset.class_counts(task, schema.tasks[task].classes.len());
        let largest = counts.iter().copied().max().unwrap_or(0);
        Some(Self { task, classes: counts.iter().map(|&count| rarity(count, largest)).collect() })
    }

    /// That of a batch's action, by its number there; 0 without a label.
    pub fn of_action(&self, batch: &Batch, action: usize) -> f32 {
        let class = batch.labels.get(self.task).and_then(|labels| labels[action]);
        class.and_then(|class| self.classes.get(class)).copied().unwrap_or(0.0)
    }
}

/// Augments training clips. The random choices depend on seed, turn, action and view alone, so
/// they are the same on every device and in a repeated run.
#[derive(Debug, Clone)]
pub struct Augmenter {
    /// The options.
    pub config: AugmentConfig,
    /// Seed of the run.
    pub seed: u64,
    /// How rare classes are, where the schema says of which task.
    pub rarity: Option<Rarity>,
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
            let rarity = self.rarity.as_ref().map_or(0.0, |rarity| rarity.of_action(batch, owner));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::ClipConfig;

    #[test]
    fn rarity_is_that_of_the_imbalanced_task_or_of_none() {
        let mut schema = Schema::mvfoul().unwrap();
        let window = ClipConfig::default().window(&schema).unwrap();
        let actions = ["a", "b", "c"].map(|action| (action.to_owned(), vec!["clip.mp4".into()]));
        let mut dataset = Dataset::of_clips(actions.to_vec(), window, [16, 16]);
        for (sample, label) in dataset.samples.iter_mut().zip([1, 1, 0]) {
            sample.labels = vec![None; schema.tasks.len()];
            sample.labels[0] = Some(label);
        }
        let batch =
            Batch { labels: vec![vec![Some(1), Some(0), None, Some(2)]], ..Batch::default() };
        let rarity = Rarity::of(&schema, &dataset).unwrap();
        let of = |action| rarity.of_action(&batch, action);
        assert_eq!([of(0), of(1), of(2), of(3)], [0.0, 0.5, 0.0, 1.0]);
        schema.tasks.iter_mut().for_each(|task| task.imbalanced = false);
        assert_eq!(Rarity::of(&schema, &dataset), None);
    }
}
