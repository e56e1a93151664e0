//! What a run is made of, from its options.

use super::{Augmenter, TrainError, multi_scale_sizes};
use crate::augment::rarity;
use crate::config::Config;
use crate::data::Dataset;
use crate::data::sampler::Sampler;
use crate::device::Compute;
use crate::model::pretrained::load_pretrained;
use crate::model::{ModelConfig, MultiViewNet};
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

/// Refuses a batch whose widest activation no buffer of the device can hold.
pub(super) fn check_fit(
    config: &Config,
    compute: &Compute,
    max_views: usize,
) -> Result<(), TrainError> {
    let Some(limit) = compute.info.max_binding_bytes else {
        return Ok(());
    };
    let size = [config.frames_per_clip, config.img_height, config.img_width];
    let clips = config.batch_size * max_views;
    let need = config.backbone_name.widest_activation(size) as u64 * clips as u64 * 4;
    if need <= limit {
        return Ok(());
    }
    if config.force_batch_size {
        log::warn!(
            "{clips} clips need a buffer of {} MB, the device allows {}: tried all the same \
             (--force-batch-size)",
            need >> 20,
            limit >> 20
        );
        return Ok(());
    }
    Err(TrainError::TooLarge {
        batch_size: config.batch_size,
        clips,
        size: size.map(|side| side.to_string()).join("×"),
        need: need >> 20,
        limit: limit >> 20,
        device: compute.info.name.clone(),
    })
}
