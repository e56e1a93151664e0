//! The order in which the values of lanes are added: a binary tree over the lanes' numbers.
//! Floating-point sums depend on the order, so it must depend only on the number of lanes.

use std::ops::Range;

/// Returns the two children of the node of these lanes, of which there are at least two. The number
/// of lanes of the left child is the largest power of two below `lanes.len()`, so that a device's
/// share of the lanes consists of few nodes.
fn halves(lanes: &Range<usize>) -> [Range<usize>; 2] {
    let left = lanes.len().div_ceil(2).next_power_of_two();
    let middle = lanes.start + left;
    [lanes.start..middle, middle..lanes.end]
}

/// Returns the largest nodes of the tree over `lanes` that lie within `share`, in order.
pub(super) fn nodes(share: &Range<usize>, lanes: &Range<usize>) -> Vec<Range<usize>> {
    if share.start >= lanes.end || lanes.start >= share.end {
        return Vec::new();
    }
    if share.start <= lanes.start && lanes.end <= share.end {
        return vec![lanes.clone()];
    }
    halves(lanes).iter().flat_map(|half| nodes(share, half)).collect()
}

/// Computes the value of the node of these lanes. `known` returns the value of a node if it has it;
/// it is called for a node before its children, and must have the value of every single lane that
/// it is called for.
pub(super) fn total<T>(
    lanes: &Range<usize>,
    known: &mut impl FnMut(&Range<usize>) -> Option<T>,
    add: &mut impl FnMut(T, T) -> T,
) -> T {
    if let Some(value) = known(lanes) {
        return value;
    }
    assert!(lanes.len() > 1, "lane {} has no value", lanes.start);
    let [left, right] = halves(lanes).map(|half| total(&half, known, add));
    add(left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lanes: usize, share: Option<Range<usize>>) -> String {
        let nodes = share.map_or_else(Vec::new, |share| nodes(&share, &(0..lanes)));
        let mut known = |node: &Range<usize>| match nodes.contains(node) {
            true => Some(format!("[{}-{}]", node.start, node.end - 1)),
            false => (node.len() == 1).then(|| node.start.to_string()),
        };
        total(&(0..lanes), &mut known, &mut |left, right| format!("({left}+{right})"))
    }

    #[test]
    fn lanes_are_added_in_a_binary_tree() {
        assert_eq!(text(1, None), "0");
        assert_eq!(text(3, None), "((0+1)+2)");
        assert_eq!(text(4, None), "((0+1)+(2+3))");
        assert_eq!(text(6, None), "(((0+1)+(2+3))+(4+5))");
        assert_eq!(text(7, None), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn a_share_of_the_lanes_consists_of_the_largest_nodes_within_it() {
        assert_eq!(text(4, Some(2..4)), "((0+1)+[2-3])");
        assert_eq!(text(6, Some(3..6)), "(((0+1)+(2+[3-3]))+[4-5])");
        assert_eq!(nodes(&(1..3), &(0..4)), [1..2, 2..3]);
        assert_eq!(nodes(&(0..4), &(0..4)), vec![0..4; 1]);
        assert!(nodes(&(2..2), &(0..4)).is_empty());
    }
}
