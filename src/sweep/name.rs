//! Names of runs, which are also the names of their folders.

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::options::Entry;

/// Length of the longest name, bytes.
const MAX_LENGTH: usize = 120;
/// Number of digits of the hash in names that do not show everything.
const DIGITS: usize = 8;

/// Formats a value for names, tables and messages. A number has one form, however it was written.
pub(super) fn plain(entry: &Entry) -> String {
    let values: Vec<String> = entry.values.iter().map(|value| plain_value(value)).collect();
    values.join(",")
}

fn plain_value(text: &str) -> String {
    // Seeds may be too large for a float to hold exactly.
    if let Ok(whole) = text.parse::<i64>() {
        return whole.to_string();
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite()).map_or(text.to_owned(), number)
}

/// Formats a number in the shorter of its usual forms: `0.001`, `1e-5`.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// Returns the name of a run, made of what distinguishes it from others: `mixup_head-lr=0.001_seed=0`. It
/// is safe as a file name, has a bounded length, and depends on nothing else. Options are sorted.
pub(super) fn run_name(
    variant: Option<&str>,
    options: &IndexMap<String, String>,
    seed: Option<u64>,
) -> String {
    let mut sorted: Vec<(&String, &String)> = options.iter().collect();
    sorted.sort_unstable();
    let mut parts: Vec<String> = variant.map(str::to_owned).into_iter().collect();
    parts.extend(sorted.into_iter().map(|(name, value)| format!("{name}={value}")));
    parts.extend(seed.map(|seed| format!("seed={seed}")));
    if parts.is_empty() {
        return "run".to_owned();
    }
    safe(&parts.join("_"))
}

/// Returns `text` if it is safe as a name, otherwise its safe part and a hash of the whole.
fn safe(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_-=+,.".contains(c);
    let name: String = text.chars().map(|c| if is_safe(c) { c } else { '-' }).collect();
    // Otherwise the folder would be hidden or look like an option, or Windows would cut off its dot.
    let name = name.trim_start_matches(['.', '-']).trim_end_matches('.');
    if !name.is_empty() && name == text && name.len() <= MAX_LENGTH {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = &name[..name.len().min(MAX_LENGTH - DIGITS - 1)];
    format!("{shown}~{}", &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(variant: &str) -> String {
        run_name(Some(variant), &IndexMap::new(), None)
    }

    #[test]
    fn numbers_have_one_form() {
        for (written, shown) in [
            ("1e-3", "0.001"),
            ("0.0010", "0.001"),
            ("1.0", "1"),
            ("+3", "3"),
            ("1e-5", "1e-5"),
            ("0.00003162", "3.162e-5"),
            ("9007199254740993", "9007199254740993"),
            ("2e7", "2e7"),
            ("0.0", "0"),
            ("67..82", "67..82"),
            ("inf", "inf"),
        ] {
            assert_eq!(plain(&Entry::new("x", vec![written.to_owned()])), shown);
        }
        assert_eq!(plain(&Entry::new("x", ["3", "1.50"].map(str::to_owned).to_vec())), "3,1.5");
    }

    #[test]
    fn names_are_safe_file_names() {
        let options = [("weight-decay", "1e-5"), ("head-lr", "0.001")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let name = run_name(Some("mixup"), &options, Some(3));
        assert_eq!(name, "mixup_head-lr=0.001_weight-decay=1e-5_seed=3");
        assert_eq!(run_name(None, &IndexMap::new(), None), "run");
        for odd in ["..", "a/b", "a b", "-x", ".x", "x.", "größer", "a\\b", "C:", "~", ""] {
            let name = named(odd);
            let rest = name.split_once('~').map(|(_, hash)| hash.len());
            assert_eq!(rest, Some(DIGITS), "{odd}: {name}");
            assert!(
                !name.starts_with(['.', '-']) && !name.contains(['/', '\\', ' ', ':']),
                "{name}"
            );
        }
        assert!(named("a/b") != named("a b"));
        let (long, other) = (named(&"x".repeat(500)), named(&"x".repeat(501)));
        assert!(long.len() == MAX_LENGTH && long != other, "{long}");
        assert_eq!(named(&"x".repeat(MAX_LENGTH)).len(), MAX_LENGTH);
    }
}
