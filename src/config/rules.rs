//! What a configuration must not be. Each rule names the options and the way out.

use std::path::PathBuf;

use super::{ALTERNATE, Auto, CacheChoice, Config, ConfigError, FreezingKind, SchedulerKind};
use crate::schema::Schema;

/// Smallest frame side: four halvings must leave a pixel.
const MIN_SIDE: usize = 16;
/// Largest frame side, and longest clip: beyond these a number is a typing error.
const MAX_SIDE: usize = 4096;
const MAX_FRAMES: usize = 512;
/// The stages of every backbone.
const STAGES: usize = crate::model::STAGES.len();

/// Each option by itself, then the options together.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.dataset_root.as_os_str().is_empty() {
        return Err(ConfigError::Required {
            option: "dataset-root",
            reason: "the folder that holds mvfouls/train and mvfouls/valid",
        });
    }
    ranges(config)?;
    config.augmentation().validate()?;
    schedules(config)?;
    balancing(config)?;
    freezing(config)?;
    if config.annotation_inputs && config.auxiliary_task_weight > 0.0 {
        return Err(value(
            "annotation-inputs",
            "with --auxiliary-task-weight above 0",
            "the heads would predict what they are told: leave one of the two out",
        ));
    }
    if config.resume.is_some() && (config.test_run || config.compare_freezing) {
        let other = if config.test_run { "--test-run" } else { "--compare-freezing" };
        let reason = "nothing can be gone on with there: leave one of the two out";
        return Err(value("resume", format!("with {other}"), reason));
    }
    if config.force_batch_size && config.micro_batch != Auto::Auto {
        let reason = "the one takes a batch in one piece, the other in several: leave one out";
        return Err(value("force-batch-size", "with --micro-batch", reason));
    }
    if config.resume_best_acc.is_some() && config.resume.is_none() {
        let reason = "it needs --resume";
        return Err(value("resume-best-acc", "without --resume", reason));
    }
    if config.compare_freezing && config.test_run {
        return Err(value(
            "compare-freezing",
            "with --test-run",
            "one epoch compares nothing: leave one of the two out",
        ));
    }
    Ok(())
}

fn ranges(c: &Config) -> Result<(), ConfigError> {
    at_least("epochs", c.epochs, 1)?;
    at_least("batch-size", c.batch_size, 1)?;
    if let Auto::Number(clips) = c.micro_batch {
        at_least("micro-batch", clips, 1)?;
    }
    within("num-workers", c.num_workers, 0, 256)?;
    within("prefetch", c.prefetch, 1, 1024)?;
    at_least("loader-memory", usize::try_from(c.loader_memory).unwrap_or(usize::MAX), 1)?;
    positive("cache-size", c.cache_size)?;
    if c.cache == CacheChoice::Folder(PathBuf::new()) {
        return Err(value("cache", "\"\"", "name a folder, or auto or off"));
    }
    within("frames-per-clip", c.frames_per_clip, 1, MAX_FRAMES)?;
    within("img-height", c.img_height, MIN_SIDE, MAX_SIDE)?;
    within("img-width", c.img_width, MIN_SIDE, MAX_SIDE)?;
    if let Some(views) = c.max_views {
        at_least("max-views", views, 1)?;
    }
    if c.end_frame < c.start_frame {
        return Err(value("end-frame", c.end_frame, "must not lie before --start-frame"));
    }
    positive("lr", c.lr)?;
    positive("target-fps", c.target_fps)?;
    not_negative("weight-decay", c.weight_decay)?;
    not_negative("gradient-clip-norm", c.gradient_clip_norm)?;
    below_one("label-smoothing", c.label_smoothing)?;
    below_one("momentum", c.momentum)?;
    if let Some(rate) = c.dropout_rate {
        below_one("dropout-rate", rate)?;
    }
    for (option, given) in [
        ("warmup-epochs", c.warmup_epochs),
        ("step-size", c.step_size),
        ("progressive-epochs", c.progressive_epochs),
        ("adaptive-patience", c.adaptive_patience),
        ("phase1-epochs", c.phase1_epochs),
        ("phase2-epochs", c.phase2_epochs),
        ("test-batches", c.test_batches),
    ] {
        at_least(option, given, 1)?;
    }
    for (option, given) in [
        ("head-lr", c.head_lr),
        ("backbone-lr", c.backbone_lr),
        ("phase2-backbone-lr-scale-factor", c.phase2_backbone_lr_scale_factor),
        ("phase2-head-lr-ratio", c.phase2_head_lr_ratio),
    ] {
        positive(option, given)?;
    }
    not_negative("checkpoint-minutes", c.checkpoint_minutes)?;
    if let Some(score) = c.resume_best_acc
        && !(0.0..=1.0).contains(&score)
    {
        return Err(value("resume-best-acc", score, "is a score, 0 to 1"));
    }
    not_negative("min-lr", c.min_lr)?;
    not_negative("focal-gamma", c.focal_gamma)?;
    not_negative("auxiliary-task-weight", c.auxiliary_task_weight)?;
    not_negative("adaptive-min-improvement", c.adaptive_min_improvement)?;
    within("unfreeze-blocks", c.unfreeze_blocks, 1, STAGES)?;
    for (option, given) in [("gamma", c.gamma), ("phase1-plateau-factor", c.phase1_plateau_factor)]
    {
        if !(given > 0.0 && given < 1.0) {
            return Err(value(option, given, "must lie between 0 and 1, both excluded"));
        }
    }
    for (option, given) in [
        ("max-weight-ratio", c.max_weight_ratio),
        ("oversample-factor", c.oversample_factor),
        ("progressive-start-factor", c.progressive_start_factor),
        ("progressive-end-factor", c.progressive_end_factor),
    ] {
        if !(given.is_finite() && given >= 1.0) {
            return Err(value(option, given, "must be a number of at least 1"));
        }
    }
    for weight in &c.main_task_weights {
        not_negative("main-task-weights", *weight)?;
    }
    if !c.main_task_weights.is_empty() && c.main_task_weights.iter().all(|w| *w == 0.0) {
        return Err(value("main-task-weights", 0, "at least one must be above 0"));
    }
    Ok(())
}

fn schedules(c: &Config) -> Result<(), ConfigError> {
    if !c.lr_warmup {
        return Ok(());
    }
    if c.scheduler == SchedulerKind::OneCycle && !c.gradual_finetuning {
        return Err(value(
            "lr-warmup",
            "with --scheduler onecycle",
            "onecycle warms up by itself: leave --lr-warmup out",
        ));
    }
    let (first, name) = if c.gradual_finetuning {
        (c.phase1_epochs, "--phase1-epochs")
    } else {
        (c.epochs, "--epochs")
    };
    if c.warmup_epochs >= first && !c.test_run {
        return Err(value(
            "warmup-epochs",
            c.warmup_epochs,
            format!("must be below {name} ({first}), or the full rate is never reached"),
        ));
    }
    Ok(())
}

fn balancing(c: &Config) -> Result<(), ConfigError> {
    if c.progressive_class_balancing {
        if !c.use_class_balanced_sampler {
            return Err(value(
                "progressive-class-balancing",
                "with --no-use-class-balanced-sampler",
                "it is a way of that sampler: leave one of the two out",
            ));
        }
        if c.progressive_end_factor < c.progressive_start_factor {
            return Err(value(
                "progressive-end-factor",
                c.progressive_end_factor,
                format!(
                    "must not lie below --progressive-start-factor ({})",
                    c.progressive_start_factor
                ),
            ));
        }
    }
    if c.balance_task.is_some() && !c.use_class_balanced_sampler {
        return Err(value(
            "balance-task",
            "with --no-use-class-balanced-sampler",
            "nothing is balanced then: leave one of the two out",
        ));
    }
    Ok(())
}

fn freezing(c: &Config) -> Result<(), ConfigError> {
    if c.discriminative_lr && c.exponential_lr_decay {
        return Err(value(
            "discriminative-lr",
            "with --exponential-lr-decay",
            "both say how a deeper stage's rate falls (by 2.6, by 2): leave one of the two out",
        ));
    }
    if c.gradual_finetuning && c.freezing_strategy == FreezingKind::None {
        return Err(value(
            "freezing-strategy",
            "none with gradual fine-tuning",
            "its first phase freezes the backbone: add --no-gradual-finetuning",
        ));
    }
    if let Auto::Number(patience) = c.early_stopping_patience
        && c.gradual_finetuning
        && (1..=c.phase1_epochs).contains(&patience)
    {
        log::warn!(
            "--early-stopping-patience {patience} may end the run before phase 2 (after {} epochs)",
            c.phase1_epochs
        );
    }
    Ok(())
}

/// The rules that need the schema.
pub(super) fn check_schema(c: &Config, schema: &Schema) -> Result<(), ConfigError> {
    let names: Vec<&str> = schema.tasks.iter().map(|task| task.name.as_str()).collect();
    let given = c.main_task_weights.len();
    if given != 0 && given != names.len() {
        let words: Vec<String> = c.main_task_weights.iter().map(f64::to_string).collect();
        let reason = format!("one number per task is needed: {}", names.join(", "));
        return Err(value("main-task-weights", words.join(" "), reason));
    }
    if let Some(task) = &c.balance_task
        && task != ALTERNATE
        && !names.contains(&task.as_str())
    {
        let reason = format!("unknown task; known are {}, {ALTERNATE}", names.join(", "));
        return Err(value("balance-task", task, reason));
    }
    if c.annotation_inputs && !schema.properties.iter().any(|p| p.input) {
        let reason = "the schema has no property with `input = true`";
        return Err(value("annotation-inputs", "", reason));
    }
    if c.auxiliary_task_weight > 0.0 && !schema.properties.iter().any(|p| p.auxiliary) {
        let reason = "the schema has no property with `auxiliary = true`";
        return Err(value("auxiliary-task-weight", c.auxiliary_task_weight, reason));
    }
    Ok(())
}

pub(super) fn value(
    option: &'static str,
    value: impl ToString,
    reason: impl Into<String>,
) -> ConfigError {
    ConfigError::Value { option, value: value.to_string(), reason: reason.into() }
}

fn at_least(option: &'static str, given: usize, least: usize) -> Result<(), ConfigError> {
    if given < least {
        return Err(value(option, given, format!("must be at least {least}")));
    }
    Ok(())
}

fn within(
    option: &'static str,
    given: usize,
    least: usize,
    most: usize,
) -> Result<(), ConfigError> {
    if !(least..=most).contains(&given) {
        return Err(value(option, given, format!("must lie between {least} and {most}")));
    }
    Ok(())
}

fn positive(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(given.is_finite() && given > 0.0) {
        return Err(value(option, given, "must be a number above 0"));
    }
    Ok(())
}

fn not_negative(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(given.is_finite() && given >= 0.0) {
        return Err(value(option, given, "must be 0 (off) or a number above it"));
    }
    Ok(())
}

fn below_one(option: &'static str, given: f64) -> Result<(), ConfigError> {
    if !(0.0..1.0).contains(&given) {
        return Err(value(option, given, "must be at least 0 and below 1"));
    }
    Ok(())
}
