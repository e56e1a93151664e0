//! Turns batches of frames into the network's augmented input.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::augment::{
    self, AugmentConfig, AugmentError, Frames, Normalisation, Turn, plan_clip, rarity,
};
use crate::data::{Batch, Dataset};
use crate::schema::Schema;

/// How rare the classes of the imbalanced task are, for severity-aware augmentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rarity {
    task: usize,
    /// Rarity of each class, 0 to 1.
    classes: Vec<f32>,
}

impl Rarity {
    /// Computes the rarity of classes from their counts in a split; `None` if the schema marks no task
    /// as imbalanced.
    pub fn of(schema: &Schema, dataset: &Dataset) -> Option<Self> {
        let task = schema.imbalanced_task()?;
        let counts = dataset.class_counts(task, schema.tasks[task].classes.len());
        let largest = counts.iter().copied().max().unwrap_or(0);
        Some(Self { task, classes: counts.iter().map(|&count| rarity(count, largest)).collect() })
    }

    /// Returns the rarity of an action's class, given the action's index in the batch; 0 without a
    /// label.
    pub fn of_action(&self, batch: &Batch, action: usize) -> f32 {
        // In a split without labels, no task has any.
        let class = batch.labels.get(self.task).and_then(|labels| labels[action]);
        class.map_or(0.0, |class| self.classes[class])
    }
}

/// Augments training clips. The random choices depend only on seed, turn, action and view, so they
/// are the same on every device and in a repeated run.
#[derive(Debug, Clone)]
pub struct Augmenter {
    /// Augmentation options.
    pub config: AugmentConfig,
    /// Seed of the run.
    pub seed: u64,
    /// Rarity of classes, if the schema marks a task as imbalanced.
    pub rarity: Option<Rarity>,
    /// Frame sizes `[H, W]`, at least one, of which one is drawn for each batch.
    pub sizes: Vec<[usize; 2]>,
}

/// Scales of multi-scale training.
const SCALES: [f64; 3] = [1.0, 0.875, 0.75];
/// Multiple to which multi-scale sides are rounded: the product of the backbones' strides without max
/// pooling.
const SIDE_STEP: usize = 16;

/// Returns the three sizes of multi-scale training: 1, 7/8 and 3/4 of `[H, W]`, each side rounded down
/// to a multiple of 16 (at least 16).
pub fn multi_scale_sizes(size: [usize; 2]) -> Vec<[usize; 2]> {
    let side = |side: usize, scale: f64| {
        ((side as f64 * scale) as usize / SIDE_STEP * SIDE_STEP).max(SIDE_STEP)
    };
    SCALES.iter().map(|&scale| size.map(|s| side(s, scale))).collect()
}

impl Augmenter {
    /// Augments a training batch and returns its clips `[N, 3, T, H, W]`. `step` is the batch's number
    /// in the run, which determines its frame size.
    pub fn clips(
        &self,
        batch: &Batch,
        epoch: usize,
        step: usize,
        device: &Device,
    ) -> Result<Tensor<5>, AugmentError> {
        self.clips_of(batch, 0..batch.clips(), epoch, step, device)
    }

    /// Like [`Augmenter::clips`], for a range of the batch's clips.
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
        let size = self.size_of(step);
        let frames = Frames::U8(batch.frames_of(range));
        let normalisation = Normalisation::default();
        let augment =
            if self.config.gpu_augmentation { augment::augment } else { augment::augment_on_host };
        augment(frames, batch.size, &records, size, &normalisation, device)
    }

    fn size_of(&self, step: usize) -> [usize; 2] {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(step as u64);
        let choice = (rng.random::<f64>() * self.sizes.len() as f64) as usize;
        // A number just below 1 may be rounded up.
        self.sizes[choice.min(self.sizes.len() - 1)]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::ClipConfig;

    #[test]
    fn rarity_is_only_defined_for_an_imbalanced_task() {
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
