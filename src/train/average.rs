//! An exponential moving average of a network's weights, which is validated and saved instead of the
//! weights being trained.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use crate::model::{ModelConfig, MultiViewNet};
use crate::optim;

/// Exponential moving average of a network's weights. After each update, average ← d·average +
/// (1 − d)·weights with d = min(decay, (1 + t)/(10 + t)) for update t, so that early weights are soon
/// forgotten. The running statistics of batch norm are averaged too.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    updates: u64,
    /// Network with the averaged weights; `None` only during an update.
    net: Option<MultiViewNet>,
}

impl WeightAverage {
    /// Starts an average from the weights of `net`, whose architecture is `model`.
    pub fn new(decay: f64, net: &MultiViewNet, model: &ModelConfig, device: &Device) -> Self {
        // Running statistics are shared between clones, so the average needs a network of its own.
        let own = model.init(0, device).with_half(net.backbone.is_half());
        let mut average = Self::resume(decay, 0, own);
        average.blend(net, 1.0);
        average
    }

    /// Resumes an average after `updates` updates.
    pub fn resume(decay: f64, updates: u64, net: MultiViewNet) -> Self {
        Self { decay, updates, net: Some(net) }
    }

    /// Sets whether activations are stored in half precision or in f32.
    #[must_use]
    pub fn with_half(self, half: bool) -> Self {
        Self { net: self.net.map(|net| net.with_half(half)), ..self }
    }

    /// Returns the number of updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Returns the network with the averaged weights.
    pub fn net(&self) -> &MultiViewNet {
        self.net.as_ref().expect("the network is only absent during an update")
    }

    /// Updates the average with the network's weights after a training step.
    pub fn update(&mut self, net: &MultiViewNet) {
        self.updates += 1;
        let t = self.updates as f64;
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        self.blend(net, (1.0 - decay) as f32);
    }

    /// Swaps the averaged network with another one.
    pub(super) fn swap(&mut self, net: &mut Option<MultiViewNet>) {
        std::mem::swap(&mut self.net, net);
    }

    fn blend(&mut self, net: &MultiViewNet, share: f32) {
        let mut new = Collect(Vec::new());
        net.visit(&mut new);
        let mut blend = Blend { share, new: new.0.into_iter() };
        self.net = self.net.take().map(|own| own.map(&mut blend));
    }
}

/// Collects all parameters and running statistics, flattened.
struct Collect(Vec<Tensor<1>>);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(flat(param.val().inner()));
    }
}

/// Moves each value towards the corresponding new value.
struct Blend {
    share: f32,
    new: std::vec::IntoIter<Tensor<1>>,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, old, mapper) = param.consume();
        let new = self.new.next().expect("both networks have the same parameters");
        let (shape, tracked, wants) = (old.dims(), old.is_autodiff(), old.is_require_grad());
        // A share of 1 is an exact copy; the weighted sum would round.
        let next = match self.share {
            1.0 => new,
            share => optim::towards(flat(old.inner()), new, share),
        };
        let mut value = next.reshape(shape);
        if tracked {
            value = Tensor::from_inner(value).set_require_grad(wants);
        }
        Param::from_mapped_value(id, value, mapper)
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    tensor.reshape([count])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernels::host::floats;
    use crate::model::BackboneKind;
    use crate::model::state_dict::collect;
    use crate::schema::Schema;

    fn values(net: &MultiViewNet) -> Vec<f64> {
        let all = collect(net).unwrap().into_values();
        all.flat_map(|data| floats(&data)).map(f64::from).collect()
    }

    #[test]
    fn the_average_follows_the_formula() {
        let model = ModelConfig::new(BackboneKind::R3dTiny, &Schema::mvfoul().unwrap());
        let device = Device::flex().autodiff();
        let first = model.init(1, &device);
        let mut average = WeightAverage::new(0.3, &first, &model, &device);
        assert_eq!(values(average.net()), values(&first));
        let mut expected = values(&first);
        for (update, seed) in (1..).zip([2, 3, 4]) {
            let net = model.init(seed, &device);
            average.update(&net);
            // 2/11 and 3/12 are below the decay, 4/13 is above it.
            let decay = f64::min(0.3, (1.0 + f64::from(update)) / (10.0 + f64::from(update)));
            for (old, new) in expected.iter_mut().zip(values(&net)) {
                *old = decay * *old + (1.0 - decay) * new;
            }
            let found = values(average.net());
            let pairs = found.iter().zip(&expected);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-6, "update {update}: off by {worst}");
        }
        assert_eq!(average.updates(), 3);
        assert_eq!(values(&first), values(&model.init(1, &device)), "the network stays as it was");
    }
}
