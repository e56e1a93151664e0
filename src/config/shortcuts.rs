//! Options that stand for other options, and the old trainer's names.

use clap::{Arg, ArgAction};

use crate::options::{Entry, OptionError};

/// Option that is rewritten to others.
struct Shortcut {
    name: &'static str,
    heading: &'static str,
    help: &'static str,
    /// Options that it stands for, with their values.
    means: &'static [(&'static str, &'static str)],
    /// Whether a different explicit value of such an option is a contradiction; otherwise that value wins.
    strict: bool,
    /// Whether it takes a value, which is ignored.
    takes_value: bool,
    /// Warning that is logged when it is used.
    warning: Option<&'static str>,
}

impl Shortcut {
    const fn new(
        name: &'static str,
        heading: &'static str,
        help: &'static str,
        means: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, heading, help, means, strict: true, takes_value: false, warning: None }
    }

    /// Creates a shortcut for a name of the old trainer.
    const fn old(
        name: &'static str,
        help: &'static str,
        means: &'static [(&'static str, &'static str)],
        warning: &'static str,
    ) -> Self {
        Self { warning: Some(warning), ..Self::new(name, "Old names", help, means) }
    }
}

const AUGMENTATION: &str = "Augmentation";

const ALL: &[Shortcut] = &[
    Shortcut {
        strict: false,
        ..Shortcut::new(
            "simple-training",
            "Run and checkpoints",
            "Plain loss, no balancing, augmentation, gradual fine-tuning or label smoothing",
            &[
                ("loss-function", "plain"),
                ("class-weighting-strategy", "none"),
                ("use-class-balanced-sampler", "false"),
                ("augmentation-strength", "none"),
                ("gradual-finetuning", "false"),
                ("label-smoothing", "0"),
            ],
        )
    },
    Shortcut::new(
        "disable-class-balancing",
        "Class imbalance",
        "No class weights and no class-balanced sampler",
        &[("class-weighting-strategy", "none"), ("use-class-balanced-sampler", "false")],
    ),
    Shortcut::new(
        "disable-augmentation",
        AUGMENTATION,
        "Same as --augmentation-strength none",
        &[("augmentation-strength", "none")],
    ),
    Shortcut::new(
        "aggressive-augmentation",
        AUGMENTATION,
        "Same as --augmentation-strength aggressive",
        &[("augmentation-strength", "aggressive")],
    ),
    Shortcut::new(
        "extreme-augmentation",
        AUGMENTATION,
        "Same as --augmentation-strength extreme",
        &[("augmentation-strength", "extreme")],
    ),
    Shortcut::new(
        "mixed-precision",
        "Device and memory",
        "Same as --precision f16",
        &[("precision", "f16")],
    ),
    Shortcut::new("no-cache", "Data", "Same as --cache off", &[("cache", "off")]),
    Shortcut::old(
        "use-focal-loss",
        "Old name of --loss-function focal",
        &[("loss-function", "focal")],
        "--use-focal-loss is now --loss-function focal",
    ),
    Shortcut::old(
        "use-class-weighted-loss",
        "Old name of --loss-function weighted",
        &[("loss-function", "weighted")],
        "--use-class-weighted-loss is now --loss-function weighted",
    ),
    Shortcut::old(
        "disable-in-model-augmentation",
        "Has no effect: there is one augmentation now",
        &[],
        "--disable-in-model-augmentation has no effect: there is one augmentation now, and \
         --disable-augmentation turns it off",
    ),
    Shortcut {
        takes_value: true,
        ..Shortcut::old(
            "memory-cleanup-interval",
            "Has no effect: memory is freed when it is no longer used",
            &[],
            "--memory-cleanup-interval has no effect: memory is freed when it is no longer used; a \
             smaller --micro-batch lowers the peak",
        )
    },
];

/// Returns whether an option stands for others.
pub(crate) fn is_shortcut(name: &str) -> bool {
    ALL.iter().any(|shortcut| shortcut.name == name)
}

/// Returns the names of the options that a shortcut stands for, none if it is off; `None` for other options.
pub(super) fn stands_for(entry: &Entry) -> Option<Vec<&'static str>> {
    let shortcut = ALL.iter().find(|shortcut| shortcut.name == entry.name)?;
    let means = if is_off(entry) { &[] } else { shortcut.means };
    Some(means.iter().map(|(option, _)| *option).collect())
}

fn is_off(shortcut: &Entry) -> bool {
    shortcut.values == ["false"]
}

/// Returns clap arguments for the shortcuts whose options are all among `names`.
pub(super) fn arguments(names: &[String]) -> Vec<Arg> {
    let has = |option: &str| names.iter().any(|name| name == option);
    // Names without effect are accepted by commands that take a whole configuration.
    let fits = |shortcut: &&Shortcut| match shortcut.means {
        [] => has("dataset-root"),
        means => means.iter().all(|(option, _)| has(option)),
    };
    let arguments = ALL.iter().filter(fits).map(|shortcut| {
        let arg = Arg::new(shortcut.name)
            .long(shortcut.name)
            .help(shortcut.help)
            .help_heading(shortcut.heading)
            .overrides_with(shortcut.name);
        if shortcut.takes_value { arg.value_name("N") } else { arg.action(ArgAction::SetTrue) }
    });
    arguments.collect()
}

/// Returns the shortcuts that were typed.
pub(super) fn from_matches(matches: &clap::ArgMatches) -> Vec<Entry> {
    let typed = |shortcut: &&Shortcut| {
        matches.try_contains_id(shortcut.name).unwrap_or(false)
            && matches.value_source(shortcut.name) == Some(clap::parser::ValueSource::CommandLine)
    };
    let entry = |shortcut: &Shortcut| Entry::new(shortcut.name, vec!["true".to_owned()]);
    ALL.iter().filter(typed).map(entry).collect()
}

/// Rewrites the shortcuts among the entries of one source, a file or the command line.
pub(super) fn expand(entries: Vec<Entry>) -> Result<Vec<Entry>, OptionError> {
    let (given, mut entries): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| is_shortcut(&entry.name));
    let mut added: Vec<(&Shortcut, Entry)> = Vec::new();
    for shortcut in ALL {
        let used = |entry: &&Entry| entry.name == shortcut.name;
        let Some(used) = given.iter().find(used).filter(|entry| !is_off(entry)) else {
            continue;
        };
        if !shortcut.takes_value && !used.is_true() {
            return Err(OptionError::new(
                shortcut.name,
                used.values.join(" "),
                "must be true or false",
            ));
        }
        if let Some(warning) = shortcut.warning {
            log::warn!("{warning}");
        }
        for &(option, value) in shortcut.means {
            let entry = Entry { line: used.line, ..Entry::new(option, vec![value.to_owned()]) };
            let differs = |other: &Entry| other.name == option && !same(&other.values, value);
            let contradiction = |with: String| {
                let reason = "the two contradict each other: leave one of them out";
                OptionError::new(shortcut.name, format!("with --{with}"), reason)
            };
            if let Some(typed) = entries.iter().find(|other| other.name == option) {
                if differs(typed) && shortcut.strict {
                    return Err(contradiction(format!("{option} {}", typed.values.join(" "))));
                }
                // An explicit option overrides a shortcut.
                continue;
            }
            let earlier = added.iter().find(|(_, other)| differs(other));
            if let Some((other, _)) = earlier.filter(|(other, _)| other.strict && shortcut.strict) {
                return Err(contradiction(other.name.to_owned()));
            }
            // A broad shortcut such as --simple-training gives way to a narrower one.
            added.retain(|(_, other)| other.name != option);
            added.push((shortcut, entry));
        }
    }
    entries.extend(added.into_iter().map(|(_, entry)| entry));
    for entry in &mut entries {
        // The name in a later version of the old trainer.
        if entry.name == "freezing-strategy" && entry.values == ["advanced"] {
            log::warn!("--freezing-strategy advanced is now gradient_guided");
            entry.values = vec!["gradient_guided".to_owned()];
        }
    }
    Ok(entries)
}

/// Returns whether `values` is `value` alone; numbers are compared as numbers.
fn same(values: &[String], value: &str) -> bool {
    let [given] = values else {
        return false;
    };
    match (given.parse::<f64>(), value.parse::<f64>()) {
        (Ok(given), Ok(value)) => given == value,
        _ => given == value,
    }
}
