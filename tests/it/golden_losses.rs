//! Losses and class weights against PyTorch.

use burn::tensor::Device;
use polyview::data::balance::{BETA, class_weights, class_weights_with};
use polyview::losses::{CrossEntropy, Focal, Targets, TaskLoss, cross_entropy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::common::compare::{Worst, max_diff};
use crate::common::reference::{
    count, counts, entries, field, floats, floats32, nullable, number, text,
};
use crate::common::tensors::{tensor, values};
use crate::common::{adapter, fill, reference};

/// Returns a case's loss, as the type that training uses.
fn loss_of(case: &Value) -> Box<dyn TaskLoss> {
    let class_weights = nullable(case, "class_weights").map(floats32);
    let label_smoothing = number(case, "label_smoothing");
    let gamma = match text(case, "kind") {
        "cross_entropy" => return Box::new(CrossEntropy { class_weights, label_smoothing }),
        "focal" => vec![number(case, "gamma") as f32; count(case, "C")],
        "adaptive_focal" => floats32(field(case, "gamma_per_class")),
        other => panic!("unknown loss {other}"),
    };
    Box::new(Focal { gamma, class_weights, label_smoothing })
}

#[test]
fn golden_losses() {
    let file = reference::load("losses.json");
    for device in adapter::differentiable() {
        let mut worst = Worst::default();
        for case in entries(&file, "cases") {
            let (name, kind) = (text(case, "name"), text(case, "kind"));
            let size = ["N", "C"].map(|key| count(case, key));
            let scale = number(case, "logits_scale");
            let logits = fill::signed(text(case, "logits_name"), size[0] * size[1], scale);
            let logits = tensor(&logits, size, &device).require_grad();
            let targets = Targets::new(&counts(field(case, "targets")), size[1]);
            let loss = loss_of(case).loss(logits.clone(), &targets);
            let expected = number(case, "loss_f64");
            let error = (f64::from(values(loss.clone())[0]) - expected).abs() / expected.max(1.0);
            assert!(error < 2e-6, "{name}: loss off by {error:.2e}");
            worst.note(&format!("{kind} loss (relative)"), error);
            let grads = loss.backward();
            let ours = values(logits.grad(&grads).unwrap());
            let theirs = floats(field(case, "grad_logits"));
            let size = theirs.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
            let error = max_diff(&ours, &theirs) / size;
            let room = 10.0 * number(case, "grad_max_abs_diff_f32_f64");
            assert!(error < room.max(2e-6), "{name}: gradient off by {error:.2e}");
            worst.note(&format!("{kind} gradient"), error);
        }
        worst.print("losses");
    }
}

#[test]
fn golden_class_weights() {
    let file = reference::load("class_weights.json");
    for case in entries(&file, "cases") {
        let (name, counts) = (text(case, "strategy"), counts(field(case, "counts")));
        let expected = floats(field(case, "weights"));
        // "balanced" is balanced_capped without a cap.
        let (strategy, ratio, beta) = match name {
            "balanced" => ("balanced_capped", f64::INFINITY, BETA),
            "balanced_capped" => (name, number(case, "ratio"), BETA),
            "effective_number" => (name, f64::INFINITY, number(case, "beta")),
            _ => (name, f64::INFINITY, BETA),
        };
        let strategy = strategy.parse().unwrap();
        let ours = class_weights_with(strategy, &counts, ratio, beta);
        assert_eq!(ours.len(), expected.len(), "{name} {counts:?}");
        for (ours, theirs) in ours.iter().zip(&expected) {
            assert!((ours - theirs).abs() < 1e-8 * theirs, "{name} {counts:?}: {ours} {theirs}");
        }
        if beta == BETA {
            assert_eq!(class_weights(strategy, &counts, ratio), ours, "{name}");
        }
    }
}

#[test]
fn losses_of_mixed_actions_with_weights() {
    // Compares with the definition in f64, on random logits.
    let mut rng = ChaCha8Rng::seed_from_u64(rand::random());
    for (n, c) in [(1, 2), (5, 3), (7, 8)] {
        let logits: Vec<f32> = (0..n * c).map(|_| rng.random_range(-4.0..4.0)).collect();
        let weights: Vec<f32> = (0..c).map(|_| rng.random_range(0.2..3.0)).collect();
        let mut targets = Targets::new(&vec![0; n], c);
        // Mixed actions have two classes, of which one may be unknown.
        let shares: Vec<Vec<f64>> = (0..n)
            .map(|row| {
                let mut shares = vec![0.0; c];
                let first: f32 = rng.random_range(0.3..1.0);
                let second = if row % 2 == 0 { 1.0 - first } else { 0.0 };
                targets.add(row, 0, -1.0);
                for share in [first, second] {
                    let class = rng.random_range(0..c);
                    targets.add(row, class, share);
                    shares[class] += f64::from(share);
                }
                shares
            })
            .collect();
        let gamma: Vec<f32> = (0..c).map(|_| rng.random_range(0.0..3.0)).collect();
        let s = rng.random_range(0.0..0.5);
        let (mut sum, mut focal, mut divisor, mut mass) = (0.0, 0.0, 0.0, 0.0);
        for (row, shares) in logits.chunks(c).zip(&shares) {
            let log_sum = row.iter().map(|z| f64::from(*z).exp()).sum::<f64>().ln();
            let nll = |k: usize| f64::from(weights[k]) * (log_sum - f64::from(row[k]));
            let all: f64 = shares.iter().sum();
            let share = |k: usize| (1.0 - s) * shares[k] + s / c as f64 * all;
            let ce: f64 = (0..c).map(|k| share(k) * nll(k)).sum();
            let of = |factors: &[f32]| -> f64 {
                shares.iter().zip(factors).map(|(q, f)| q * f64::from(*f)).sum()
            };
            sum += ce;
            focal += (1.0 - (-ce).exp()).powf(of(&gamma)) * ce;
            divisor += of(&weights);
            mass += all;
        }
        let logits = tensor(&logits, [n, c], &Device::flex());
        let ours = values(cross_entropy(logits.clone(), &targets, Some(&weights), s))[0];
        assert!((f64::from(ours) - sum / divisor).abs() < 1e-5, "{ours} {}", sum / divisor);
        let (class_weights, label_smoothing) = (Some(weights), s);
        let ours =
            values(Focal { gamma, class_weights, label_smoothing }.loss(logits, &targets))[0];
        assert!((f64::from(ours) - focal / mass).abs() < 1e-5, "{ours} {}", focal / mass);
    }
}
