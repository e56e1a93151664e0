//! Randomly drawn combinations of options.

use std::collections::HashSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::name::{number, plain};
use crate::keyed::{generator, number_of};
use crate::options::Entry;

/// Contents of `[random]`.
#[derive(Debug)]
pub(super) struct Random {
    pub draws: usize,
    pub seed: u64,
    /// Options and what they are drawn from.
    pub options: Vec<(String, Choices)>,
}

/// What an option's values are drawn from.
#[derive(Debug)]
pub(super) enum Choices {
    /// One of these, all equally likely.
    OneOf(Vec<Entry>),
    /// A whole number, both ends included.
    Whole { from: i64, to: i64, log: bool },
    /// A number with four significant digits.
    Real { from: f64, to: f64, log: bool },
}

impl Random {
    /// Returns the draws, without those that repeat an earlier one. Each value depends only on the seed,
    /// the number of the draw and the option, so that adding draws or options does not change the others.
    pub(super) fn all(&self) -> Vec<Vec<Entry>> {
        let mut seen = HashSet::new();
        let draws = (0..self.draws as u64).map(|draw| {
            let options = self.options.iter().map(|(name, choices)| {
                let mut rng = generator(self.seed, draw, number_of(name), 0);
                choices.draw(name, &mut rng)
            });
            options.collect::<Vec<Entry>>()
        });
        let new = |draw: &Vec<Entry>| seen.insert(draw.iter().map(plain).collect::<Vec<_>>());
        draws.filter(new).collect()
    }
}

impl Choices {
    /// Returns why nothing can be drawn from a range; `None` if it is valid.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let (ordered, positive, log) = match self {
            Self::OneOf(_) => return None,
            Self::Whole { from, to, log } => (from < to, *from > 0, *log),
            Self::Real { from, to, log } => (from < to, *from > 0.0, *log),
        };
        match (ordered, log && !positive) {
            (false, _) => Some("from must be below to"),
            (_, true) => Some("a logarithmic range must begin above 0"),
            _ => None,
        }
    }

    fn draw(&self, name: &str, rng: &mut ChaCha8Rng) -> Entry {
        let text = match *self {
            Self::OneOf(ref values) => return values[rng.random_range(0..values.len())].clone(),
            Self::Whole { from, to, log: false } => rng.random_range(from..=to).to_string(),
            Self::Whole { from, to, log: true } => {
                // Each number is drawn from the part of the scale that is rounded to it.
                let ends = [from as f64 - 0.5, to as f64 + 0.5].map(f64::ln);
                let drawn = between(ends[0], ends[1], rng).exp().round() as i64;
                drawn.clamp(from, to).to_string()
            }
            Self::Real { from, to, log } => {
                let drawn = if log {
                    between(from.ln(), to.ln(), rng).exp()
                } else {
                    from + (to - from) * rng.random::<f64>()
                };
                // Four digits, so that the folder's name shows the exact value.
                let short = format!("{drawn:.3e}").parse().unwrap_or(drawn);
                number(short.clamp(from, to))
            }
        };
        Entry::new(name, vec![text])
    }
}

/// Draws a number from `from` up to `to`, which may be equal: neighbouring floats can have the same
/// logarithm.
fn between(from: f64, to: f64, rng: &mut ChaCha8Rng) -> f64 {
    if from < to { rng.random_range(from..to) } else { from }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_one_logarithm_can_be_drawn_from() {
        let draw = |choices: Choices| {
            assert_eq!(choices.fault(), None, "{choices:?}");
            let options = vec![("lr".to_owned(), choices)];
            let all = Random { draws: 20, seed: 3, options }.all();
            all.into_iter().map(|mut draw| plain(&draw.remove(0))).collect::<Vec<_>>()
        };
        let real = draw(Choices::Real { from: 1e5, to: 1e5_f64.next_up(), log: true });
        assert!(real.iter().all(|value| value.parse::<f64>().is_ok_and(|v| v == 1e5)), "{real:?}");
        let from = 1 << 60;
        let whole = draw(Choices::Whole { from, to: from + 1, log: true });
        let inside = |value: &String| value.parse().is_ok_and(|v: i64| v == from || v == from + 1);
        assert!(!whole.is_empty() && whole.iter().all(inside), "{whole:?}");
    }
}
