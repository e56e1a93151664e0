//! Value parsers: the range of an option, named at its field. Each error says what would be valid.

use std::fmt::Display;
use std::str::FromStr;

/// Largest whole number: TOML's integers end there.
const MOST: usize = i64::MAX as usize;

/// A whole number.
pub(crate) fn whole(text: &str) -> Result<usize, String> {
    at_least(0)(text)
}

/// A whole number of at least `least`.
pub(crate) fn at_least(
    least: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=MOST).contains(number));
        number.ok_or_else(|| format!("must be a whole number of at least {least}"))
    }
}

/// A whole number between `least` and `most`, both included.
pub(crate) fn between(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    within::<usize>(least, most)
}

/// The same for another type, which must be named: clap does not check it against the field's before it runs.
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

/// A number of epochs. What is done for each of them before the first begins must not take long.
pub(crate) fn epochs(text: &str) -> Result<usize, String> {
    between(1, 100_000)(text)
}

/// A number of bytes, of a unit that the option names; at least 1.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..1 << 40).contains(number));
    number.ok_or_else(|| "must be a whole number between 1 and 1099511627775".to_owned())
}

/// A seed. TOML's integers end at 2^63 - 1.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number between 0 and {}", i64::MAX))
}

/// A number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0, "must be a number above 0")
}

/// A number of at least 0, where 0 usually turns something off.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 0.0, "must be a number of at least 0")
}

/// A number of at least 1.
pub(crate) fn factor(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 1.0, "must be a number of at least 1")
}

/// At least 0 and below 1.
pub(crate) fn below_one(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..1.0).contains(&n), "must be a number of at least 0 and below 1")
}

/// Between 0 and 1, both excluded.
pub(crate) fn inside_unit(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n < 1.0, "must be a number between 0 and 1, both excluded")
}

/// Between 0 and 1, both included.
pub(crate) fn unit(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "must be a number from 0 to 1")
}

/// Above 0 and up to 1.
pub(crate) fn scale(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0 && n <= 1.0, "must be a number above 0 and up to 1")
}

fn number(text: &str, fits: impl Fn(f64) -> bool, reason: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && fits(*n));
    number.ok_or_else(|| reason.to_owned())
}
