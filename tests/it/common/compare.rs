//! Errors relative to reference values, and tolerances for them.

use serde_json::Value;

use super::fill;
use super::reference::{counts, entries, field, floats, number};

/// Worst error seen per kind, printed for the record (`--nocapture`).
#[derive(Default)]
pub struct Worst(Vec<(String, f64)>);

impl Worst {
    pub fn note(&mut self, kind: &str, error: f64) {
        match self.0.iter_mut().find(|(k, _)| k == kind) {
            Some((_, worst)) => *worst = worst.max(error),
            None => self.0.push((kind.to_owned(), error)),
        }
    }

    pub fn print(&self, what: &str) {
        for (kind, error) in &self.0 {
            println!("golden {what}: worst {kind} error {error:.2e}");
        }
    }
}

/// Returns the largest of these errors; infinity if one is NaN, which `f64::max` would ignore.
fn largest(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().map(|e| if e.is_nan() { f64::INFINITY } else { e }).fold(0.0, f64::max)
}

/// Returns the largest absolute difference; infinity if one is NaN.
pub fn max_diff(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    largest(ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()))
}

/// Returns the l2 distance of our values from theirs divided by the l2 norm of theirs, with the named
/// parts of each concatenated to one vector.
pub fn relative_distance(ours: &[(String, Vec<f32>)], theirs: &[(String, Vec<f32>)]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let (mut distance, mut norm) = (0.0, 0.0);
    for ((name, ours), (same, theirs)) in ours.iter().zip(theirs) {
        assert_eq!((name, ours.len()), (same, theirs.len()));
        for (a, b) in ours.iter().zip(theirs) {
            distance += (f64::from(*a) - f64::from(*b)).powi(2);
            norm += f64::from(*b).powi(2);
        }
    }
    (distance / norm).sqrt()
}

/// Returns the error of `ours` against a checksum record, relative to the record's own magnitude: the
/// largest of the differences in l2, proj, abs_max and the first four values; infinity if one is NaN.
/// `key` is the checksum's own key.
pub fn checksum_error(key: &str, ours: &[f32], record: &Value) -> f64 {
    let count: usize = counts(field(record, "shape")).iter().product();
    assert_eq!(ours.len(), count, "{key}: wrong number of values");
    let wide: Vec<f64> = ours.iter().map(|v| f64::from(*v)).collect();
    let l2 = wide.iter().map(|v| v * v).sum::<f64>().sqrt();
    let signs = fill::unit(&format!("proj/{key}"), count);
    let proj: f64 = wide.iter().zip(&signs).map(|(g, u)| g * (2.0 * u - 1.0)).sum();
    let abs_max = wide.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let get = |name: &str| number(record, name);
    let scale = get("l2").max(1e-30);
    let peak = get("abs_max").max(1e-30);
    let first = entries(record, "first4");
    assert_eq!(first.len(), count.min(4), "{key}");
    let first = wide.iter().zip(first.iter().flat_map(floats));
    let sums = [(l2 - get("l2")) / scale, (proj - get("proj")) / scale];
    let single = first.map(|(ours, theirs)| (ours - theirs) / peak);
    let peaks = [(abs_max - get("abs_max")) / peak];
    largest(sums.into_iter().chain(peaks).chain(single).map(f64::abs))
}

/// Returns the tolerance for this gradient: five times the larger recorded distance between correct
/// runs, at least 2e-4.
pub fn gradient_tolerance(record: &Value) -> f64 {
    let recorded = ["f32_vs_f64_rel_l2", "f32_other_kernels_rel_l2"]
        .iter()
        .filter_map(|key| record[*key].as_f64())
        .fold(0.0, f64::max);
    (5.0 * recorded).max(2e-4)
}
