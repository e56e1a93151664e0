//! Optimizers: AdamW, Adam and SGD as defined by PyTorch, after clipping by the global gradient norm.
//! The state is keyed by parameter path, so that it can be saved and loaded on any device.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorReadError};

use crate::config::{Config, OptimizerKind};
use crate::optim::{self, Steps};

/// An update rule with its hyperparameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Loshchilov & Hutter 2019, algorithm 2; β2 0.999, ε 1e-8.
    AdamW {
        /// β1.
        beta1: f64,
        /// Decoupled weight decay.
        weight_decay: f64,
    },
    /// Kingma & Ba 2015, algorithm 1; β2 0.999, ε 1e-8.
    Adam {
        /// β1.
        beta1: f64,
        /// Weight decay, added to the gradient.
        weight_decay: f64,
    },
    /// torch.optim.SGD, without Nesterov momentum.
    Sgd {
        /// Momentum.
        momentum: f64,
        /// Weight decay, added to the gradient.
        weight_decay: f64,
    },
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl Rule {
    /// Returns the rule of a configuration.
    pub fn new(config: &Config) -> Self {
        let weight_decay = config.optimizer.weight_decay;
        match config.optimizer.optimizer {
            OptimizerKind::AdamW => Self::AdamW { beta1: BETA1, weight_decay },
            OptimizerKind::Adam => Self::Adam { beta1: BETA1, weight_decay },
            OptimizerKind::Sgd => Self::Sgd { momentum: config.optimizer.momentum, weight_decay },
        }
    }

    /// Replaces β1 or the momentum, as a one-cycle schedule requires.
    fn with_momentum(self, momentum: Option<f64>) -> Self {
        match (self, momentum) {
            (rule, None) => rule,
            (Self::AdamW { weight_decay, .. }, Some(beta1)) => Self::AdamW { beta1, weight_decay },
            (Self::Adam { weight_decay, .. }, Some(beta1)) => Self::Adam { beta1, weight_decay },
            (Self::Sgd { weight_decay, .. }, Some(momentum)) => {
                Self::Sgd { momentum, weight_decay }
            }
        }
    }
}

/// Optimizer state of one parameter, flattened.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Number of updates so far.
    pub steps: u32,
    /// Running mean of the gradients (Adam) or momentum buffer (SGD).
    pub first: Tensor<1>,
    /// Running mean of the squared gradients (Adam).
    pub second: Option<Tensor<1>>,
}

/// Updates a network's parameters from gradients.
#[derive(Debug, Clone)]
pub struct Optimizer {
    /// Update rule.
    pub rule: Rule,
    /// β2 of Adam and AdamW.
    pub beta2: f64,
    /// Bound on the global gradient norm; 0 disables clipping.
    pub clip_norm: f64,
    /// State of each parameter, by path. Parameters that have never had a gradient have none.
    pub moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// Creates an optimizer before its first step.
    pub fn new(rule: Rule, clip_norm: f64) -> Self {
        Self { rule, beta2: BETA2, clip_norm, moments: BTreeMap::new() }
    }

    /// Performs one update. `rate` returns the learning rate of a parameter, given its path in the
    /// module (`backbone.layer4.0.conv1.0.weight`); `momentum` replaces the rule's β1 or momentum.
    /// Parameters without a gradient (frozen) are not updated. Returns the module and the gradient norm
    /// before clipping.
    ///
    /// # Errors
    /// A device that fails.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        grads: GradientsParams,
        rate: &dyn Fn(&str) -> f64,
        momentum: Option<f64>,
    ) -> Result<(M, f64), TensorReadError> {
        let norm = global_norm(&module, &grads)?;
        Ok((self.update(module, grads, [norm, 1.0], rate, momentum), norm))
    }

    /// Like [`Optimizer::step`], for gradients that are multiplied by `loss_scale`. `norm` is the
    /// norm of the unscaled gradients.
    pub(super) fn update<M: Module>(
        &mut self,
        module: M,
        mut grads: GradientsParams,
        [norm, loss_scale]: [f64; 2],
        rate: &dyn Fn(&str) -> f64,
        momentum: Option<f64>,
    ) -> M {
        // As torch.nn.utils.clip_grad_norm_: one factor for all gradients. Burn's own clipping bounds
        // each parameter's gradient separately.
        let clips = self.clip_norm > 0.0 && norm > self.clip_norm;
        let clipped = if clips { self.clip_norm / (norm + 1e-6) } else { 1.0 };
        let scale = Some(clipped / loss_scale).filter(|scale| *scale != 1.0);
        optim::together(|steps| {
            let mut update = Update {
                rule: self.rule.with_momentum(momentum),
                beta2: self.beta2,
                scale,
                rate,
                grads: &mut grads,
                moments: &mut self.moments,
                steps,
                path: Vec::new(),
            };
            module.map(&mut update)
        })
    }
}

/// Returns the L2 norm over all gradients of a module.
pub(super) fn global_norm<M: Module>(
    module: &M,
    grads: &GradientsParams,
) -> Result<f64, TensorReadError> {
    struct Collect<'a> {
        grads: &'a GradientsParams,
        found: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.found.push(flat(grad.inner()));
            }
        }
    }
    let mut collect = Collect { grads, found: Vec::new() };
    module.visit(&mut collect);
    optim::l2_norm(collect.found)
}

/// Returns the path of the first parameter, in the order of the forward pass, whose gradient contains
/// NaN or infinity.
pub(super) fn first_not_finite<M: Module>(
    module: &M,
    grads: &GradientsParams,
) -> Result<Option<String>, TensorReadError> {
    struct Find<'a> {
        grads: &'a GradientsParams,
        path: Vec<String>,
        found: Result<Option<String>, TensorReadError>,
    }
    impl ModuleVisitor for Find<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(grad) = self.grads.get::<D>(param.id) else { return };
            if !matches!(self.found, Ok(None)) {
                return;
            }
            match grad.inner().try_into_vec_as::<f32>() {
                Ok(values) if values.iter().all(|value| value.is_finite()) => {}
                Ok(_) => self.found = Ok(Some(self.path.join("."))),
                Err(error) => self.found = Err(error),
            }
        }
    }
    let mut find = Find { grads, path: Vec::new(), found: Ok(None) };
    module.visit(&mut find);
    find.found
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

/// Walks through a module and updates the parameters that have a gradient.
struct Update<'a> {
    rule: Rule,
    beta2: f64,
    /// Factor applied to all gradients, if they are clipped or scaled.
    scale: Option<f64>,
    rate: &'a dyn Fn(&str) -> f64,
    grads: &'a mut GradientsParams,
    moments: &'a mut BTreeMap<String, Moments>,
    steps: &'a mut Steps,
    path: Vec<String>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let path = self.path.join(".");
        let (id, value, mapper) = param.consume();
        let (shape, tracked, wants) = (value.dims(), value.is_autodiff(), value.is_require_grad());
        let (rate, old) = ((self.rate)(&path), self.moments.remove(&path));
        let (value, grad) = (flat(value.inner()), flat(grad.inner()));
        let (value, moments) = self.updated(rate, value, grad, old);
        self.moments.insert(path, moments);
        let mut value = value.reshape(shape);
        if tracked {
            value = Tensor::from_inner(value).set_require_grad(wants);
        }
        Param::from_mapped_value(id, value, mapper)
    }
}

impl Update<'_> {
    /// Returns a parameter's new value and optimizer state; all tensors are flat.
    fn updated(
        &mut self,
        rate: f64,
        value: Tensor<1>,
        mut grad: Tensor<1>,
        old: Option<Moments>,
    ) -> (Tensor<1>, Moments) {
        let steps = old.as_ref().map_or(0, |old| old.steps) + 1;
        let (first, second) = old.map_or((None, None), |old| (Some(old.first), old.second));
        let (beta1, decay, l2) = match self.rule {
            Rule::AdamW { beta1, weight_decay } => (beta1, weight_decay, 0.0),
            Rule::Adam { beta1, weight_decay } => (beta1, 0.0, weight_decay),
            Rule::Sgd { momentum, weight_decay } => {
                if let Some(scale) = self.scale {
                    grad = grad.mul_scalar(scale);
                }
                if weight_decay != 0.0 {
                    grad = grad.add(value.clone().mul_scalar(weight_decay));
                }
                // As in torch: the momentum buffer starts as the first gradient itself.
                let direction = match first {
                    Some(old) => old.mul_scalar(momentum).add(grad),
                    None => grad,
                };
                let value = value.sub(direction.clone().mul_scalar(rate));
                return (value, Moments { steps, first: direction, second: None });
            }
        };
        let old = [first, second].map(|moment| moment.unwrap_or_else(|| value.zeros_like()));
        // Bias corrections as in PyTorch: with a cycling β1 they also use its current value.
        let step = optim::Step {
            rate,
            decay,
            l2,
            beta1,
            beta2: self.beta2,
            epsilon: EPSILON,
            number: steps,
            scale: self.scale.unwrap_or(1.0),
        };
        let (value, [first, second]) = self.steps.push(&step, value, grad, old);
        (value, Moments { steps, first, second: Some(second) })
    }
}
