//! The order in which the values of lanes are added: in a binary tree over their numbers. Sums of
//! floats depend on it, so it must depend on nothing but the number of lanes.

use std::ops::Range;

/// The two nodes below that of these lanes, of which there are at least two. The left one has as many
/// lanes as the largest power of two below their number, so that a device's share of the lanes is few
/// nodes.
fn halves(lanes: &Range<usize>) -> [Range<usize>; 2] {
    let left = lanes.len().div_ceil(2).next_power_of_two();
    let middle = lanes.start + left;
    [lanes.start..middle, middle..lanes.end]
}

/// The largest nodes of the tree over `lanes` that lie within `share`, in order.
pub(super) fn nodes(share: &Range<usize>, lanes: &Range<usize>) -> Vec<Range<usize>> {
    if share.start >= lanes.end || lanes.start >= share.end {
        return Vec::new();
    }
    if share.start <= lanes.start && lanes.end <= share.end {
        return vec![lanes.clone()];
    }
    halves(lanes).iter().flat_map(|half| nodes(share, half)).collect()
}

/// The value of the node of these lanes; `given` is asked for a node before those below it, and knows
/// every single lane.
pub(super) fn total<T>(
    lanes: &Range<usize>,
    given: &mut impl FnMut(&Range<usize>) -> Option<T>,
    add: &mut impl FnMut(T, T) -> T,
) -> T {
    if let Some(value) = given(lanes) {
        return value;
    }
    assert!(lanes.len() > 1, "lane {} has no value", lanes.start);
    let [left, right] = halves(lanes).map(|half| total(&half, given, add));
    add(left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lanes: usize, share: Option<Range<usize>>) -> String {
        let given = share.map_or_else(Vec::new, |share| nodes(&share, &(0..lanes)));
        let mut known = |node: &Range<usize>| match given.contains(node) {
            true => Some(format!("[{}-{}]", node.start, node.end - 1)),
            false => (node.len() == 1).then(|| node.start.to_string()),
        };
        total(&(0..lanes), &mut known, &mut |left, right| format!("({left}+{right})"))
    }

    #[test]
    fn the_order_depends_on_the_number_of_lanes() {
        assert_eq!(text(1, None), "0");
        assert_eq!(text(3, None), "((0+1)+2)");
        assert_eq!(text(4, None), "((0+1)+(2+3))");
        assert_eq!(text(6, None), "(((0+1)+(2+3))+(4+5))");
        assert_eq!(text(7, None), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn a_share_of_the_lanes_is_added_first_where_the_order_allows() {
        assert_eq!(text(4, Some(2..4)), "((0+1)+[2-3])");
        assert_eq!(text(6, Some(3..6)), "(((0+1)+(2+[3-3]))+[4-5])");
        assert_eq!(nodes(&(1..3), &(0..4)), [1..2, 2..3]);
        assert_eq!(nodes(&(0..4), &(0..4)), vec![0..4; 1]);
        assert!(nodes(&(2..2), &(0..4)).is_empty());
    }
}
