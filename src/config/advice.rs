//! Suggestions for a run, based on the size and class balance of its data set, its schema, and what slows
//! it down.

use super::without_effect;
use crate::augment::Strength;
use crate::config::{Config, FreezingKind, WeightingStrategy};
use crate::schema::Schema;
use crate::units::plural;

/// Returns suggestions for a training split of `actions` actions whose imbalanced task has these class
/// counts. What the configuration does already is left out.
pub fn advice(config: &Config, actions: usize, counts: &[usize]) -> Vec<String> {
    let mut lines = without_effect::lines(config);
    lines.extend(size(config, actions));
    lines.extend(untrained(config));
    lines.extend(balance(config, counts));
    lines
}

/// Returns suggestions that depend on the schema: about options that have no effect because none of its
/// tasks is imbalanced, classes that the augmentation exchanges, and tasks that are not trained.
pub fn schema_advice(config: &Config, schema: &Schema) -> Vec<String> {
    let mut lines = without_effect::lines_by_schema(config, schema);
    lines.extend(exchanged(config, schema));
    lines.extend(without_weight(config, schema));
    lines
}

/// Returns suggestions about tasks for which no action of the training or validation split has a label. Each
/// split is given by its name and the names of these tasks.
pub fn label_advice(train: (&str, &[&str]), valid: (&str, &[&str])) -> Vec<String> {
    let line = |(split, tasks): (&str, &[&str]), follows: [&str; 2]| {
        let follows = follows[usize::from(tasks.len() > 1)];
        let tasks = tasks.join(" and ");
        let line = format!("no action of the {split} split has a label for {tasks}: {follows}");
        (!tasks.is_empty()).then_some(line)
    };
    let unlearned = ["it cannot be learned", "they cannot be learned"];
    let unjudged = [
        "it has no validation metrics and does not count towards the score that chooses the best epoch",
        "they have no validation metrics and do not count towards the score that chooses the best epoch",
    ];
    [line(train, unlearned), line(valid, unjudged)].into_iter().flatten().collect()
}

/// Words that a horizontal flip exchanges.
const SIDES: &[[&str; 2]] =
    &[["left", "right"], ["clockwise", "counterclockwise"], ["clockwise", "anticlockwise"]];
/// Words that a reversal in time exchanges.
const WAYS: &[[&str; 2]] = &[["forward", "backward"], ["forwards", "backwards"]];

/// Returns lines about classes whose names suggest that a flip or a reversal turns one into the other.
fn exchanged(c: &Config, schema: &Schema) -> Vec<String> {
    let has = |name: &str, word: &str| {
        name.split(|c: char| !c.is_alphanumeric()).any(|part| part.eq_ignore_ascii_case(word))
    };
    // Finds two different classes of one task.
    let classes = |words: &[&str; 2]| {
        schema.tasks.iter().find_map(|task| {
            let with = |word| task.classes.iter().position(|class| has(&class.name, word));
            let (one, other) = (with(words[0])?, with(words[1])?);
            (one != other).then(|| [one, other].map(|class| &task.classes[class].name))
        })
    };
    let augments = c.augment.augmentation_strength != Strength::None;
    let line = |(probability, what, option, pairs): (f64, &str, &str, &[[&str; 2]])| {
        let acts = augments && probability > 0.0;
        let [one, other] = pairs.iter().find_map(classes).filter(|_| acts)?;
        Some(format!("if {what} turns {one:?} into {other:?}, give {option}"))
    };
    let changes = [
        (c.augment.flip_prob, "a flip", "--flip-prob 0", SIDES),
        (c.augment.reversal_prob, "a reversal", "--reversal-prob 0", WAYS),
    ];
    changes.into_iter().filter_map(line).collect()
}

/// Returns a line about tasks of weight 0, which still count in the score that chooses the best epoch.
fn without_weight(c: &Config, schema: &Schema) -> Option<String> {
    let (trained, idle): (Vec<_>, Vec<_>) =
        (0..schema.tasks.len()).partition(|&task| c.loss.task_weight(task) > 0.0);
    let names = |tasks: &[usize], between| {
        let names: Vec<&str> = tasks.iter().map(|&task| &*schema.tasks[task].name).collect();
        names.join(between)
    };
    (!idle.is_empty()).then(|| {
        format!(
            "with a weight of 0 {} {} not trained, but still part of the score that chooses the best \
             epoch: give --tasks {} in place of --main-task-weights",
            names(&idle, " and "),
            if idle.len() == 1 { "is" } else { "are" },
            names(&trained, " ")
        )
    })
}

/// Returns a line about a first phase on a backbone of random weights.
fn untrained(c: &Config) -> Option<String> {
    (c.freezing.gradual_finetuning && c.network.pretrained.is_none()).then(|| {
        let weights = match c.network.backbone_name.has_public_weights() {
            true => "--pretrained FILE (its public weights) or ",
            false => "",
        };
        format!(
            "the first phase trains the heads on a frozen backbone of random weights: give \
             {weights}--no-gradual-finetuning"
        )
    })
}

fn size(c: &Config, actions: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (bound, wanted) = match actions {
        0..100 => (100, "only the heads can be trained well"),
        100..500 => (500, "the last stages can be adapted with care"),
        500..1000 => (1000, "most of the backbone can be adapted"),
        _ => return lines,
    };
    let mut options = Vec::new();
    if !c.freezing.gradual_finetuning {
        if c.network.pretrained.is_some() {
            options.push("--gradual-finetuning");
        } else if c.network.backbone_name.has_public_weights() {
            options.push("--pretrained FILE (the backbone's public weights)");
            options.push("--gradual-finetuning");
        }
    }
    match actions {
        0..100 => {
            if unfreezes(c, 1) {
                options.push("--unfreeze-blocks 1");
            }
            if c.optimizer.batch_size > 4 {
                options.push("--batch-size 4");
            }
        }
        100..500 => {
            if unfreezes(c, 2) {
                options.push("--unfreeze-blocks 2");
            }
            if !c.freezing.discriminative_lr && !c.freezing.exponential_lr_decay {
                options.push("--discriminative-lr");
            }
        }
        _ => {
            if !c.augment.severity_aware_augmentation {
                options.push("--severity-aware-augmentation");
            }
        }
    }
    if !options.is_empty() {
        lines.push(format!(
            "{} {} fewer than {bound}: {wanted}; try {}",
            plural(actions, "action"),
            if actions == 1 { "is" } else { "are" },
            options.join(", ")
        ));
    }
    lines
}

/// Returns whether the second phase trains more than `stages` stages.
fn unfreezes(c: &Config, stages: usize) -> bool {
    let fixed = c.freezing.freezing_strategy == FreezingKind::Fixed;
    c.freezing.gradual_finetuning && fixed && c.freezing.unfreeze_blocks > stages
}

/// Ratio of the largest class to the smallest above which a split counts as unbalanced.
const UNBALANCED: f64 = 3.0;
/// Number of actions below which a class is hardly learned.
const FEW: usize = 10;

fn balance(c: &Config, counts: &[usize]) -> Vec<String> {
    let mut lines = Vec::new();
    let largest = counts.iter().copied().max().unwrap_or(0);
    let smallest = counts.iter().copied().filter(|&count| count > 0).min().unwrap_or(0);
    if smallest == 0 {
        return lines;
    }
    let ratio = largest as f64 / smallest as f64;
    let weighted = c.balance.class_weighting_strategy != WeightingStrategy::None;
    if ratio > UNBALANCED && !weighted && !c.balance.use_class_balanced_sampler {
        lines.push(format!(
            "the largest class has {ratio:.0} times the actions of the smallest: try \
             --use-class-balanced-sampler or --class-weighting-strategy balanced_capped"
        ));
    } else if ratio > c.balance.oversample_factor * c.balance.max_weight_ratio {
        lines.push(format!(
            "the largest class has {ratio:.0} times the actions of the smallest: try \
             --loss-function adaptive_focal, --progressive-class-balancing"
        ));
    }
    let absent = counts.iter().filter(|&&count| count == 0).count();
    if absent > 0 {
        let classes = plural(absent, "class");
        let have = if absent == 1 { "has" } else { "have" };
        lines.push(format!("{classes} {have} no action at all and cannot be learned"));
    }
    if smallest < FEW {
        lines.push(format!(
            "the smallest class has only {}: its recall will jump between epochs",
            plural(smallest, "action")
        ));
    }
    lines
}

/// Returns advice on an epoch in which most steps were left out because of gradients beyond the range of
/// f16; `None` if most were not. `loss_scale` is the loss scale at the end of the epoch.
pub fn skipped_steps_advice(left_out: usize, steps: usize, loss_scale: f64) -> Option<String> {
    let most = if left_out == steps { "all".to_owned() } else { format!("{left_out} of") };
    (2 * left_out > steps).then(|| {
        format!(
            "{most} {steps} steps were skipped because gradients overflowed f16; the loss \
             scale is now {loss_scale}: if this continues, use --precision f32 or a lower --lr (in two \
             phases: --backbone-lr)"
        )
    })
}

/// Share of an epoch spent waiting for data above which something should be changed.
const MUCH_WAITING: f64 = 0.1;

/// Returns the option to change if training waits for data; `None` if it hardly does. `cores` is the
/// machine's number of cores.
pub fn data_wait_advice(config: &Config, data_wait: f64, cores: usize) -> Option<String> {
    if data_wait <= MUCH_WAITING {
        return None;
    }
    let workers = config.data.num_workers;
    let change = if workers < cores {
        format!("--num-workers {cores} (now {workers}) decodes on all cores")
    } else if config.cache_folder().is_none() {
        "--cache DIR keeps the frames, so that each clip is decoded once".to_owned()
    } else {
        format!(
            "a faster disk for --cache, or reading further ahead: --prefetch (now {}), --loader-memory \
             (now {} MB)",
            config.data.prefetch, config.data.loader_memory
        )
    };
    Some(format!("{:.0} % of the epoch was spent waiting for data: {change}", data_wait * 100.0))
}
