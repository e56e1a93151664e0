//! What a run is made of, from its options.

use std::sync::Arc;

use super::{Augmenter, TrainError, multi_scale_sizes};
use crate::augment::rarity;
use crate::config::{Config, FreezingKind};
use crate::data::Dataset;
use crate::data::cache::FrameCache;
use crate::data::sampler::Sampler;
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet, StageSet};
use crate::schema::Schema;

/// Which actions each epoch visits.
pub(super) fn sampler(config: &Config, schema: &Schema, train: &Dataset) -> Sampler {
    let classes = |task: usize| (task, schema.tasks[task].classes.len());
    let tasks: Vec<_> = config.balanced_tasks(schema).into_iter().map(classes).collect();
    Sampler::new(train, config.sampling(), &tasks, config.batch_size, config.seed)
}

/// A split with the sizes that the options ask for.
pub(super) fn open_split(
    config: &Config,
    schema: &Schema,
    split: &str,
) -> Result<Dataset, TrainError> {
    Ok(Dataset::open(
        &config.dataset_root,
        split,
        schema,
        config.window(),
        [config.img_height, config.img_width],
        config.max_views,
    )?)
}

/// The folder of decoded frames. A run does without it where it cannot be had.
pub(super) fn cache(config: &Config) -> Option<Arc<FrameCache>> {
    let folder = config.cache_folder()?;
    match FrameCache::open(&folder, (config.cache_size * 1e9) as u64) {
        Ok(cache) => Some(Arc::new(cache)),
        Err(error) => {
            log::warn!("{error}: going on without, every clip is decoded in every epoch");
            None
        }
    }
}

/// Loads `--pretrained` weights, if given, and tells what did not fit.
pub(super) fn start_from_pretrained(
    config: &Config,
    model: &ModelConfig,
    net: &mut MultiViewNet,
) -> Result<(), TrainError> {
    let Some(path) = &config.pretrained else {
        return Ok(());
    };
    let report = load_pretrained(net, model, path)?;
    log::info!("{}: {} tensors loaded", path.display(), report.loaded);
    for (what, names) in [("missing", &report.missing), ("unexpected", &report.unexpected)] {
        if !names.is_empty() {
            log::warn!("{}: {what}: {}", path.display(), names.join(", "));
        }
    }
    Ok(())
}

/// What happens to training clips, with the class counts of the training split.
pub(super) fn augmenter(config: &Config, schema: &Schema, train: &Dataset) -> Augmenter {
    let task = schema.imbalanced_task().unwrap_or(0);
    let counts = train.class_counts(task, schema.tasks[task].classes.len());
    let largest = counts.iter().copied().max().unwrap_or(0);
    let size = [config.img_height, config.img_width];
    Augmenter {
        config: config.augmentation(),
        seed: config.seed,
        task,
        rarity: counts.iter().map(|&count| rarity(count, largest)).collect(),
        sizes: if config.multi_scale { multi_scale_sizes(size) } else { vec![size] },
        on_device: config.gpu_augmentation,
    }
}

/// The stages that train at the run's peak.
pub(super) fn most_trainable(config: &Config) -> StageSet {
    match config.freezing_strategy {
        FreezingKind::Fixed if config.gradual_finetuning => StageSet::last(config.unfreeze_blocks),
        _ => StageSet::ALL,
    }
}
