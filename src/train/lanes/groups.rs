//! Groups of parameters whose gradients are complete at the same point of a backward pass.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::model::{MultiViewNet, stage_of};

/// Candidates for the lowest stage of a group. The heads belong to the first group; stages 1 and 0 share
/// one, as they have few parameters.
const LOWEST: [usize; 4] = [4, 3, 2, 0];
/// Minimum number of values in a group, except for the last: fewer are not worth separate messages.
/// Half a megabyte takes as long over 25 GbE as the latency of such messages.
const ENOUGH: usize = 1 << 17;

/// The trainable parameters and their groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Number of values of each trainable parameter, in the order of the network.
    pub sizes: Vec<usize>,
    /// Groups, in the order in which the backward pass completes them.
    pub groups: Vec<Group>,
}

/// A group of trainable parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Lowest stage of the group.
    lowest: usize,
    /// Numbers of the group's parameters in [`Layout::sizes`], in order.
    pub parameters: Vec<usize>,
}

impl Layout {
    pub(super) fn of(net: &MultiViewNet) -> Self {
        #[derive(Default)]
        struct Visitor {
            path: Vec<String>,
            parameters: Vec<(Option<usize>, usize)>,
        }
        impl ModuleVisitor for Visitor {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.path.push(name.to_owned());
            }

            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.pop();
            }

            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.val().is_require_grad() {
                    let stage = stage_of(&self.path.join("."));
                    self.parameters.push((stage, param.lazy_shape().num_elements()));
                }
            }
        }
        let mut visitor = Visitor::default();
        net.visit(&mut visitor);
        Self::new(&visitor.parameters)
    }

    /// Creates the layout of parameters with these stages (`None` for heads) and sizes.
    fn new(parameters: &[(Option<usize>, usize)]) -> Self {
        let (mut groups, mut left) = (Vec::new(), 0..LOWEST[0] + 1);
        for lowest in LOWEST {
            let heads = left.end > LOWEST[0];
            let is_in =
                |stage: &Option<usize>| stage.map_or(heads, |s| (lowest..left.end).contains(&s));
            let all = || parameters.iter().enumerate().filter(|(_, (stage, _))| is_in(stage));
            let values: usize = all().map(|(_, (_, size))| size).sum();
            if values >= ENOUGH || (lowest == 0 && values > 0) {
                groups.push(Group { lowest, parameters: all().map(|(index, _)| index).collect() });
                left.end = lowest;
            }
        }
        Self { sizes: parameters.iter().map(|(_, size)| *size).collect(), groups }
    }

    /// Returns the number of groups that are complete once all stages from `stage` on are.
    pub(super) fn complete_from(&self, stage: usize) -> usize {
        self.groups.iter().take_while(|group| group.lowest >= stage).count()
    }

    /// Returns the sizes of a group's parameters.
    pub(super) fn sizes_of(&self, group: &Group) -> Vec<usize> {
        group.parameters.iter().map(|&parameter| self.sizes[parameter]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(parameters: &[(Option<usize>, usize)]) -> Vec<(usize, Vec<usize>)> {
        let groups = Layout::new(parameters).groups.into_iter();
        groups.map(|group| (group.lowest, group.parameters)).collect()
    }

    #[test]
    fn small_groups_are_joined() {
        let large = [Some(0), Some(1), Some(2), Some(3), Some(3), Some(4), None];
        let large = large.map(|stage| (stage, ENOUGH));
        let all = [(4, vec![5, 6]), (3, vec![3, 4]), (2, vec![2]), (0, vec![0, 1])];
        assert_eq!(groups(&large), all);
        // A small stage is joined with the next.
        let mut small = large;
        small[5].1 = 1;
        small[6].1 = 1;
        assert_eq!(groups(&small), [(3, vec![3, 4, 5, 6]), (2, vec![2]), (0, vec![0, 1])]);
        assert_eq!(groups(&large.map(|(stage, _)| (stage, 1))), [(0, vec![0, 1, 2, 3, 4, 5, 6])]);
        // Heads alone, large and small; stages without heads; nothing.
        assert_eq!(groups(&large[6..]), [(4, vec![0])]);
        assert_eq!(groups(&[(None, 1)]), [(0, vec![0])]);
        assert_eq!(groups(&large[..2]), [(0, vec![0, 1])]);
        assert_eq!(groups(&[]), []);
    }

    #[test]
    fn groups_are_complete_from_the_last_stage_down() {
        let stages = [Some(1), Some(2), Some(3), Some(4)].map(|stage| (stage, ENOUGH));
        let layout = Layout::new(&stages);
        assert_eq!([5, 4, 3, 2, 1, 0].map(|stage| layout.complete_from(stage)), [0, 1, 2, 3, 3, 4]);
        assert_eq!(layout.sizes_of(&layout.groups[3]), [ENOUGH]);
    }
}
