//! Steps of Adam or AdamW over parameters in one pass, averages of parameters, and the norm of all
//! gradients: WGSL compute shaders on wgpu, vector code on the CPU, Burn's operations elsewhere.

mod average;
mod norm;
mod steps;
pub(crate) mod wgsl;

use burn::tensor::Tensor;
use polyview_cpu::adam::Factors;

pub use average::towards;
pub use norm::l2_norm;
pub use steps::{Steps, together};

/// Settings of one step of Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), as PyTorch
/// defines them. With g the gradient times `scale`, plus `l2`·p:
/// m' = β₁·m + (1 − β₁)·g, v' = β₂·v + (1 − β₂)·g²,
/// p' = p·(1 − rate·decay) − rate/(1 − β₁ᵗ) · m' / (√v'/√(1 − β₂ᵗ) + ε).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Learning rate.
    pub rate: f64,
    /// Decoupled decay of the parameter (AdamW).
    pub decay: f64,
    /// Decay that is added to the gradient (Adam).
    pub l2: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// t: number of this step for the parameter, counted from 1.
    pub number: u32,
    /// Factor by which the gradient is multiplied first, for clipping.
    pub scale: f64,
}

impl Step {
    /// Returns 1 − βᵗ.
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powi(i32::try_from(self.number.max(1)).unwrap_or(i32::MAX))
    }

    /// Returns the coefficients of the update, the same for every implementation.
    fn factors(&self) -> Factors {
        Factors {
            keep: (1.0 - self.rate * self.decay) as f32,
            l2: self.l2 as f32,
            beta1: self.beta1 as f32,
            gain1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            gain2: (1.0 - self.beta2) as f32,
            size: (self.rate / self.correction(self.beta1)) as f32,
            root: self.correction(self.beta2).sqrt() as f32,
            inverse_root: (1.0 / self.correction(self.beta2).sqrt()) as f32,
            epsilon: self.epsilon as f32,
            scale: self.scale as f32,
        }
    }

    /// Returns the new parameter, m and v, given the old ones and the gradient. All are flat, of
    /// the same length and without automatic differentiation. The memory of the old ones is reused
    /// if nothing else holds it.
    pub fn apply(
        &self,
        value: Tensor<1>,
        grad: Tensor<1>,
        moments: [Tensor<1>; 2],
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        together(|steps| steps.push(self, value, grad, moments))
    }

    /// Like [`Self::apply`], with Burn's own operations.
    fn by_burn(
        &self,
        value: Tensor<1>,
        grad: Tensor<1>,
        [first, second]: [Tensor<1>; 2],
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let Factors { keep, l2, beta1, gain1, beta2, gain2, size, root, epsilon, scale, .. } =
            self.factors();
        let mut grad = grad.mul_scalar(scale);
        if l2 != 0.0 {
            grad = grad.add(value.clone().mul_scalar(l2));
        }
        let blend = |old: Tensor<1>, new: Tensor<1>, [beta, gain]: [f32; 2]| {
            old.mul_scalar(beta).add(new.mul_scalar(gain))
        };
        let first = blend(first, grad.clone(), [beta1, gain1]);
        let second = blend(second, grad.square(), [beta2, gain2]);
        let spread = second.clone().sqrt().div_scalar(root).add_scalar(epsilon);
        let step = first.clone().div(spread).mul_scalar(size);
        let value = value.mul_scalar(keep).sub(step);
        (value, [first, second])
    }
}
