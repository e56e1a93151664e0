//! Losses over the logits of one task, defined as in PyTorch.
//!
//! # Adding a loss
//!
//! A loss is a type that implements [`TaskLoss`] and is passed to
//! [`crate::train::Objective::with_loss`]:
//!
//! ```
//! use burn::tensor::{Device, Tensor, activation::softmax};
//! use polyview::losses::{Targets, TaskLoss};
//!
//! /// Mean squared distance between probabilities and targets (Brier 1950).
//! #[derive(Debug)]
//! struct Brier;
//!
//! impl TaskLoss for Brier {
//!     fn loss(&self, logits: Tensor<2>, targets: &Targets) -> Tensor<1> {
//!         let expected = targets.tensor(&logits.device());
//!         softmax(logits, 1).sub(expected).square().sum_dim(1).mean()
//!     }
//! }
//!
//! let logits = Tensor::<2>::zeros([3, 2], &Device::flex());
//! let loss: f32 = Brier.loss(logits, &Targets::new(&[0, 1, 1], 2)).into_scalar();
//! assert!((loss - 0.5).abs() < 1e-6);
//! ```
//!
//! To make it available as an option, add a name to [`crate::config::LossFunction`] and an arm to
//! `loss` in `src/train/objective.rs`.

mod targets;

pub use targets::Targets;

use std::fmt::Debug;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

/// A task's loss.
pub trait TaskLoss: Debug + Send + Sync {
    /// Computes the mean loss over a batch of logits `[B, C]` and their targets, as `[1]`.
    fn loss(&self, logits: Tensor<2>, targets: &Targets) -> Tensor<1>;

    /// Returns the divisor of that mean: the weight of these targets when the mean of a batch is
    /// computed from the means of its parts.
    fn divisor(&self, targets: &Targets) -> f64 {
        targets.total()
    }
}

/// Cross-entropy; see [`cross_entropy`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// One weight per class; all 1 if absent.
    pub class_weights: Option<Vec<f32>>,
    /// Share of the target distributed over all classes, 0 to 1.
    pub label_smoothing: f64,
}

impl TaskLoss for CrossEntropy {
    fn loss(&self, logits: Tensor<2>, targets: &Targets) -> Tensor<1> {
        cross_entropy(logits, targets, self.class_weights.as_deref(), self.label_smoothing)
    }

    fn divisor(&self, targets: &Targets) -> f64 {
        f64::from(weight_sum(targets, self.class_weights.as_deref()))
    }
}

/// Focal loss; see [`focal`].
#[derive(Debug, Clone, PartialEq)]
pub struct Focal {
    /// Exponent γ per class of the task.
    pub gamma: Vec<f32>,
    /// One weight per class; all 1 if absent.
    pub class_weights: Option<Vec<f32>>,
    /// Share of the target distributed over all classes, 0 to 1.
    pub label_smoothing: f64,
}

impl TaskLoss for Focal {
    fn loss(&self, logits: Tensor<2>, targets: &Targets) -> Tensor<1> {
        let weights = self.class_weights.as_deref();
        focal(logits, targets, weights, self.label_smoothing, &self.gamma)
    }
}

/// Computes the mean cross-entropy of logits `[B, C]` against targets with shares q, with label
/// smoothing s in [0, 1] and optional class weights w:
///
/// ce_i = Σ_c ((1 − s)·q_ic + s/C·Σ_k q_ik)·w_c·(−log p_ic), loss = Σ_i ce_i / Σ_i Σ_c q_ic·w_c
///
/// If each action has one class, this equals torch.nn.functional.cross_entropy. If actions have
/// several, PyTorch divides by B, which is the same without weights. Returns a scalar as `[1]`.
///
/// # Panics
/// If the number of weights differs from the number of classes.
pub fn cross_entropy(
    logits: Tensor<2>,
    targets: &Targets,
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
) -> Tensor<1> {
    let divisor = weight_sum(targets, class_weights);
    weighted_nll(logits, targets, class_weights, label_smoothing, divisor).sum()
}

/// Returns Σ_i Σ_c q_ic·w_c.
fn weight_sum(targets: &Targets, class_weights: Option<&[f32]>) -> f32 {
    match class_weights {
        Some(weights) => targets.weighted(weights).into_iter().sum(),
        None => targets.total() as f32,
    }
}

/// Computes the mean focal loss (Lin et al. 2017, eq. 4, in the form that most PyTorch trainers
/// use) of logits `[B, C]`, with γ per class:
///
/// loss = mean((1 − exp(−ce_i))^γ_i·ce_i), γ_i = Σ_c q_ic·γ_c
///
/// with q and ce_i as in [`cross_entropy`], including weights and smoothing; exp(−ce_i) is a
/// probability only without them. The mean is over B. Returns a scalar as `[1]`.
///
/// # Panics
/// If the number of weights or of γ values differs from the number of classes.
pub fn focal(
    logits: Tensor<2>,
    targets: &Targets,
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
    gamma: &[f32],
) -> Tensor<1> {
    let device = logits.device();
    let ce = weighted_nll(logits, targets, class_weights, label_smoothing, 1.0).sum_dim(1);
    let gammas = TensorData::new(targets.weighted(gamma), [targets.len(), 1]);
    let gammas = Tensor::<2>::from_data(gammas, &device);
    // The clamp keeps the logarithm finite if a sample's loss is 0 in f32.
    let missing = ce.clone().neg().exp().neg().add_scalar(1.0).clamp_min(1e-9);
    let mean = missing.log().mul(gammas).exp().mul(ce).mean();
    // Shares of actions without a known class are excluded from the mean.
    let (counted, actions) = (targets.total(), targets.len() as f64);
    if counted == actions { mean } else { mean.mul_scalar(actions / counted) }
}

/// Returns the terms of cross-entropy `[B, C]`, divided by `divisor`.
fn weighted_nll(
    logits: Tensor<2>,
    targets: &Targets,
    class_weights: Option<&[f32]>,
    label_smoothing: f64,
    divisor: f32,
) -> Tensor<2> {
    let [b, c] = logits.dims();
    if let Some(weights) = class_weights {
        let given = weights.len();
        assert!(given == c, "the loss has weights for {given} classes, but the task has {c}");
    }
    let weight = |class: usize| class_weights.map_or(1.0, |w| w[class]);
    // A constant matrix combines smoothing, weights and divisor, so the device only multiplies
    // once.
    let smooth = label_smoothing as f32;
    let mut factors = vec![0.0_f32; b * c];
    for (row, shares) in factors.chunks_mut(c).zip(targets.rows()) {
        let all: f32 = shares.iter().sum();
        for (class, (factor, share)) in row.iter_mut().zip(shares).enumerate() {
            let target = share * (1.0 - smooth) + all * (smooth / c as f32);
            *factor = -target * weight(class) / divisor;
        }
    }
    let factors = Tensor::<2>::from_data(TensorData::new(factors, [b, c]), &logits.device());
    log_softmax(logits, 1).mul(factors)
}

/// Returns the index of the largest logit in each row of `[B, C]`, as `[B]`.
pub fn argmax(logits: Tensor<2>) -> Tensor<1, Int> {
    let [b, _] = logits.dims();
    logits.argmax(1).reshape([b])
}
