//! Options that were given but have no effect, because of another one.

use super::{Config, FreezingKind, SchedulerKind, WeightingStrategy};
use crate::augment::Strength;
use crate::schema::Schema;

/// Options that have an effect under one condition.
struct Row {
    options: &'static [&'static str],
    acts: fn(&Config) -> bool,
    /// Option that they need.
    needs: &'static str,
    /// Options that the run uses instead, if any.
    instead: Option<fn(&Config) -> String>,
}

impl Row {
    const fn new(
        options: &'static [&'static str],
        acts: fn(&Config) -> bool,
        needs: &'static str,
    ) -> Self {
        Self { options, acts, needs, instead: None }
    }

    /// Creates a row for options of one-phase runs; `instead` returns what two-phase runs use.
    const fn in_one_phase(
        options: &'static [&'static str],
        instead: fn(&Config) -> String,
    ) -> Self {
        let acts = |c: &Config| !c.freezing.gradual_finetuning;
        Self { instead: Some(instead), ..Self::new(options, acts, "--no-gradual-finetuning") }
    }
}

fn stalls(c: &Config) -> bool {
    matches!(c.freezing.freezing_strategy, FreezingKind::Adaptive | FreezingKind::GradientGuided)
}

/// Options that do not always have an effect.
const ROWS: &[Row] = &[
    Row::in_one_phase(&["epochs"], |c| {
        let freezing = &c.freezing;
        let [first, second] = [freezing.phase1_epochs, freezing.phase2_epochs];
        format!("--phase1-epochs {first} and --phase2-epochs {second}")
    }),
    Row::in_one_phase(&["lr"], |c| {
        let [heads, backbone] = [c.freezing.head_lr, c.freezing.backbone_lr];
        format!("--head-lr {heads:e} and --backbone-lr {backbone:e}")
    }),
    Row {
        instead: Some(|c| format!("--epochs {} and --lr {:e}", c.schedule.epochs, c.schedule.lr)),
        ..Row::new(
            &[
                "phase1-epochs",
                "head-lr",
                "backbone-lr",
                "phase2-backbone-lr-scale-factor",
                "phase2-head-lr-ratio",
                "phase1-plateau-patience",
                "phase1-plateau-factor",
            ],
            |c| c.freezing.gradual_finetuning,
            "--gradual-finetuning",
        )
    },
    Row::new(
        &["phase2-epochs"],
        // The progressive strategy derives its intervals from them.
        |c| {
            c.freezing.gradual_finetuning
                || c.freezing.freezing_strategy == FreezingKind::Progressive
        },
        "--gradual-finetuning",
    ),
    Row::new(
        &["unfreeze-blocks"],
        |c| c.freezing.gradual_finetuning && c.freezing.freezing_strategy == FreezingKind::Fixed,
        "--gradual-finetuning and --freezing-strategy fixed",
    ),
    Row::new(
        &["adaptive-patience", "adaptive-min-improvement"],
        stalls,
        "--freezing-strategy adaptive or gradient_guided",
    ),
    Row::new(&["warmup-epochs"], |c| c.schedule.lr_warmup, "--lr-warmup"),
    Row::new(&["momentum"], |c| c.optimizer.optimizer.uses_momentum(), "--optimizer sgd"),
    Row::new(
        &["momentum"],
        // One-cycle sets its own momentum, but not in a first phase.
        |c| {
            !c.optimizer.optimizer.uses_momentum()
                || c.freezing.gradual_finetuning
                || !c.schedule.scheduler.sets_momentum()
        },
        "a --scheduler other than onecycle",
    ),
    Row::new(&["step-size"], |c| c.schedule.scheduler == SchedulerKind::Step, "--scheduler step"),
    Row::new(
        &["gamma"],
        |c| c.schedule.scheduler.uses_gamma(),
        "--scheduler step, exponential or reduce_on_plateau",
    ),
    Row::new(
        &["plateau-patience"],
        |c| c.schedule.scheduler == SchedulerKind::ReduceOnPlateau,
        "--scheduler reduce_on_plateau",
    ),
    Row::new(
        &["min-lr"],
        // The first phase lowers its rate in the same way.
        |c| c.freezing.gradual_finetuning || c.schedule.scheduler == SchedulerKind::ReduceOnPlateau,
        "--scheduler reduce_on_plateau",
    ),
    Row::new(
        &["focal-gamma"],
        |c| c.loss.loss_function.uses_gamma(),
        "--loss-function focal or adaptive_focal",
    ),
    Row::new(
        &["class-weighting-strategy"],
        |c| c.loss.loss_function.uses_class_weights(),
        "a --loss-function other than plain",
    ),
    Row::new(
        &["max-weight-ratio"],
        |c| {
            c.balance.class_weighting_strategy == WeightingStrategy::BalancedCapped
                && c.loss.loss_function.uses_class_weights()
        },
        "--class-weighting-strategy balanced_capped and a --loss-function other than plain",
    ),
    Row::new(
        &["oversample-factor"],
        |c| c.balance.use_class_balanced_sampler && !c.balance.progressive_class_balancing,
        "--use-class-balanced-sampler and without --progressive-class-balancing",
    ),
    Row::new(
        &["progressive-start-factor", "progressive-end-factor", "progressive-epochs"],
        |c| c.balance.progressive_class_balancing,
        "--progressive-class-balancing",
    ),
    Row::new(
        &[
            "rand-augment",
            "temporal-jitter-strength",
            "dropout-prob",
            "flip-prob",
            "reversal-prob",
            "spatial-crop-strength",
            "color-aug-strength",
            "noise-strength",
            "severity-aware-augmentation",
        ],
        |c| c.augment.augmentation_strength != Strength::None,
        "an --augmentation-strength other than none",
    ),
    Row::new(&["test-batches"], |c| c.run.test_run, "--test-run"),
];

/// Returns a line for each rule by which options with other values than the defaults have no effect.
pub(super) fn lines(config: &Config) -> Vec<String> {
    let line = |row: &Row| {
        let line = without_effect(config, row.options, row.needs)?;
        let instead = row.instead.map(|instead| format!("; this run uses {}", instead(config)));
        Some(line + &instead.unwrap_or_default())
    };
    ROWS.iter().filter(|row| !(row.acts)(config)).filter_map(line).collect()
}

/// Like [`lines`], for options that need an imbalanced task, which a schema may lack.
pub(super) fn lines_by_schema(config: &Config, schema: &Schema) -> Vec<String> {
    let mut lines = Vec::new();
    // Options that another option leaves without effect are reported together with that one.
    let acts = |option: &&str| {
        let rows = || ROWS.iter().filter(|row| row.options.contains(option));
        rows().all(|row| (row.acts)(config))
    };
    let acting =
        |options: &[&'static str]| -> Vec<&str> { options.iter().copied().filter(acts).collect() };
    if schema.imbalanced_task().is_none() {
        let by_class =
            ["class-weighting-strategy", "max-weight-ratio", "severity-aware-augmentation"];
        let needs = "a schema in which a task has `imbalanced = true`";
        lines.extend(without_effect(config, &acting(&by_class), needs));
    }
    if config.balance.use_class_balanced_sampler && config.balance.balanced_tasks(schema).is_empty()
    {
        let sampler = [
            "oversample-factor",
            "progressive-class-balancing",
            "progressive-start-factor",
            "progressive-end-factor",
            "progressive-epochs",
        ];
        let needs = "--balance-task, or a schema in which a task has `imbalanced = true`";
        lines.extend(without_effect(config, &acting(&sampler), needs));
    }
    lines
}

/// Returns a line about those of the options whose values are not the defaults, if there are any.
fn without_effect(config: &Config, options: &[&str], needs: &str) -> Option<String> {
    let [own, defaults] = [config, &Config::default()].map(|config| {
        toml::Table::try_from(config).expect("a configuration is a table of scalars and lists")
    });
    let given = |option: &str| {
        let value = own.get(option).filter(|value| defaults.get(option) != Some(*value))?;
        Some(match value {
            toml::Value::Boolean(_) => format!("--{option}"),
            toml::Value::Float(number) if !(1e-2..1e4).contains(&number.abs()) => {
                format!("--{option} {number:e}")
            }
            toml::Value::Float(number) => format!("--{option} {number}"),
            value => format!("--{option} {}", value.to_string().trim_matches('"')),
        })
    };
    let options: Vec<String> = options.iter().filter_map(|option| given(option)).collect();
    let effect = match options.as_slice() {
        [] => return None,
        [_] => "has an effect",
        _ => "have an effect",
    };
    Some(format!("{} {effect} only with {needs}", options.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    #[test]
    fn rules_name_existing_options() {
        let names = options::long_names::<Config>();
        for option in ROWS.iter().flat_map(|row| row.options) {
            assert!(names.iter().any(|name| name == option), "{option}");
        }
        assert_eq!(lines(&Config::default()), Vec::<String>::new());
    }
}
