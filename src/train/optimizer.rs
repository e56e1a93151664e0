//! AdamW over the network's parameters, after clipping by the global gradient norm.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;

use super::TrainError;

/// Updates a network's parameters from gradients.
#[derive(Clone)]
pub struct Optimizer {
    inner: ModuleOptimizer,
    /// Bound on the global norm; 0 is off.
    clip_norm: f64,
}

impl Optimizer {
    /// AdamW with PyTorch's defaults (β 0.9 and 0.999, ε 1e-8), decoupled `weight_decay`.
    pub fn adamw(weight_decay: f64, clip_norm: f64) -> Self {
        let config = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay as f32);
        Self { inner: config.init(), clip_norm }
    }

    /// One update at rate `lr`. Gives the network and the gradients' norm before clipping.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        grads: GradientsParams,
        lr: f64,
    ) -> Result<(M, f64), TrainError> {
        let mut grads = grads;
        let norm = clip_global_norm(&module, &mut grads, self.clip_norm)?;
        Ok((self.inner.step(lr, module, grads), norm))
    }
}

/// Scales all gradients together so that their common L2 norm is at most `bound` (0: leaves them),
/// as torch.nn.utils.clip_grad_norm_ does. Burn's own clipping bounds each parameter by itself,
/// which is another thing. Gives the norm before clipping.
pub fn clip_global_norm<M: Module>(
    module: &M,
    grads: &mut GradientsParams,
    bound: f64,
) -> Result<f64, TrainError> {
    let mut squares = Squares { grads, sums: Vec::new() };
    module.visit(&mut squares);
    if squares.sums.is_empty() {
        return Ok(0.0);
    }
    // One read-back for all parameters.
    let total = Tensor::cat(squares.sums, 0).sum().try_into_scalar::<f32>()?;
    let norm = f64::from(total).sqrt();
    if bound > 0.0 && norm > bound {
        module.visit(&mut Scale { grads, factor: bound / (norm + 1e-6) });
    }
    Ok(norm)
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

struct Scale<'a> {
    grads: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}
