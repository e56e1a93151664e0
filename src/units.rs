//! Formatting quantities for display.

use std::fmt;

/// A number of bytes with a decimal unit: `4.3 MB`, `60.0 GB`.
pub(crate) struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            bytes if bytes >= 1e9 => write!(f, "{:.1} GB", bytes / 1e9),
            bytes if bytes >= 1e6 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes if bytes >= 1e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// Formats a number with the singular or plural of `noun`: `1 clip`, `2 clips`, `3 classes`.
pub(crate) fn plural<N: fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) {
        ""
    } else if noun.ends_with('s') {
        "es"
    } else {
        "s"
    };
    format!("{number} {noun}{ending}")
}

/// Formats a metric with three decimals; a dash without one.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// Merges consecutive equal names, with their count: `2 × name`.
pub(crate) fn counted(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut groups: Vec<(String, usize)> = Vec::new();
    for name in names {
        match groups.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => groups.push((name, 1)),
        }
    }
    let text = |(name, count)| if count == 1 { name } else { format!("{count} × {name}") };
    groups.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, counted, plural};

    #[test]
    fn consecutive_equal_names_are_counted() {
        let names = ["a", "a", "b", "a"].map(str::to_owned);
        assert_eq!(counted(names), ["2 × a", "b", "a"]);
    }

    #[test]
    fn one_is_singular() {
        let shown = [0_usize, 1, 2].map(|number| plural(number, "clip"));
        assert_eq!(shown, ["0 clips", "1 clip", "2 clips"]);
        assert_eq!([1_u64, 3].map(|number| plural(number, "class")), ["1 class", "3 classes"]);
    }

    #[test]
    fn sizes_have_the_largest_unit_below_them() {
        let shown = [0, 999, 1_000, 4_345_678, 60_000_000_000].map(|b| ByteSize(b).to_string());
        assert_eq!(shown, ["0 bytes", "999 bytes", "1.0 kB", "4.3 MB", "60.0 GB"]);
    }
}
