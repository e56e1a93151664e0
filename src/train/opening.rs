//! What a run is made of, from its options.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Augmenter, TrainError, multi_scale_sizes};
use crate::augment::rarity;
use crate::config::{Config, FreezingKind};
use crate::data::Dataset;
use crate::data::cache::FrameCache;
use crate::data::sampler::Sampler;
use crate::device::Compute;
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet, StageSet};
use crate::report::{Event, Observer};
use crate::schema::Schema;
use crate::tuning;

/// Which actions each epoch visits.
pub(super) fn sampler(config: &Config, schema: &Schema, train: &Dataset) -> Sampler {
    let classes = |task: usize| (task, schema.tasks[task].classes.len());
    let tasks: Vec<_> = config.balance.balanced_tasks(schema).into_iter().map(classes).collect();
    Sampler::new(
        train,
        config.balance.sampling(),
        &tasks,
        config.optimizer.batch_size,
        config.run.seed,
    )
}

/// A split with the sizes that the options ask for.
pub(super) fn open_split(
    config: &Config,
    schema: &Schema,
    split: &str,
) -> Result<Dataset, TrainError> {
    Ok(Dataset::open(
        &config.data.dataset_root,
        split,
        schema,
        config.clips.window(),
        [config.clips.img_height, config.clips.img_width],
        config.clips.max_views,
    )?)
}

/// The folder of decoded frames. A run does without it where it cannot be had.
pub(super) fn cache(config: &Config) -> Option<Arc<FrameCache>> {
    let folder = config.cache_folder()?;
    match FrameCache::open(&folder, (config.data.cache_size * 1e9) as u64) {
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
    let Some(path) = &config.network.pretrained else {
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
    Augmenter {
        config: config.augment.clone(),
        seed: config.run.seed,
        task,
        rarity: counts.iter().map(|&count| rarity(count, largest)).collect(),
        sizes: sizes(config),
        on_device: config.augment.gpu_augmentation,
    }
}

/// Heights and widths that batches may have.
fn sizes(config: &Config) -> Vec<[usize; 2]> {
    let size = [config.clips.img_height, config.clips.img_width];
    if config.clips.multi_scale { multi_scale_sizes(size) } else { vec![size] }
}

/// Takes the fastest kernels for steps of up to `clips` clips, if the run is to be tuned.
pub(super) fn tune(
    config: &Config,
    compute: &Compute,
    net: &MultiViewNet,
    clips: usize,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    if !config.compute.tune {
        return Ok(());
    }
    let mut jobs = Vec::new();
    for [height, width] in sizes(config) {
        let clips = [clips, 3, config.clips.frames_per_clip, height, width];
        // Sizes too small for the network were refused before.
        jobs.extend(
            tuning::jobs(&net.backbone, clips, most_trainable(config)).into_iter().flatten(),
        );
    }
    let (mut done, of) = (0, jobs.len());
    let tuned = tuning::tune(compute, &jobs, tuning::folder().as_deref(), || {
        done += 1;
        observer.observe(&Event::Tuned { done, of });
        !stop.load(Ordering::Relaxed)
    })?;
    match tuned {
        Some(tuned) => log::info!("--tune: {tuned}"),
        None => log::info!("--tune: on {} there are no kernels to choose from", compute.info.name),
    }
    Ok(())
}

/// The stages that train at the run's peak.
pub(super) fn most_trainable(config: &Config) -> StageSet {
    match config.freezing.freezing_strategy {
        FreezingKind::Fixed if config.freezing.gradual_finetuning => {
            StageSet::last(config.freezing.unfreeze_blocks)
        }
        _ => StageSet::ALL,
    }
}
