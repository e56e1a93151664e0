//! Errors against reference values, and how large they may be.

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

/// Largest absolute difference.
pub fn max_diff(ours: &[f32], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Error of `ours` against a checksum record, relative to the record's own size: the largest of
/// the differences in l2, proj and the first four values. `key` is the checksum's own key.
pub fn checksum_error(key: &str, ours: &[f32], record: &Value) -> f64 {
    let count: usize = counts(field(record, "shape")).iter().product();
    assert_eq!(ours.len(), count, "{key}: another number of values");
    let wide: Vec<f64> = ours.iter().map(|v| f64::from(*v)).collect();
    let l2 = wide.iter().map(|v| v * v).sum::<f64>().sqrt();
    let signs = fill::unit(&format!("proj/{key}"), count);
    let proj: f64 = wide.iter().zip(&signs).map(|(g, u)| g * (2.0 * u - 1.0)).sum();
    let abs_max = wide.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let get = |name: &str| number(record, name);
    let scale = get("l2").max(1e-30);
    let mut error = ((l2 - get("l2")) / scale).abs();
    error = error.max(((proj - get("proj")) / scale).abs());
    error = error.max(((abs_max - get("abs_max")) / get("abs_max").max(1e-30)).abs());
    let first = entries(record, "first4");
    assert_eq!(first.len(), count.min(4), "{key}");
    for (ours, theirs) in wide.iter().zip(first.iter().flat_map(floats)) {
        error = error.max((ours - theirs).abs() / get("abs_max").max(1e-30));
    }
    error
}

/// Tolerance for this gradient: five times the recorded distance of two correct f32 runs.
pub fn gradient_tolerance(record: &Value) -> f64 {
    let recorded = ["f32_vs_f64_rel_l2", "f32_other_kernels_rel_l2"]
        .iter()
        .filter_map(|key| record[*key].as_f64())
        .fold(0.0, f64::max);
    (5.0 * recorded).max(2e-4)
}
