//! Suggestions for unknown options.

use crate::near::nearest;

/// How messages spell options that they suggest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// With dashes, as on a command line.
    Dashed,
    /// Without dashes, as in files.
    Bare,
}

impl Spelling {
    fn dashes(self) -> &'static str {
        match self {
            Self::Dashed => "--",
            Self::Bare => "",
        }
    }

    /// Spells a suggestion of [`SYNONYMS`].
    fn apply(self, meant: &str) -> String {
        let word = |word: &str| match word.strip_prefix("--") {
            Some(option) => format!("{}{option}", self.dashes()),
            None => word.to_owned(),
        };
        meant.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Option names of other trainers, and polyview's names for them. Of several, the first one whose options
/// the command has is suggested.
const SYNONYMS: &[(&[&str], &[&str])] = &[
    (
        &["backbone", "model", "model-name", "arch", "architecture", "network", "encoder"],
        &["--backbone-name"],
    ),
    (
        &["no-augmentation", "no-augment", "no-aug"],
        &["--disable-augmentation", "--augmentation-strength none"],
    ),
    (&["learning-rate"], &["--lr"]),
    (&["patience", "early-stopping"], &["--early-stopping-patience"]),
    (&["amp", "use-amp", "fp16", "half-precision", "mixed"], &["--precision f16"]),
    (
        &["weights", "ckpt", "ckpt-path", "checkpoint-path", "model-path"],
        &["--checkpoint", "--pretrained"],
    ),
    (&["checkpoint"], &["--resume or --pretrained"]),
    (&["resume-from", "resume-from-checkpoint"], &["--resume"]),
    (&["num-frames", "n-frames", "clip-len", "clip-length"], &["--frames-per-clip"]),
    (&["fps", "sampling-rate"], &["--target-fps"]),
    (&["views", "num-views", "n-views"], &["--max-views"]),
    (
        &["image-size", "img-size", "input-size", "frame-size", "resolution", "crop-size"],
        &["--img-height and --img-width"],
    ),
    (&["output", "output-dir", "out-dir", "log-dir", "logdir"], &["--out", "--save-dir"]),
    (
        &["data", "data-dir", "data-path", "data-root", "dataset", "dataset-dir", "dataset-path"],
        &["--dataset-root"],
    ),
    (&["workers", "n-workers"], &["--num-workers"]),
    (&["batch", "bs"], &["--batch-size"]),
    (&["num-epochs", "max-epochs", "n-epochs"], &["--epochs"]),
    (&["dropout"], &["--dropout-rate"]),
    (&["wd"], &["--weight-decay"]),
    (&["clip-grad", "grad-clip", "max-grad-norm"], &["--gradient-clip-norm"]),
    (&["lr-scheduler", "schedule"], &["--scheduler"]),
    (&["loss"], &["--loss-function"]),
    (&["class-weights", "weighted-loss"], &["--class-weighting-strategy"]),
    (&["freeze", "freeze-backbone"], &["--freezing-strategy"]),
    (&["gpu", "gpus", "cuda"], &["--device"]),
];

/// Returns the message about an option that a command does not have. `known` are the options that it has;
/// `suggested` is clap's suggestion, which is often far off.
pub(super) fn unknown(
    typed: &str,
    suggested: &str,
    known: &[String],
    spelling: Spelling,
) -> String {
    let dashes = spelling.dashes();
    let has = |name: &str| known.iter().any(|known| known == name);
    let near = match suggested {
        "" => None,
        _ if suggested.contains(typed) || typed.contains(suggested) => Some(suggested),
        _ => nearest(typed, [suggested]),
    };
    if let Some(meant) = synonym(typed, has) {
        return format!("there is no such option; did you mean {}?", spelling.apply(meant));
    }
    if let Some(option) = typed.strip_prefix("no-").filter(|option| has(option)) {
        return format!("there is no such option; leave {dashes}{option} out");
    }
    match near {
        None => "there is no such option".to_owned(),
        Some(meant) => format!("there is no such option; did you mean {dashes}{meant}?"),
    }
}

fn synonym(typed: &str, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let (_, meant) = SYNONYMS.iter().find(|(names, _)| names.contains(&typed))?;
    meant.iter().copied().find(|meant| options_of(meant).all(&has))
}

/// Returns the options that a suggestion names, without dashes.
fn options_of(meant: &str) -> impl Iterator<Item = &str> {
    meant.split(' ').filter_map(|word| word.strip_prefix("--"))
}

/// Returns every option that may be suggested.
#[cfg(test)]
pub(crate) fn suggested() -> impl Iterator<Item = &'static str> {
    SYNONYMS.iter().flat_map(|(_, meant)| meant.iter().flat_map(|meant| options_of(meant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_the_command_has_are_suggested() {
        let message = |typed: &str, known: &[&str]| {
            let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            let text = unknown(typed, "", &known, Spelling::Dashed);
            text.trim_start_matches("there is no such option").to_owned()
        };
        for (typed, known, expected) in [
            ("weights", &["checkpoint", "schema"] as &[&str], "; did you mean --checkpoint?"),
            ("weights", &["pretrained"], "; did you mean --pretrained?"),
            ("weights", &["seed"], ""),
            ("output", &["out"], "; did you mean --out?"),
            ("output", &["save-dir"], "; did you mean --save-dir?"),
            ("checkpoint", &["resume", "pretrained"], "; did you mean --resume or --pretrained?"),
            ("checkpoint", &["resume"], ""),
            (
                "image-size",
                &["img-height", "img-width"],
                "; did you mean --img-height and --img-width?",
            ),
            ("no-pretrained", &["pretrained"], "; leave --pretrained out"),
            ("no-pretrained", &["seed"], ""),
        ] {
            assert_eq!(message(typed, known), expected, "{typed} {known:?}");
        }
        let known = ["img-height", "img-width", "lr"].map(str::to_owned);
        for (typed, suggested, expected) in [
            ("image-size", "", "did you mean img-height and img-width?"),
            ("no-lr", "", "leave lr out"),
            ("lrr", "lr", "did you mean lr?"),
        ] {
            let text = unknown(typed, suggested, &known, Spelling::Bare);
            assert_eq!(text, format!("there is no such option; {expected}"));
        }
    }

    #[test]
    fn a_name_stands_for_one_thing() {
        let mut names: Vec<&str> = SYNONYMS.iter().flat_map(|(names, _)| *names).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
