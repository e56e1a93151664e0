//! Class balance: weights from class counts, and samplers that draw rarer classes more often.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::options::choices;

choices! {
    /// How class weights are computed from class counts.
    pub WeightingStrategy {
        /// Inverse frequency, at most `max-weight-ratio` times the smallest.
        BalancedCapped = "balanced_capped",
        /// All 1.
        None = "none",
        /// Square root of the inverse frequency.
        Sqrt = "sqrt",
        /// Logarithm of 1 + the inverse frequency.
        Log = "log",
        /// Inverse effective number of samples (Cui et al. 2019, eq. 2, with β = 0.999).
        EffectiveNumber = "effective_number",
    }
}

/// β of the effective number of samples.
pub const BETA: f64 = 0.999;

/// Returns one weight per class, computed from the class counts; the smallest is 1. With n classes
/// and w_c = total / (n·count_c), each strategy divides its values by their minimum:
///
/// | strategy | value |
/// |---|---|
/// | balanced_capped | w_c, at most `max_ratio` times the smallest |
/// | sqrt | √w_c |
/// | log | ln(1 + w_c) |
/// | effective_number | (1 − β) / (1 − β^count_c), β = 0.999 (Cui et al. 2019, eq. 2) |
/// | none | 1 |
///
/// A class that does not occur counts as occurring once.
///
/// ```
/// use polyview::data::balance::{WeightingStrategy, class_weights};
/// let weights = class_weights(WeightingStrategy::BalancedCapped, &[300, 1200, 20], 10.0);
/// assert_eq!(weights, [4.0, 1.0, 10.0]);
/// ```
pub fn class_weights(strategy: WeightingStrategy, counts: &[usize], max_ratio: f64) -> Vec<f64> {
    class_weights_with(strategy, counts, max_ratio, BETA)
}

/// Like [`class_weights`], with the given β for the effective number of samples.
pub fn class_weights_with(
    strategy: WeightingStrategy,
    counts: &[usize],
    max_ratio: f64,
    beta: f64,
) -> Vec<f64> {
    let counts: Vec<f64> = counts.iter().map(|&count| count.max(1) as f64).collect();
    let total: f64 = counts.iter().sum();
    let inverse = |count: f64| total / (counts.len() as f64 * count);
    let smallest = counts.iter().map(|&count| inverse(count)).fold(f64::INFINITY, f64::min);
    let raw: Vec<f64> = counts
        .iter()
        .map(|&count| match strategy {
            WeightingStrategy::None => 1.0,
            WeightingStrategy::BalancedCapped => inverse(count).min(smallest * max_ratio),
            WeightingStrategy::Sqrt => inverse(count).sqrt(),
            WeightingStrategy::Log => inverse(count).ln_1p(),
            WeightingStrategy::EffectiveNumber => (1.0 - beta) / (1.0 - beta.powf(count)),
        })
        .collect();
    let least = raw.iter().copied().fold(f64::INFINITY, f64::min);
    raw.into_iter().map(|value| value / least).collect()
}

/// Returns the number of samples of each class in an epoch: all of the largest class, and
/// ⌊count_c · min(`factor`, largest / count_c)⌋ of every other class c.
pub fn draws(counts: &[usize], factor: f64) -> Vec<usize> {
    let largest = counts.iter().copied().max().unwrap_or(0);
    counts
        .iter()
        .map(|&count| match count {
            0 => 0,
            _ => {
                let wanted = count as f64 * factor.min(largest as f64 / count as f64);
                // A quotient such as 3·(10/3) may fall just short of the whole number.
                (wanted + 1e-9).floor() as usize
            }
        })
        .collect()
}

/// Returns the samples of one epoch with balanced classes, as shuffled indices into `labels`. Each
/// sample of the largest classes is used once; samples of the other classes are drawn with
/// replacement, [`draws`] times; samples of unknown class are used once. `(seed, epoch)` determines
/// the result.
pub fn balanced(
    labels: &[Option<usize>],
    classes: usize,
    factor: f64,
    seed: u64,
    epoch: usize,
) -> Vec<usize> {
    let mut members = vec![Vec::new(); classes];
    let mut order = Vec::new();
    for (index, &label) in labels.iter().enumerate() {
        match label {
            Some(label) => members[label].push(index),
            None => order.push(index),
        }
    }
    let counts: Vec<usize> = members.iter().map(Vec::len).collect();
    let largest = counts.iter().copied().max().unwrap_or(0);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // These streams are not used by the plain shuffle.
    rng.set_stream((1 << 32) + epoch as u64);
    for (members, draws) in members.iter().zip(draws(&counts, factor)) {
        if members.len() == largest {
            order.extend_from_slice(members);
        } else {
            order.extend((0..draws).map(|_| members[rng.random_range(0..members.len())]));
        }
    }
    order.shuffle(&mut rng);
    order
}

/// How the classes of an epoch are balanced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// Every action once.
    Plain,
    /// Classes balanced with this oversampling factor.
    Balanced {
        /// Rarer classes are drawn at most this many times as often as they occur.
        factor: f64,
    },
    /// The factor rises in equal steps from `start` to `end` over `epochs` epochs.
    Progressive {
        /// Factor of the first epoch.
        start: f64,
        /// Factor from epoch `epochs` on.
        end: f64,
        /// Number of epochs over which the factor rises.
        epochs: usize,
    },
}

impl Sampling {
    /// Returns the oversampling factor of an epoch, counted from 0; `None` for [`Sampling::Plain`].
    pub fn factor(&self, epoch: usize) -> Option<f64> {
        match *self {
            Self::Plain => None,
            Self::Balanced { factor } => Some(factor),
            Self::Progressive { start, end, epochs } => {
                let progress = epoch as f64 / epochs.saturating_sub(1).max(1) as f64;
                Some(start + (end - start) * progress.min(1.0))
            }
        }
    }
}
