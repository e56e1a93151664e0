//! Rules that involve several options. Each error names the options and what to do; the range of a
//! single option is declared at its field.

use super::balance::ALTERNATE;
use super::{AUTO, Auto, Config, ConfigError, FreezingKind, OptionError};
use crate::device;
use crate::schema::Schema;
use crate::units::plural;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.data.dataset_root.as_os_str().is_empty() {
        let reason = match config.run.resume {
            Some(_) => {
                "the folder of the data set; --config RUN/config.toml has it and a run's other options"
            }
            None => "the folder of the data set",
        };
        return Err(ConfigError::Required { option: "dataset-root", reason });
    }
    // Checked here, because a run reads its data before it opens the device.
    if let Some((name, reason)) = device::unknown_name(&config.compute.device) {
        return Err(refuse("device", name, reason));
    }
    if let Some(task) = named_twice(&config.data.tasks) {
        let reason = format!("{task} is named twice: leave one of the two out");
        return Err(refuse("tasks", config.data.tasks.join(" "), reason));
    }
    window_and_weights(config)?;
    schedules(config)?;
    balancing(config)?;
    freezing(config)?;
    if config.network.annotation_inputs && config.loss.auxiliary_task_weight > 0.0 {
        return Err(refuse(
            "annotation-inputs",
            "with --auxiliary-task-weight above 0",
            "the heads would predict their own inputs: leave one of the two out",
        ));
    }
    resuming(config)?;
    if config.run.record.is_some() && (config.run.test_run || config.run.compare_freezing) {
        let (other, reason) = match config.run.test_run {
            true => ("--test-run", "it writes no files: leave one of the two out"),
            false => ("--compare-freezing", "it records a single run: leave one of the two out"),
        };
        return Err(refuse("record", format!("with {other}"), reason));
    }
    if config.compute.force_batch_size && config.compute.micro_batch != Auto::Auto {
        let reason = "one runs a batch whole, the other in pieces: leave one of the two out";
        return Err(refuse("force-batch-size", "with --micro-batch", reason));
    }
    if config.run.compare_freezing
        && !config.freezing.gradual_finetuning
        && matches!(config.freezing.freezing_strategy, FreezingKind::Fixed | FreezingKind::None)
    {
        return Err(refuse(
            "compare-freezing",
            "with --no-gradual-finetuning",
            "nothing would be frozen, so both runs would be the same: leave one of the two out, or \
             give --freezing-strategy adaptive, progressive or gradient_guided",
        ));
    }
    if config.run.compare_freezing && config.run.test_run {
        return Err(refuse(
            "compare-freezing",
            "with --test-run",
            "a single epoch gives nothing to compare: leave one of the two out",
        ));
    }
    Ok(())
}

/// Returns the first name that occurs again later.
fn named_twice(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(at, name)| names[at + 1..].contains(name)).map(|(_, name)| name)
}

fn resuming(config: &Config) -> Result<(), ConfigError> {
    let run = &config.run;
    if run.resume.is_some() && run.test_run {
        let reason = "there is nothing to resume there: leave one of the two out";
        return Err(refuse("resume", "with --test-run", reason));
    }
    if run.compare_freezing
        && let Some(from) = run.resume.as_ref().filter(|from| from.as_os_str() != AUTO)
    {
        let reason =
            "a checkpoint is of one of the two runs: give --resume auto, which continues both";
        let with = format!("{} with --compare-freezing", from.display());
        return Err(refuse("resume", with, reason));
    }
    if run.resume_best_acc.is_some() && run.resume.is_none() {
        let reason = "it needs --resume";
        return Err(refuse("resume-best-acc", "without --resume", reason));
    }
    if run.resume_best_acc.is_some() && run.compare_freezing {
        let reason = "it is the score of a single run: leave one of the two out";
        return Err(refuse("resume-best-acc", "with --compare-freezing", reason));
    }
    Ok(())
}

fn window_and_weights(c: &Config) -> Result<(), ConfigError> {
    if c.mixing.mixes() && c.optimizer.batch_size == 1 {
        let option = if c.mixing.mixup.is_some() { "mixup" } else { "cutmix" };
        let reason = "there is no other action to mix with: use a larger batch";
        return Err(refuse(option, "with --batch-size 1", reason));
    }
    c.clips.window.check()?;
    let weights = &c.loss.main_task_weights;
    if !weights.is_empty() && weights.iter().all(|weight| *weight == 0.0) {
        return Err(refuse("main-task-weights", 0, "at least one must be above 0"));
    }
    Ok(())
}

fn schedules(c: &Config) -> Result<(), ConfigError> {
    if !c.schedule.lr_warmup {
        return Ok(());
    }
    if c.schedule.scheduler.has_own_warm_up() && !c.freezing.gradual_finetuning {
        return Err(refuse(
            "lr-warmup",
            format!("with --scheduler {}", c.schedule.scheduler),
            format!("{} has its own warm-up: leave --lr-warmup out", c.schedule.scheduler),
        ));
    }
    let (first, name) = if c.freezing.gradual_finetuning {
        (c.freezing.phase1_epochs, "--phase1-epochs")
    } else {
        (c.schedule.epochs, "--epochs")
    };
    if c.schedule.warmup_epochs >= first && !c.run.test_run {
        return Err(refuse(
            "warmup-epochs",
            c.schedule.warmup_epochs,
            format!("must be below {name} ({first}), or the full rate is never reached"),
        ));
    }
    Ok(())
}

fn balancing(c: &Config) -> Result<(), ConfigError> {
    if c.balance.progressive_class_balancing {
        if !c.balance.use_class_balanced_sampler {
            return Err(refuse(
                "progressive-class-balancing",
                "with --no-use-class-balanced-sampler",
                "it is a mode of that sampler: leave one of the two out",
            ));
        }
        if c.balance.progressive_end_factor < c.balance.progressive_start_factor {
            return Err(refuse(
                "progressive-end-factor",
                c.balance.progressive_end_factor,
                format!(
                    "must not be below --progressive-start-factor ({})",
                    c.balance.progressive_start_factor
                ),
            ));
        }
    }
    if c.balance.balance_task.is_some() && !c.balance.use_class_balanced_sampler {
        return Err(refuse(
            "balance-task",
            "with --no-use-class-balanced-sampler",
            "nothing is balanced then: leave one of the two out",
        ));
    }
    Ok(())
}

fn freezing(c: &Config) -> Result<(), ConfigError> {
    if let Some(decay) = c.freezing.layer_decay
        && (c.freezing.discriminative_lr || c.freezing.exponential_lr_decay)
    {
        let other =
            if c.freezing.discriminative_lr { "discriminative-lr" } else { "exponential-lr-decay" };
        let reason =
            format!("--{other} sets the rates of deeper stages as well: leave one of the two out");
        return Err(refuse("layer-decay", decay, reason));
    }
    if c.freezing.discriminative_lr && c.freezing.exponential_lr_decay {
        return Err(refuse(
            "discriminative-lr",
            "with --exponential-lr-decay",
            "both set the rates of deeper stages (divided by 2.6, by 2): leave one of the two out",
        ));
    }
    if c.freezing.gradual_finetuning && c.freezing.freezing_strategy == FreezingKind::None {
        return Err(refuse(
            "freezing-strategy",
            "none with gradual fine-tuning",
            "its first phase freezes the backbone: add --no-gradual-finetuning",
        ));
    }
    Ok(())
}

/// Returns warnings about combinations that are valid but unlikely to be intended.
pub(super) fn warnings(c: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Auto::Number(patience) = c.schedule.early_stopping_patience
        && c.freezing.gradual_finetuning
        && (1..=c.freezing.phase1_epochs).contains(&patience)
    {
        warnings.push(format!(
            "--early-stopping-patience {patience} may end the run before phase 2 (after {})",
            plural(c.freezing.phase1_epochs, "epoch")
        ));
    }
    warnings
}

/// Checks the rules that need the schema.
pub(super) fn check_schema(c: &Config, schema: &Schema) -> Result<(), ConfigError> {
    c.clips.window(schema)?;
    let names: Vec<&str> = schema.tasks.iter().map(|task| task.name.as_str()).collect();
    let given = c.loss.main_task_weights.len();
    if given != 0 && given != names.len() {
        let given: Vec<String> = c.loss.main_task_weights.iter().map(f64::to_string).collect();
        let reason = format!("one number per task is needed: {}", names.join(", "));
        return Err(refuse("main-task-weights", given.join(" "), reason));
    }
    if let Some(task) = &c.balance.balance_task
        && task != ALTERNATE
        && !names.contains(&task.as_str())
    {
        let reason = format!("unknown task; known tasks: {}, {ALTERNATE}", names.join(", "));
        return Err(refuse("balance-task", task, reason));
    }
    if c.network.annotation_inputs && !schema.properties.iter().any(|p| p.input) {
        let reason = "the schema has no property with `input = true`";
        return Err(refuse("annotation-inputs", "", reason));
    }
    if c.loss.auxiliary_task_weight > 0.0 && !schema.properties.iter().any(|p| p.auxiliary) {
        let reason = "the schema has no property with `auxiliary = true`";
        return Err(refuse("auxiliary-task-weight", c.loss.auxiliary_task_weight, reason));
    }
    Ok(())
}

fn refuse(option: &str, value: impl ToString, reason: impl Into<String>) -> ConfigError {
    OptionError::new(option, value, reason).into()
}
