//! The description of a run that is reported at its start.

use super::objective::task_weights;
use super::schedule::CYCLE_MOMENTUM;
use crate::augment::Strength;
use crate::config::advice::{advice, label_advice, schema_advice};
use crate::config::{Config, FreezingKind, OptimizerKind, WeightingStrategy};
use crate::data::balance::{Sampling, draws};
use crate::data::sampling::WindowSpec;
use crate::data::{Dataset, Window};
use crate::model::ModelConfig;
use crate::report::{BalanceSummary, RunSummary, SplitSummary};
use crate::schema::Schema;
use crate::units::plural;

/// The parts of an opened run that its description is built from.
pub(super) struct Opened<'a> {
    pub schema: &'a Schema,
    pub window: &'a WindowSpec,
    pub model: &'a ModelConfig,
    /// Description of each device.
    pub devices: &'a [String],
    /// Description of the lanes, if there are several.
    pub lanes: Option<String>,
    pub parameters: usize,
    /// Description of how activations are stored.
    pub precision: String,
    /// Description of the matrix units used in half precision.
    pub units: Option<String>,
    /// Description of a step's memory plan.
    pub memory: String,
    pub train: &'a Dataset,
    pub valid: &'a Dataset,
}

/// Describes the settings and data of a run.
pub(super) fn summary(config: &Config, opened: &Opened) -> RunSummary {
    let &Opened { schema, model, parameters, train, valid, .. } = opened;
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let millions = parameters as f64 / 1e6;
    let pool = if model.attention { "attention" } else { "mean" };
    let mut settings: Vec<_> =
        opened.devices.iter().map(|line| pair("device", line.clone())).collect();
    settings.extend(opened.lanes.iter().map(|lanes| pair("lanes", lanes.clone())));
    settings.extend([
        pair(
            "network",
            format!("{}, {pool} over views, {millions:.2} M parameters", model.backbone.name()),
        ),
        pair(
            "clip",
            format!(
                "{} of {}×{} {}",
                plural(config.clips.frames_per_clip, "frame"),
                config.clips.img_height,
                config.clips.img_width,
                describe_window(opened.window)
            ),
        ),
        pair("data", describe_data(config, opened.window.window)),
        pair("precision", describe_precision(opened)),
        pair("memory", opened.memory.clone()),
        pair("training", describe_training(config)),
        pair("loss", describe_loss(config, schema)),
        pair("balance", describe_balance(config, schema)),
        pair("freezing", describe_freezing(config)),
        pair("augment", describe_augmentation(config)),
        pair("files", config.run.save_dir.display().to_string()),
    ]);
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
    let counts = schema
        .imbalanced_task()
        .map_or_else(Vec::new, |t| train.class_counts(t, schema.tasks[t].classes.len()));
    let splits = [split(train), split(valid)];
    let [train_lacks, valid_lacks] = splits.each_ref().map(unlabelled);
    let of_labels = label_advice((&train.split, &train_lacks), (&valid.split, &valid_lacks));
    RunSummary {
        settings,
        advice: [
            of_labels,
            schema_advice(config, schema),
            advice(config, train.samples.len(), &counts),
        ]
        .concat(),
        splits: splits.into(),
        balance: balance(config, schema, train),
    }
}

/// Returns the names of the tasks for which no action of a split has a label.
fn unlabelled(split: &SplitSummary) -> Vec<&str> {
    let empty = split.classes.iter().filter(|(_, classes)| classes.iter().all(|(_, n)| *n == 0));
    empty.map(|(task, _)| task.as_str()).collect()
}

fn describe_precision(opened: &Opened) -> String {
    let Opened { precision, units, .. } = opened;
    units.as_ref().map_or_else(|| precision.clone(), |units| format!("{precision}; {units}"))
}

fn describe_window(spec: &WindowSpec) -> String {
    let at = format!("at {} fps", spec.target_fps);
    match spec.window {
        Window::Frames { start, end } => format!("from frames {start} to {end} {at}"),
        Window::Seconds { start, end } => format!("from {start} s to {end} s {at}"),
        Window::Center => format!("from the middle of the clip {at}"),
        Window::Dense => format!("from anywhere in the clip {at}, for validation from its middle"),
        Window::Segments => {
            "from as many equal parts of the clip, for validation from the middle of each"
                .to_owned()
        }
        Window::Whole => "at even distances over the whole clip".to_owned(),
    }
}

fn describe_data(c: &Config, window: Window) -> String {
    let ahead = match c.data.num_workers {
        0 => "decoded in the training thread".to_owned(),
        workers => {
            let threads = plural(workers, "decoding thread");
            let (batches, size) = (c.data.prefetch, c.data.loader_memory);
            format!("{threads}, up to {batches} batches or {size} MB ahead")
        }
    };
    let Some(folder) = c.cache_folder() else {
        return format!("{ahead}; decoded frames not cached");
    };
    let what = if window.varies() { "frames for validation" } else { "frames" };
    let (folder, size) = (folder.display(), c.data.cache_size);
    let why =
        if window.varies() { ", not those for training, which change each epoch" } else { "" };
    format!("{ahead}; decoded {what} cached in {folder}, up to {size} GB{why}")
}

fn describe_momentum(c: &Config) -> String {
    let own = c.optimizer.momentum.to_string();
    let [high, low] = CYCLE_MOMENTUM;
    match (c.schedule.scheduler.sets_momentum(), c.freezing.gradual_finetuning) {
        (true, true) => format!("{own}, then {low} to {high}"),
        (true, false) => format!("{low} to {high}"),
        (false, _) => own,
    }
}

fn describe_training(c: &Config) -> String {
    let rule = match c.optimizer.optimizer {
        OptimizerKind::AdamW => "AdamW".to_owned(),
        OptimizerKind::Adam => "Adam".to_owned(),
        OptimizerKind::Sgd => format!("SGD, momentum {}", describe_momentum(c)),
    };
    let rate = if c.freezing.gradual_finetuning {
        let backbone = c.freezing.backbone_lr * c.freezing.phase2_backbone_lr_scale_factor;
        format!(
            "lr heads {}, then heads {} and backbone {backbone} ({})",
            c.freezing.head_lr,
            backbone * c.freezing.phase2_head_lr_ratio,
            c.schedule.scheduler
        )
    } else {
        format!("lr {} ({})", c.schedule.lr, c.schedule.scheduler)
    };
    let warm_up = if c.schedule.lr_warmup {
        format!(", warm-up over {}", plural(c.schedule.warmup_epochs, "epoch"))
    } else {
        String::new()
    };
    let epochs = plural(c.total_epochs(), "epoch");
    let patience = match c.patience() {
        0 => "no early stopping".to_owned(),
        epochs => format!("stops after {} without a better score", plural(epochs, "epoch")),
    };
    let clipping = match c.optimizer.gradient_clip_norm {
        0.0 => "gradients not clipped".to_owned(),
        norm => format!("gradient norm ≤ {norm}"),
    };
    let average = c.optimizer.ema.map_or(String::new(), |d| format!(", weight average {d}"));
    format!(
        "{epochs} ({patience}), {} per step, {rule} {rate}{warm_up}, weight decay {}, \
         {clipping}{average}, seed {}",
        plural(c.optimizer.batch_size, "action"),
        c.optimizer.weight_decay,
        c.run.seed
    )
}

fn describe_loss(c: &Config, schema: &Schema) -> String {
    let mut text = c.loss.loss_function.to_string();
    if c.loss.loss_function.uses_gamma() {
        text.push_str(&format!(", γ {}", c.loss.focal_gamma));
    }
    text.push_str(&format!(", label smoothing {}", c.loss.label_smoothing));
    if !c.loss.main_task_weights.is_empty() {
        // Named, because the order is the schema's and not that of --tasks.
        let names = schema.tasks.iter().map(|task| &task.name);
        let weights: Vec<String> = names
            .zip(&c.loss.main_task_weights)
            .map(|(name, weight)| format!("{name} {weight}"))
            .collect();
        text.push_str(&format!(", task weights ({})", weights.join(", ")));
    }
    if c.loss.auxiliary_task_weight > 0.0 {
        text.push_str(&format!(", annotated properties {}", c.loss.auxiliary_task_weight));
    }
    text
}

fn describe_balance(c: &Config, schema: &Schema) -> String {
    let weights = match c.balance.class_weighting_strategy {
        // Only the imbalanced task has class weights.
        _ if schema.imbalanced_task().is_none() => "no class weights".to_owned(),
        _ if !c.loss.loss_function.uses_class_weights() => "no class weights".to_owned(),
        WeightingStrategy::None => "no class weights".to_owned(),
        WeightingStrategy::BalancedCapped => {
            format!(
                "class weights {} (at most {})",
                WeightingStrategy::BalancedCapped,
                c.balance.max_weight_ratio
            )
        }
        other => format!("class weights {other}"),
    };
    let tasks = c.balance.balanced_tasks(schema);
    let names: Vec<&str> = tasks.iter().map(|&task| schema.tasks[task].name.as_str()).collect();
    let sampler = match c.balance.sampling() {
        Sampling::Balanced { factor } if !names.is_empty() => {
            format!("sampler balances {} (up to {factor}×)", names.join(" and "))
        }
        Sampling::Progressive { start, end, epochs } if !names.is_empty() => format!(
            "sampler balances {} (up to {start}× rising to {end}× over {epochs} epochs)",
            names.join(" and ")
        ),
        _ => "plain sampler".to_owned(),
    };
    format!("{weights}, {sampler}")
}

fn describe_freezing(c: &Config) -> String {
    let strategy = match c.freezing.freezing_strategy {
        FreezingKind::Fixed => format!("the last {} stages", c.freezing.unfreeze_blocks),
        other => other.to_string(),
    };
    let decay = if c.freezing.discriminative_lr {
        ", each deeper stage at 1/2.6 of the rate".to_owned()
    } else if c.freezing.exponential_lr_decay {
        ", each deeper stage at half the rate".to_owned()
    } else {
        let decay = c.freezing.layer_decay.unwrap_or(1.0);
        if decay == 1.0 {
            String::new()
        } else {
            format!(", each deeper stage at {decay} of the rate")
        }
    };
    if c.freezing.gradual_finetuning {
        format!(
            "{} heads only, then {} with {strategy}{decay}",
            plural(c.freezing.phase1_epochs, "epoch"),
            c.freezing.phase2_epochs
        )
    } else if matches!(c.freezing.freezing_strategy, FreezingKind::Fixed | FreezingKind::None) {
        format!("none{decay}")
    } else {
        format!("heads only, then {strategy}{decay}")
    }
}

/// Returns the class counts, class weights and draws of the tasks whose classes are weighted or
/// resampled.
fn balance(config: &Config, schema: &Schema, train: &Dataset) -> Vec<BalanceSummary> {
    let drawn = config.balance.balanced_tasks(schema);
    let weighted = schema.imbalanced_task();
    (0..schema.tasks.len())
        .filter(|task| drawn.contains(task) || weighted == Some(*task))
        .map(|index| {
            let task = &schema.tasks[index];
            let counts = train.class_counts(index, task.classes.len());
            let weights = if weighted == Some(index) {
                task_weights(config, &counts)
            } else {
                vec![1.0; counts.len()]
            };
            let draws = match config.balance.sampling().factor(0) {
                Some(factor) if drawn.contains(&index) => draws(&counts, factor),
                _ => counts.clone(),
            };
            let rows = task.classes.iter().zip(counts).zip(weights.into_iter().zip(draws));
            BalanceSummary {
                task: task.title.clone(),
                classes: rows
                    .map(|((class, count), (weight, draws))| {
                        (class.name.clone(), count, weight, draws)
                    })
                    .collect(),
            }
        })
        .collect()
}

fn describe_augmentation(config: &Config) -> String {
    let mixing = config.mixing.describe();
    if config.augment.augmentation_strength == Strength::None && !config.clips.multi_scale {
        return mixing.unwrap_or_else(|| "off".to_owned());
    }
    let mut text = format!(
        "{}: jitter ±{}, frame dropout {}, flip {}, reversal {}, crop from {}, colour ±{}, noise {}",
        config.augment.augmentation_strength,
        config.augment.temporal_jitter_strength,
        config.augment.dropout_prob,
        config.augment.flip_prob,
        config.augment.reversal_prob,
        config.augment.spatial_crop_strength,
        config.augment.color_aug_strength,
        config.augment.noise_strength
    );
    if let Some(count) = config.augment.rand_augment {
        text.push_str(&format!(", {count} of the stages for each clip"));
    }
    for (on, part) in [
        (config.augment.severity_aware_augmentation, ", stronger for rarer classes"),
        (config.clips.multi_scale, ", three sizes"),
        (!config.augment.gpu_augmentation, ", on the host"),
    ] {
        if on {
            text.push_str(part);
        }
    }
    if let Some(mixing) = mixing {
        text.push_str(&format!(", {mixing}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shown_with_their_tasks() {
        let mut config = Config::default();
        config.data.tasks = ["action_class", "offence_severity"].map(str::to_owned).to_vec();
        config.loss.main_task_weights = vec![1.0, 5.0];
        let schema = Schema::mvfoul().unwrap().with_tasks(&config.data.tasks).unwrap();
        let text = describe_loss(&config, &schema);
        assert!(text.contains("task weights (offence_severity 1, action_class 5)"), "{text}");
    }
}
