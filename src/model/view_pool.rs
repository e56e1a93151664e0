//! Merges the views of an action into one feature.

use burn::module::Module;
use burn::nn::{Linear, Relu};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Int, Tensor, TensorData};

use super::layers::Init;

/// Assignment of clips to actions. The clips of a batch are ordered action by action; absent views
/// have no clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewLayout {
    counts: Vec<usize>,
}

impl ViewLayout {
    /// Creates the layout of a batch whose action b has `counts[b]` views.
    pub fn new(counts: Vec<usize>) -> Self {
        Self { counts }
    }

    /// Returns the number of views of each action, B values.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Returns the number of clips N, the sum of the counts.
    pub fn clips(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Returns V, the largest number of views of an action.
    pub fn max_views(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// Spreads rows `[N, F]` to `[B, V, F]` (absent views repeat row 0, to be masked out) and returns
    /// them with the mask `[B, V]`, 1 where a view is real.
    pub fn spread(&self, rows: Tensor<2>) -> (Tensor<3>, Tensor<2>) {
        let (b, v) = (self.counts.len(), self.max_views());
        let device = rows.device();
        let features = rows.dims()[1];
        let (mut index, mut mask) = (vec![0_i32; b * v], vec![0_f32; b * v]);
        let mut next = 0;
        for (action, &count) in self.counts.iter().enumerate() {
            for view in 0..count {
                index[action * v + view] = next;
                mask[action * v + view] = 1.0;
                next += 1;
            }
        }
        let mask = Tensor::from_data(TensorData::new(mask, [b, v]), &device);
        // With no absent view the rows already are in order, which avoids the gather and, in the
        // backward pass, its scatter.
        let spread = if next as usize == b * v {
            rows.reshape([b, v, features])
        } else {
            let index = Tensor::<1, Int>::from_data(TensorData::new(index, [b * v]), &device);
            rows.select(0, index).reshape([b, v, features])
        };
        (spread, mask)
    }
}

/// How views are merged: a learned attention, or their mean.
#[derive(Module, Debug)]
pub struct ViewPool {
    /// Linear(F→128), ReLU, Linear(128→1); absent for the masked mean.
    pub attention: Option<(Linear, Relu, Linear)>,
}

/// Score of an absent view: its softmax weight is exactly 0 in f32.
const ABSENT_SCORE: f64 = -1e4;

impl ViewPool {
    /// Creates an attention over features of length `features`.
    pub fn attention(init: &mut Init, features: usize) -> Self {
        Self { attention: Some((init.linear(features, 128), Relu::new(), init.linear(128, 1))) }
    }

    /// Takes the mean of the present views.
    pub fn mean() -> Self {
        Self { attention: None }
    }

    /// Merges `[B, V, F]` under a mask `[B, V]` into `[B, F]`; the second result is each view's
    /// weight, `[B, V]`, with rows summing to 1. An action without any view gets the plain mean of
    /// its rows with attention, and 0 with the masked mean.
    pub fn forward(&self, features: Tensor<3>, mask: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let [b, v, f] = features.dims();
        let weights = match &self.attention {
            Some((first, _, second)) => {
                let rows = features.clone().reshape([b * v, f]);
                let scores = second.forward(relu(first.forward(rows))).reshape([b, v]);
                // The score is replaced, not added to, so that it is -1e4 whatever it was.
                let absent = mask.clone().mul_scalar(-1.0).add_scalar(1.0);
                let scores = scores.mul(mask).add(absent.mul_scalar(ABSENT_SCORE));
                softmax(scores, 1)
            }
            None => {
                let present = mask.clone().sum_dim(1).clamp_min(1.0);
                mask.div(present)
            }
        };
        let merged = features.mul(weights.clone().reshape([b, v, 1])).sum_dim(1).reshape([b, f]);
        (merged, weights)
    }
}
