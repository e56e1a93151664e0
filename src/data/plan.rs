//! The plan of a pass: which actions each batch reads, and how a batch is divided into lanes.

use std::collections::HashMap;
use std::ops::Range;

use super::place::Reading;

/// An action that a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    /// Index into the split's actions.
    pub sample: usize,
    /// Number of times that the pass has already read this action.
    pub earlier: usize,
}

impl Pick {
    /// Returns a pick of an action that is read only once.
    pub(super) fn once(sample: usize) -> Self {
        Self { sample, earlier: 0 }
    }
}

/// The batches of a pass over a split, as indices into its actions. Each batch is divided into
/// *lanes*: shares of its actions that are computed separately, on any device, and whose results
/// are combined in a fixed order. The result depends on the number of lanes, but not on where they
/// are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The actions of each lane of each batch.
    pub(super) batches: Vec<Vec<Vec<Pick>>>,
    /// Whether other processes read the other lanes of a batch.
    pub(super) partial: bool,
    /// Where in time and in the frame clips are read.
    pub(super) reading: Reading,
}

impl From<Vec<Vec<usize>>> for Plan {
    /// Makes a plan whose batches have one lane each.
    fn from(batches: Vec<Vec<usize>>) -> Self {
        let batches = picks(batches).into_iter().map(|actions| vec![actions]).collect();
        Self { batches, partial: false, reading: Reading::MIDDLE }
    }
}

/// Adds to each action of the batches the number of its earlier occurrences.
fn picks(batches: Vec<Vec<usize>>) -> Vec<Vec<Pick>> {
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut pick = |sample: usize| {
        let times = seen.entry(sample).or_insert(0);
        *times += 1;
        Pick { sample, earlier: *times - 1 }
    };
    batches.into_iter().map(|batch| batch.into_iter().map(&mut pick).collect()).collect()
}

impl Plan {
    /// Divides batches into `lanes` lanes with about the same number of clips; `clips` returns the
    /// number of clips of an action. In a batch with fewer actions than lanes, some lanes are
    /// empty.
    pub fn in_lanes(
        batches: Vec<Vec<usize>>,
        lanes: usize,
        clips: impl Fn(usize) -> usize,
    ) -> Self {
        if lanes <= 1 {
            return batches.into();
        }
        let cut = |actions: Vec<Pick>| deal(&actions, lanes, &|pick: Pick| clips(pick.sample));
        let batches = picks(batches).into_iter().map(cut).collect();
        Self { batches, partial: false, reading: Reading::MIDDLE }
    }

    /// Sets where clips are read; the default is the middle.
    #[must_use]
    pub fn reading(self, reading: Reading) -> Self {
        Self { reading, ..self }
    }

    /// Keeps only the given lanes, which one of several processes reads.
    ///
    /// # Panics
    /// If the plan has fewer lanes: the batches would be empty.
    #[must_use]
    pub fn share(mut self, lanes: Range<usize>) -> Self {
        for batch in &mut self.batches {
            self.partial |= lanes.len() < batch.len();
            let own = batch.get(lanes.clone());
            *batch = own.expect("a process only reads lanes that the plan has").to_vec();
        }
        self
    }

    /// Removes the first `count` batches.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.batches.drain(..count.min(self.batches.len()));
        self
    }
}

/// Deals actions to lanes, the largest first, each to the lane with the fewest clips so far (Graham
/// 1969, "Bounds on Multiprocessing Timing Anomalies"); a lane keeps the order of the batch.
fn deal<T: Copy>(actions: &[T], lanes: usize, clips: &impl Fn(T) -> usize) -> Vec<Vec<T>> {
    let mut positions: Vec<usize> = (0..actions.len()).collect();
    positions.sort_by_key(|&position| std::cmp::Reverse(clips(actions[position])));
    let mut dealt = vec![(0, Vec::new()); lanes];
    for position in positions {
        // Ties go to the lane with fewer actions, so that none stays empty.
        let lane = dealt.iter_mut().min_by_key(|(clips, positions)| (*clips, positions.len()));
        let (held, positions) = lane.expect("there is a lane");
        *held += clips(actions[position]);
        positions.push(position);
    }
    let in_order = |(_, mut positions): (usize, Vec<usize>)| {
        positions.sort_unstable();
        positions.into_iter().map(|position| actions[position]).collect()
    };
    dealt.into_iter().map(in_order).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_about_the_same_number_of_clips() {
        let clips = [2, 2, 4, 2, 3, 2, 2, 2];
        let lanes = deal(&[0, 1, 2, 3, 4, 5, 6, 7], 4, &|action| clips[action]);
        assert_eq!(lanes, [[2, 7], [4, 6], [0, 3], [1, 5]]);
        let count = |lane: &Vec<usize>| lane.iter().map(|&action| clips[action]).sum::<usize>();
        assert_eq!(lanes.iter().map(count).collect::<Vec<_>>(), [6, 5, 4, 4]);
    }

    #[test]
    fn every_action_is_in_exactly_one_lane() {
        for count in 0..9 {
            let actions: Vec<usize> = (0..count).map(|n| n * 3 % 7 + 10).collect();
            for lanes in 1..6 {
                let dealt = deal(&actions, lanes, &|action| action % 3 + 1);
                assert_eq!(dealt.len(), lanes);
                let mut all: Vec<usize> = dealt.iter().flatten().copied().collect();
                let mut expected = actions.clone();
                all.sort_unstable();
                expected.sort_unstable();
                assert_eq!(all, expected);
                assert!(count < lanes || dealt.iter().all(|lane| !lane.is_empty()), "{dealt:?}");
            }
        }
    }

    #[test]
    fn a_share_is_part_of_each_batch() {
        let plan = Plan::in_lanes(vec![vec![0, 1, 2], vec![3]], 3, |_| 1).share(1..3);
        let once = |sample| vec![Pick::once(sample)];
        assert_eq!(plan.batches, [[once(1), once(2)], [vec![], vec![]]]);
        assert!(plan.partial);
        let whole = Plan::in_lanes(vec![vec![0, 1]], 2, |_| 1).share(0..2);
        assert!(!whole.partial);
        assert_eq!(whole.skip(5).batches.len(), 0);
    }

    #[test]
    #[should_panic(expected = "a process only reads lanes that the plan has")]
    fn a_share_of_lanes_that_do_not_exist_is_not_an_empty_batch() {
        let _ = Plan::in_lanes(vec![vec![0, 1, 2]], 2, |_| 1).share(1..3);
    }

    #[test]
    fn repeated_actions_are_numbered() {
        let batches = vec![vec![4, 4, 2], vec![2, 4]];
        let earlier = |plan: Plan| -> Vec<Vec<(usize, usize)>> {
            let of = |batch: Vec<Vec<Pick>>| {
                batch.concat().into_iter().map(|pick| (pick.sample, pick.earlier)).collect()
            };
            plan.batches.into_iter().map(of).collect()
        };
        let expected = [vec![(4, 0), (4, 1), (2, 0)], vec![(2, 1), (4, 2)]];
        assert_eq!(earlier(batches.clone().into()), expected);
        // The numbers are the same when batches are skipped or divided into lanes.
        assert_eq!(earlier(Plan::from(batches.clone()).skip(1)), expected[1..]);
        let mut shared = earlier(Plan::in_lanes(batches, 2, |_| 1));
        shared.iter_mut().for_each(|batch| batch.sort_unstable());
        assert_eq!(shared, [vec![(2, 0), (4, 0), (4, 1)], vec![(2, 1), (4, 2)]]);
    }
}
