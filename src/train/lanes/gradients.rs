//! Gradients on the host: read-back, sums and upload.

use std::ops::Range;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor, TensorData, Transaction};
use rayon::prelude::*;

use super::groups::Group;
use super::tree;
use crate::kernels::host::floats;
use crate::model::MultiViewNet;

/// The gradients of the trainable parameters, or of a group of them, in the order of the network;
/// `None` for a parameter that the lane's loss does not depend on. That is not the same as zeros: a
/// parameter without a gradient in any lane is not updated at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::train) struct HostGradients(pub Vec<Option<Vec<f32>>>);

/// A pending read-back of some of a lane's gradients from its device.
pub(super) struct PendingRead {
    transaction: Transaction,
    present: Vec<bool>,
}

impl PendingRead {
    /// Takes the gradients of a group out of `grads` and registers them for read-back.
    pub(super) fn start(grads: &mut [GradientsParams], net: &MultiViewNet, group: &Group) -> Self {
        struct Take<'a> {
            grads: &'a mut [GradientsParams],
            /// Remaining parameters of the group.
            group: std::iter::Peekable<std::slice::Iter<'a, usize>>,
            /// Number of the next trainable parameter.
            next: usize,
            taken: PendingRead,
        }
        impl ModuleVisitor for Take<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if !param.val().is_require_grad() {
                    return;
                }
                self.next += 1;
                if self.group.next_if(|number| **number + 1 == self.next).is_none() {
                    return;
                }
                let grad = self.grads.iter_mut().find_map(|grads| grads.remove::<D>(param.id));
                self.taken.present.push(grad.is_some());
                if let Some(grad) = grad {
                    let transaction = std::mem::take(&mut self.taken.transaction);
                    self.taken.transaction = transaction.register(grad.inner());
                }
            }
        }
        let taken = Self { transaction: Transaction::default(), present: Vec::new() };
        let group = group.parameters.iter().peekable();
        let mut take = Take { grads, group, next: 0, taken };
        net.visit(&mut take);
        take.taken
    }

    /// Waits for the read-back.
    pub(super) fn finish(self) -> Result<HostGradients, ExecutionError> {
        let Self { transaction, present } = self;
        if !present.contains(&true) {
            return Ok(HostGradients(vec![None; present.len()]));
        }
        let mut values = transaction.try_execute()?.into_iter();
        let mut next = || floats(&values.next().expect("each present gradient was registered"));
        Ok(HostGradients(present.into_iter().map(|present| present.then(&mut next)).collect()))
    }
}

impl HostGradients {
    /// Adds up the gradients of `lanes`, which form the node `node` of the tree over all lanes.
    pub(super) fn sum(mut lanes: Vec<Self>, node: Range<usize>) -> Self {
        // A lane without actions has an empty list.
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

    /// Uploads the gradients to the device of `net`.
    pub(super) fn upload(self, net: &MultiViewNet) -> GradientsParams {
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

/// Adds two gradients of one parameter.
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
    fn lanes_without_a_gradient_of_a_parameter_are_left_out_of_its_sum() {
        let lane = |a: Option<f32>, b: Option<f32>| {
            HostGradients([a, b].map(|value| value.map(|value| vec![value, 2.0 * value])).to_vec())
        };
        let lanes = vec![
            lane(Some(1e8), None),
            HostGradients::default(),
            lane(Some(1.0), Some(-0.0)),
            lane(Some(-1e8), None),
        ];
        // ((1e8 + none) + (1 − 1e8)) in f32.
        let sum = HostGradients::sum(lanes, 4..8);
        assert_eq!(sum.0[0], Some(vec![1e8 + (1.0 - 1e8), 2e8 + (2.0 - 2e8)]));
        assert!(sum.0[1].as_ref().is_some_and(|values| values[0].is_sign_negative()));
        let none =
            HostGradients::sum(vec![HostGradients(vec![None]), HostGradients::default()], 0..2);
        assert_eq!(none.0, [None]);
    }
}
