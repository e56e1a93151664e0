//! Gradients on the host.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor, TensorData, Transaction};
use rayon::prelude::*;

use super::{floats, tree};
use crate::model::MultiViewNet;

/// The gradients of the parameters that are trained, in the order of the network; `None` for a
/// parameter that the lane's loss does not depend on. It is not the same as zeros: a parameter without
/// a gradient in any lane is not updated at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct HostGradients(pub Vec<Option<Vec<f32>>>);

impl HostGradients {
    /// Copies gradients of `net` from its device.
    pub(super) fn read(grads: GradientsParams, net: &MultiViewNet) -> Result<Self, ExecutionError> {
        struct Take(GradientsParams, Transaction, Vec<bool>);
        impl ModuleVisitor for Take {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !param.val().is_require_grad() {
                    return;
                }
                let grad = self.0.remove::<D>(param.id);
                self.2.push(grad.is_some());
                if let Some(grad) = grad {
                    self.1 = std::mem::take(&mut self.1).register(grad.inner());
                }
            }
        }
        let mut take = Take(grads, Transaction::default(), Vec::new());
        net.visit(&mut take);
        let Take(_, transaction, present) = take;
        if !present.contains(&true) {
            return Ok(Self(vec![None; present.len()]));
        }
        let mut values = transaction.try_execute()?.into_iter();
        let mut next = || floats(&values.next().expect("each present gradient was registered"));
        Ok(Self(present.into_iter().map(|present| present.then(&mut next)).collect()))
    }

    /// The gradients of these lanes together, which are `node` of the tree over all.
    pub(super) fn sum(mut lanes: Vec<Self>, node: Range<usize>) -> Self {
        // A lane without actions has no list.
        let count = lanes.iter().map(|lane| lane.0.len()).max().unwrap_or(0);
        lanes.iter_mut().for_each(|lane| lane.0.resize(count, None));
        let mut columns: Vec<Vec<Option<Vec<f32>>>> = (0..count).map(|_| Vec::new()).collect();
        for lane in lanes {
            for (column, values) in columns.iter_mut().zip(lane.0) {
                column.push(values);
            }
        }
        let total = |mut column: Vec<Option<Vec<f32>>>| {
            let mut lane = |lanes: &Range<usize>| {
                (lanes.len() == 1).then(|| column[lanes.start - node.start].take())
            };
            tree::total(&node, &mut lane, &mut add)
        };
        Self(columns.into_par_iter().map(total).collect())
    }

    /// Sends them to the device of `net`.
    pub(super) fn send(self, net: &MultiViewNet) -> GradientsParams {
        struct Put(std::vec::IntoIter<Option<Vec<f32>>>, GradientsParams);
        impl ModuleVisitor for Put {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let value = param.val();
                if !value.is_require_grad() {
                    return;
                }
                if let Some(Some(values)) = self.0.next() {
                    let value = value.inner();
                    let data = TensorData::new(values, value.dims());
                    self.1.register(param.id, Tensor::<D>::from_data(data, &value.device()));
                }
            }
        }
        let mut put = Put(self.0.into_iter(), GradientsParams::new());
        net.visit(&mut put);
        put.1
    }
}

/// The number of values of each parameter that is trained, in the order of the network.
pub(super) fn sizes(net: &MultiViewNet) -> Vec<usize> {
    struct Sizes(Vec<usize>);
    impl ModuleVisitor for Sizes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().is_require_grad() {
                self.0.push(param.lazy_shape().num_elements());
            }
        }
    }
    let mut sizes = Sizes(Vec::new());
    net.visit(&mut sizes);
    sizes.0
}

/// Adds the gradients of one parameter.
pub(super) fn add(left: Option<Vec<f32>>, right: Option<Vec<f32>>) -> Option<Vec<f32>> {
    match (left, right) {
        (Some(mut left), Some(right)) => {
            polyview_cpu::sum::add(&mut left, &right);
            Some(left)
        }
        (left, right) => left.or(right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_without_gradient_in_some_lanes_has_that_of_the_others() {
        let lane = |a: Option<f32>, b: Option<f32>| {
            HostGradients([a, b].map(|value| value.map(|value| vec![value, 2.0 * value])).to_vec())
        };
        let lanes = vec![
            lane(Some(1e8), None),
            HostGradients::default(),
            lane(Some(1.0), Some(-0.0)),
            lane(Some(-1e8), None),
        ];
        // ((1e8 + nothing) + (1 − 1e8)) in f32.
        let sum = HostGradients::sum(lanes, 4..8);
        assert_eq!(sum.0[0], Some(vec![1e8 + (1.0 - 1e8), 2e8 + (2.0 - 2e8)]));
        assert!(sum.0[1].as_ref().is_some_and(|values| values[0].is_sign_negative()));
        let none =
            HostGradients::sum(vec![HostGradients(vec![None]), HostGradients::default()], 0..2);
        assert_eq!(none.0, [None]);
    }
}
