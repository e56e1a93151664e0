//! Words that stand for several options, and the old trainer's words.

use toml::{Table, Value};

use super::ConfigError;

/// A word that is rewritten to options.
struct Shortcut {
    name: &'static str,
    help: &'static str,
    /// What it stands for.
    means: fn() -> Vec<(&'static str, Value)>,
    /// Whether an option that says otherwise beside it is a contradiction; else the option wins.
    strict: bool,
    /// Said to the user; the old trainer's words name the new ones.
    warning: Option<&'static str>,
}

const ALL: &[Shortcut] = &[
    Shortcut {
        name: "simple-training",
        help: "Plain loss, no balancing, no augmentation, no gradual fine-tuning, no smoothing",
        means: || {
            vec![
                ("loss-function", "plain".into()),
                ("class-weighting-strategy", "none".into()),
                ("use-class-balanced-sampler", false.into()),
                ("augmentation-strength", "none".into()),
                ("gradual-finetuning", false.into()),
                ("label-smoothing", Value::Float(0.0)),
            ]
        },
        strict: false,
        warning: None,
    },
    Shortcut {
        name: "disable-class-balancing",
        help: "No class weights, no class-balanced sampler",
        means: || {
            vec![
                ("class-weighting-strategy", "none".into()),
                ("use-class-balanced-sampler", false.into()),
            ]
        },
        strict: true,
        warning: None,
    },
    Shortcut {
        name: "disable-augmentation",
        help: "The same as --augmentation-strength none",
        means: || vec![("augmentation-strength", "none".into())],
        strict: true,
        warning: None,
    },
    Shortcut {
        name: "aggressive-augmentation",
        help: "The same as --augmentation-strength aggressive",
        means: || vec![("augmentation-strength", "aggressive".into())],
        strict: true,
        warning: None,
    },
    Shortcut {
        name: "extreme-augmentation",
        help: "The same as --augmentation-strength extreme",
        means: || vec![("augmentation-strength", "extreme".into())],
        strict: true,
        warning: None,
    },
    Shortcut {
        name: "no-cache",
        help: "The same as --cache off",
        means: || vec![("cache", "off".into())],
        strict: true,
        warning: None,
    },
    Shortcut {
        name: "use-focal-loss",
        help: "Old name of --loss-function focal",
        means: || vec![("loss-function", "focal".into())],
        strict: true,
        warning: Some("--use-focal-loss is --loss-function focal now"),
    },
    Shortcut {
        name: "use-class-weighted-loss",
        help: "Old name of --loss-function weighted",
        means: || vec![("loss-function", "weighted".into())],
        strict: true,
        warning: Some("--use-class-weighted-loss is --loss-function weighted now"),
    },
    Shortcut {
        name: "disable-in-model-augmentation",
        help: "Old option; there is one augmentation now",
        means: Vec::new,
        strict: false,
        warning: Some(
            "--disable-in-model-augmentation: there is one augmentation only; \
             --disable-augmentation turns it off",
        ),
    },
    Shortcut {
        name: "memory-cleanup-interval",
        help: "Old option; memory is freed as it falls out of use",
        means: Vec::new,
        strict: false,
        warning: Some(
            "--memory-cleanup-interval is not needed: memory is freed as it falls out of use; a \
             smaller --batch-size bounds it",
        ),
    },
];

/// Names and meanings.
pub(super) fn list() -> Vec<(&'static str, &'static str)> {
    ALL.iter().map(|shortcut| (shortcut.name, shortcut.help)).collect()
}

/// Rewrites the shortcuts of one source (a file, or the command line).
pub(super) fn expand(table: &mut Table) -> Result<(), ConfigError> {
    let mut added: Vec<(&str, &str, Value)> = Vec::new();
    for shortcut in ALL {
        match table.remove(shortcut.name) {
            None | Some(Value::Boolean(false)) => continue,
            Some(_) => {}
        }
        if let Some(warning) = shortcut.warning {
            log::warn!("{warning}");
        }
        for (option, value) in (shortcut.means)() {
            let earlier = added.iter().find(|(_, name, _)| *name == option);
            let other = match (table.get(option), earlier) {
                (Some(typed), None) => (*typed != value).then(|| (option, typed.clone())),
                (_, Some((by, _, old))) => (*old != value).then(|| (*by, old.clone())),
                (None, None) => None,
            };
            match other {
                None => {}
                Some(_) if !shortcut.strict => continue,
                // A shortcut such as --simple-training gives way to a narrower one.
                Some((by, _)) if !is_strict(by) && by != option => {}
                Some((by, said)) => {
                    let with = if by == option { format!("{by} {said}") } else { by.to_owned() };
                    return Err(super::rules::value(
                        shortcut.name,
                        format!("with --{with}"),
                        "the two contradict each other: leave one of them out",
                    ));
                }
            }
            added.push((shortcut.name, option, value));
        }
    }
    for (_, option, value) in added {
        table.insert(option.to_owned(), value);
    }
    // The name of a later version of the old trainer.
    if table.get("freezing-strategy").and_then(Value::as_str) == Some("advanced") {
        log::warn!("--freezing-strategy advanced is gradient_guided now");
        table.insert("freezing-strategy".to_owned(), "gradient_guided".into());
    }
    Ok(())
}

fn is_strict(name: &str) -> bool {
    ALL.iter().any(|shortcut| shortcut.name == name && shortcut.strict)
}
