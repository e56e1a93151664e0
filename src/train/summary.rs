//! The start of a run in words.

use crate::augment::Strength;
use crate::config::Config;
use crate::data::Dataset;
use crate::device::Compute;
use crate::model::ModelConfig;
use crate::report::{RunSummary, SplitSummary};
use crate::schema::Schema;

/// What a run is about to do, and on what.
pub(super) fn summary(
    config: &Config,
    schema: &Schema,
    model: &ModelConfig,
    compute: &Compute,
    parameters: usize,
    train: &Dataset,
    valid: &Dataset,
) -> RunSummary {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let millions = parameters as f64 / 1e6;
    let pool = if model.attention { "attention" } else { "mean" };
    let settings = vec![
        pair("device", format!("{} ({})", compute.info.name, compute.info.id)),
        pair(
            "network",
            format!("{}, {pool} over views, {millions:.2} M parameters", model.backbone.name()),
        ),
        pair(
            "clip",
            format!(
                "{} frames of {}×{} from frames {} to {} at {} fps",
                config.frames_per_clip,
                config.img_height,
                config.img_width,
                config.start_frame,
                config.end_frame,
                config.target_fps
            ),
        ),
        pair(
            "training",
            format!(
                "{} epochs, {} actions a step, AdamW lr {} (cosine), weight decay {}, gradient norm \
                 ≤ {}, label smoothing {}, seed {}",
                config.epochs,
                config.batch_size,
                config.lr,
                config.weight_decay,
                config.gradient_clip_norm,
                config.label_smoothing,
                config.seed
            ),
        ),
        pair("augment", augmentation_words(config)),
        pair("files", config.save_dir.display().to_string()),
    ];
    let split = |dataset: &Dataset| SplitSummary {
        split: dataset.split.clone(),
        actions: dataset.samples.len(),
        views: dataset.views(),
        left_out: dataset.annotations.left_out.len(),
        classes: schema
            .tasks
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let counts = dataset.class_counts(index, task.classes.len());
                let names = task.classes.iter().map(|class| class.name.clone());
                (task.name.clone(), names.zip(counts).collect())
            })
            .collect(),
    };
    RunSummary { settings, splits: vec![split(train), split(valid)] }
}

fn augmentation_words(config: &Config) -> String {
    if config.augmentation_strength == Strength::None && !config.multi_scale {
        return "off".to_owned();
    }
    let mut words = format!(
        "{}: jitter ±{}, frame dropout {}, crop from {}, colour ±{}, noise {}",
        config.augmentation_strength,
        config.temporal_jitter_strength,
        config.dropout_prob,
        config.spatial_crop_strength,
        config.color_aug_strength,
        config.noise_strength
    );
    for (on, word) in [
        (config.severity_aware_augmentation, ", stronger for rarer classes"),
        (config.multi_scale, ", three sizes"),
        (!config.gpu_augmentation, ", on the host"),
    ] {
        if on {
            words.push_str(word);
        }
    }
    words
}
