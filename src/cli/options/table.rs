//! The table of the options: names, what they take, help.

use crate::augment::Strength;
use crate::config::{
    Auto, FreezingKind, LossFunction, OptimizerKind, SchedulerKind, WeightingStrategy,
};
use crate::model::BackboneKind;

/// What an option takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    Integer,
    Number,
    /// Several numbers, separated by spaces.
    Numbers,
    Text,
    /// One of a few words; the function refuses others and may translate.
    Word(fn(&str) -> Result<String, String>),
    /// `--name`, and the name of its negation.
    Switch(&'static str),
    /// `--name`, a shortcut of the configuration.
    Shortcut,
    /// An old option with a value that no longer matters.
    Old,
}

/// One option: name, what it takes, the value's name, help.
pub(super) type Row = (&'static str, Takes, &'static str, &'static str);

/// A row of a switch.
macro_rules! switch {
    ($name:literal, $help:literal) => {
        ($name, Switch(concat!("no-", $name)), "", $help)
    };
}

/// Heading of the help, and its options.
pub(in crate::cli) struct Group {
    pub heading: &'static str,
    pub(super) rows: &'static [Row],
}

fn word<T>(text: &str) -> Result<String, String>
where
    T: std::str::FromStr<Err = String>,
{
    text.parse::<T>().map(|_| text.to_owned())
}

fn freezing(text: &str) -> Result<String, String> {
    // A later version of the old trainer; the configuration translates it, with a warning.
    if text == "advanced" { Ok(text.to_owned()) } else { word::<FreezingKind>(text) }
}

fn auto(text: &str) -> Result<String, String> {
    text.parse::<Auto>().map(|auto| auto.to_string())
}

/// Reads a backbone's name; the old trainer's names are known too.
fn backbone(name: &str) -> Result<String, String> {
    match name {
        "resnet3d_18" => return Ok(BackboneKind::R3d18.name().to_owned()),
        "resnet3d_50" => {
            return Err("there is no resnet3d_50 (the old trainer silently took r2plus1d_18 for \
                        it): name r2plus1d_18 if that is what you want"
                .to_owned());
        }
        _ => {}
    }
    word::<BackboneKind>(name)
}

use Takes::{Integer, Number, Numbers, Old, Shortcut, Switch, Text, Word};

const BASIC: Group = Group {
    heading: "Basic",
    rows: &[
        ("dataset-root", Text, "DIR", "Folder that holds mvfouls/{train,valid}, or those folders"),
        ("schema", Text, "FILE", "Schema of another data set (TOML) [default: SoccerNet-MVFoul]"),
        ("epochs", Integer, "N", "Passes over the training split, without gradual fine-tuning"),
        ("batch-size", Integer, "N", "Actions per step"),
        ("lr", Number, "RATE", "Highest learning rate, without gradual fine-tuning"),
        ("weight-decay", Number, "W", "Weight decay"),
        ("num-workers", Integer, "N", "Decoding threads; 0 decodes in the training thread"),
        ("prefetch", Integer, "N", "Batches that they read ahead"),
        ("loader-memory", Integer, "MB", "Bound on the frames that they hold in main memory"),
        (
            "cache",
            Text,
            "DIR",
            "Folder of decoded frames, which runs may share; auto: frames in SAVE_DIR",
        ),
        ("no-cache", Shortcut, "", ""),
        ("cache-size", Number, "GB", "Bound on that folder; what was used longest ago goes first"),
        ("seed", Integer, "N", "Seed of everything random"),
        (
            "device",
            Text,
            "DEVICE",
            "auto, gpu, cpu, wgpu[:N|:cpu], vulkan, metal, dx12 or cuda[:N]",
        ),
        ("save-dir", Text, "DIR", "Folder for checkpoints, history and configuration"),
    ],
};

const MODEL: Group = Group {
    heading: "Model",
    rows: &[
        (
            "backbone-name",
            Word(backbone),
            "NAME",
            "r2plus1d_18, r3d_18 (or resnet3d_18), mc3_18, r3d_tiny",
        ),
        ("frames-per-clip", Integer, "N", "Frames of a clip in the network"),
        ("target-fps", Number, "FPS", "Rate at which the window's frames are taken"),
        ("start-frame", Integer, "N", "First frame of the window"),
        ("end-frame", Integer, "N", "Last frame of the window, included"),
        ("img-height", Integer, "PX", "Height of a frame in the network, pixels"),
        ("img-width", Integer, "PX", "Width of a frame in the network, pixels"),
        ("max-views", Integer, "N", "Most views of an action that are used [default: all]"),
        switch!("attention-aggregation", "Merge views by a learned attention; off: by their mean"),
        (
            "dropout-rate",
            Number,
            "P",
            "Dropout on each view's feature and in the heads [default: 0.4 and 0.6]",
        ),
        (
            "pretrained",
            Text,
            "FILE",
            "Weights to start from (.pth, .pt, .safetensors; torchvision's names)",
        ),
        switch!(
            "annotation-inputs",
            "Tell the heads the other annotated properties (contact, body part, …)"
        ),
    ],
};

const OPTIMISATION: Group = Group {
    heading: "Optimisation",
    rows: &[
        ("optimizer", Word(word::<OptimizerKind>), "NAME", "adamw, adam or sgd"),
        ("momentum", Number, "M", "SGD's momentum"),
        ("gradient-clip-norm", Number, "NORM", "Bound on the gradients' common norm; 0 is off"),
        (
            "micro-batch",
            Word(auto),
            "N",
            "Clips that pass at once, their gradients added up; auto: what the memory holds",
        ),
        switch!("gradient-checkpointing", "Save memory by computing much of a step twice"),
        switch!("tune", "Try which kernels are fastest on this GPU, once, and remember them"),
        switch!("mixed-precision", "Half-precision arithmetic where it can be had; else f32"),
        (
            "early-stopping-patience",
            Word(auto),
            "N",
            "Epochs without a better score that are borne; 0: all",
        ),
    ],
};

const SCHEDULE: Group = Group {
    heading: "Schedule",
    rows: &[
        (
            "scheduler",
            Word(word::<SchedulerKind>),
            "NAME",
            "cosine, onecycle, step, exponential, reduce_on_plateau or none",
        ),
        switch!("lr-warmup", "Raise the rate from 0 over the first epochs"),
        ("warmup-epochs", Integer, "N", "Epochs of that warm-up"),
        ("step-size", Integer, "N", "Epochs between two cuts of `step`"),
        ("gamma", Number, "G", "Factor of a cut: step, exponential, reduce_on_plateau"),
        (
            "plateau-patience",
            Integer,
            "N",
            "Epochs without improvement that reduce_on_plateau bears",
        ),
        ("min-lr", Number, "RATE", "Rate below which no plateau goes"),
    ],
};

const LOSS: Group = Group {
    heading: "Loss",
    rows: &[
        (
            "loss-function",
            Word(word::<LossFunction>),
            "NAME",
            "weighted, focal, adaptive_focal or plain: loss of the imbalanced task",
        ),
        ("main-task-weights", Numbers, "W", "Weight of each task's loss [default: 3.0 each]"),
        ("label-smoothing", Number, "S", "Share of the target spread over all classes"),
        ("focal-gamma", Number, "G", "Exponent of the focal losses"),
        (
            "auxiliary-task-weight",
            Number,
            "W",
            "Weight of heads that predict the other annotated properties; 0: none",
        ),
    ],
};

const IMBALANCE: Group = Group {
    heading: "Imbalance",
    rows: &[
        (
            "class-weighting-strategy",
            Word(word::<WeightingStrategy>),
            "NAME",
            "balanced_capped, none, sqrt, log or effective_number",
        ),
        (
            "max-weight-ratio",
            Number,
            "R",
            "Largest class weight over the smallest (balanced_capped)",
        ),
        switch!("use-class-balanced-sampler", "Draw rarer classes more often"),
        ("oversample-factor", Number, "F", "At most so many times as often as they occur"),
        switch!("progressive-class-balancing", "Let that factor rise over the first epochs"),
        ("progressive-start-factor", Number, "F", "Factor of the first epoch"),
        ("progressive-end-factor", Number, "F", "Factor at the end of the rise"),
        ("progressive-epochs", Integer, "N", "Epochs of the rise"),
        (
            "balance-task",
            Text,
            "TASK",
            "Task whose classes are balanced, or alternate [default: the imbalanced one]",
        ),
        ("disable-class-balancing", Shortcut, "", ""),
    ],
};

const FREEZING: Group = Group {
    heading: "Freezing",
    rows: &[
        (
            "freezing-strategy",
            Word(freezing),
            "NAME",
            "fixed, adaptive, progressive, gradient_guided or none",
        ),
        (
            "adaptive-patience",
            Integer,
            "N",
            "Epochs without improvement that unfreeze the next stage",
        ),
        ("adaptive-min-improvement", Number, "S", "What counts as improvement there"),
        switch!("exponential-lr-decay", "Each deeper stage gets half the rate of the one above it"),
        switch!(
            "discriminative-lr",
            "Each deeper stage gets 1/2.6 of the rate of the one above it"
        ),
        switch!("gradual-finetuning", "Two phases: heads only, then the last stages too"),
        ("phase1-epochs", Integer, "N", "Epochs of the first phase"),
        ("phase2-epochs", Integer, "N", "Epochs of the second phase"),
        ("head-lr", Number, "RATE", "The heads' rate in the first phase"),
        ("backbone-lr", Number, "RATE", "The backbone's rate in the second phase"),
        ("unfreeze-blocks", Integer, "N", "Stages that `fixed` trains in the second phase"),
        (
            "phase2-backbone-lr-scale-factor",
            Number,
            "F",
            "Factor of backbone-lr in the second phase",
        ),
        (
            "phase2-head-lr-ratio",
            Number,
            "R",
            "The heads' rate over the backbone's in the second phase",
        ),
        (
            "phase1-plateau-patience",
            Integer,
            "N",
            "Epochs without improvement before a cut in the first phase",
        ),
        ("phase1-plateau-factor", Number, "F", "Factor of that cut"),
    ],
};

/// The augmentation's options, for `polyview augment` too.
pub(in crate::cli) const AUGMENTATION: Group = Group {
    heading: "Augmentation",
    rows: &[
        (
            "augmentation-strength",
            Word(word::<Strength>),
            "LEVEL",
            "none, mild, moderate, aggressive or extreme",
        ),
        ("aggressive-augmentation", Shortcut, "", ""),
        ("extreme-augmentation", Shortcut, "", ""),
        ("disable-augmentation", Shortcut, "", ""),
        switch!("gpu-augmentation", "Augment on the device where it takes WGSL; off: on the host"),
        ("temporal-jitter-strength", Integer, "N", "Largest shift in time, frames"),
        ("dropout-prob", Number, "P", "Probability that a frame becomes black"),
        ("spatial-crop-strength", Number, "S", "Smallest scale of a crop's sides, 1 = no crop"),
        ("color-aug-strength", Number, "S", "Largest deviation of brightness and contrast from 1"),
        ("noise-strength", Number, "S", "Largest standard deviation of the noise"),
        switch!("severity-aware-augmentation", "Stronger settings for rarer classes"),
    ],
};

const MORE_AUGMENTATION: Group = Group {
    heading: "Augmentation",
    rows: &[switch!(
        "multi-scale",
        "Each batch takes one of three sizes: 1, 7/8 and 3/4 of the full one"
    )],
};

const CHECKPOINTS: Group = Group {
    heading: "Checkpoints",
    rows: &[
        ("resume", Text, "FILE", "Go on from a checkpoint; auto: from SAVE_DIR's last one, if any"),
        ("resume-best-acc", Number, "SCORE", "Best score to beat, in place of the checkpoint's"),
        (
            "checkpoint-minutes",
            Number,
            "M",
            "Minutes between two within an epoch; 0: at its end only",
        ),
        ("keep", Integer, "N", "Epochs whose checkpoints stay beside the last and the best"),
    ],
};

const TRYING_OUT: Group = Group {
    heading: "Trying out",
    rows: &[
        ("simple-training", Shortcut, "", ""),
        switch!("test-run", "One epoch of a few batches that leaves no file behind"),
        ("test-batches", Integer, "N", "Batches of a test run, per split"),
        switch!("force-batch-size", "Try a batch that the device is expected not to hold"),
        switch!("compare-freezing", "The same run with and without freezing, in one table"),
    ],
};

const OLD: Group = Group {
    heading: "Old names",
    rows: &[
        ("use-focal-loss", Shortcut, "", ""),
        ("use-class-weighted-loss", Shortcut, "", ""),
        ("disable-in-model-augmentation", Shortcut, "", ""),
        ("memory-cleanup-interval", Old, "N", ""),
    ],
};

/// The options of `polyview train`.
pub(in crate::cli) const TRAIN: &[&Group] = &[
    &BASIC,
    &MODEL,
    &OPTIMISATION,
    &SCHEDULE,
    &LOSS,
    &IMBALANCE,
    &FREEZING,
    &AUGMENTATION,
    &MORE_AUGMENTATION,
    &CHECKPOINTS,
    &TRYING_OUT,
    &OLD,
];
