//! Value parsers. The field of an option names the parser with its range; errors say what is valid.

use std::fmt::Display;
use std::str::FromStr;

/// Largest whole number, which is TOML's largest integer.
const MAX_WHOLE: usize = i64::MAX as usize;

/// Parses a whole number.
pub(crate) fn whole(text: &str) -> Result<usize, String> {
    at_least(0)(text)
}

/// Returns a parser of whole numbers of at least `least`.
pub(crate) fn at_least(
    least: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=MAX_WHOLE).contains(number));
        number.ok_or_else(|| format!("must be a whole number of at least {least}"))
    }
}

/// Returns a parser of whole numbers between `least` and `most`, both included.
pub(crate) fn between(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    within::<usize>(least, most)
}

/// Like [`between`], for another type, which must be named: clap compares it with the field's type only
/// at run time.
pub(crate) fn within<T>(
    least: T,
    most: T,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a whole number between {least} and {most}"))
    }
}

/// Parses a number of epochs. It is limited because some work is done for each epoch before the first one
/// begins.
pub(crate) fn epochs(text: &str) -> Result<usize, String> {
    between(1, 100_000)(text)
}

/// Parses a size of at least 1, in the unit that the option names.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..1 << 40).contains(number));
    number.ok_or_else(|| "must be a whole number between 1 and 1099511627775".to_owned())
}

/// Parses a seed. TOML's largest integer is 2^63 - 1.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number between 0 and {}", i64::MAX))
}

/// Parses a number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0, "must be a number above 0")
}

/// Parses a number of at least 0, where 0 usually turns something off.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 0.0, "must be a number of at least 0")
}

/// Parses a number of at least 1.
pub(crate) fn factor(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 1.0, "must be a number of at least 1")
}

/// Parses a number of at least 0 and below 1.
pub(crate) fn below_one(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(&n), "must be a number of at least 0 and below 1")
}

/// Parses a number between 0 and 1, both excluded.
pub(crate) fn inside_unit(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n < 1.0, "must be a number between 0 and 1, both excluded")
}

/// Parses a number between 0 and 1, both included.
pub(crate) fn unit(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "must be a number from 0 to 1")
}

/// Parses a number above 0 and up to 1.
pub(crate) fn scale(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n <= 1.0, "must be a number above 0 and up to 1")
}

fn number(text: &str, fits: impl Fn(f64) -> bool, reason: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && fits(*n));
    number.ok_or_else(|| reason.to_owned())
}
