//! Groups of parameters whose gradients a backward pass completes together.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::model::{MultiViewNet, stage_of};

/// The lowest stage of each group. Heads belong to the first; the stages below the last hold little.
const LOWEST: [usize; 4] = [4, 3, 2, 0];

/// Number of groups.
pub(super) const GROUPS: usize = LOWEST.len();

/// The group of a parameter of a stage, or of a head.
pub(super) fn group_of(stage: Option<usize>) -> usize {
    let of = |stage| LOWEST.iter().position(|lowest| stage >= *lowest);
    stage.and_then(of).unwrap_or(0)
}

/// How many groups are complete when all stages from this one on are.
pub(super) fn complete_from(stage: usize) -> usize {
    LOWEST.iter().take_while(|lowest| **lowest >= stage).count()
}

/// The parameters that are trained, in the order of the network.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The number of values of each.
    pub sizes: Vec<usize>,
    /// Which are in each group.
    pub groups: [Vec<usize>; GROUPS],
}

impl Layout {
    pub(super) fn of(net: &MultiViewNet) -> Self {
        struct Visitor(Vec<String>, Layout);
        impl ModuleVisitor for Visitor {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.0.push(name.to_owned());
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.pop();
            }

            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.val().is_require_grad() {
                    let group = group_of(stage_of(&self.0.join(".")));
                    self.1.groups[group].push(self.1.sizes.len());
                    self.1.sizes.push(param.lazy_shape().num_elements());
                }
            }
        }
        let mut visitor = Visitor(Vec::new(), Self::default());
        net.visit(&mut visitor);
        visitor.1
    }

    /// The sizes of a group's parameters.
    pub(super) fn sizes_of(&self, group: usize) -> Vec<usize> {
        self.groups[group].iter().map(|&parameter| self.sizes[parameter]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_complete_from_the_last_stage_down() {
        assert_eq!(
            [None, Some(4), Some(3), Some(2), Some(1), Some(0)].map(group_of),
            [0, 0, 1, 2, 3, 3]
        );
        assert_eq!([5, 4, 3, 2, 1, 0].map(complete_from), [0, 1, 2, 3, 3, 4]);
    }
}
