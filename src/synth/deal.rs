//! Distributes classes over actions, and binary digits over views.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Returns one class per task for each of `actions` actions. The counts of a task's classes differ
/// by at most one (those of the first task are in proportion to `ratio`, unless that is empty); the
/// tasks are shuffled independently.
pub(super) fn classes(
    counts: &[usize],
    ratio: &[usize],
    actions: usize,
    seed: u64,
    split: u64,
) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(split);
    let mut dealt = vec![Vec::with_capacity(counts.len()); actions];
    for (task, &count) in counts.iter().enumerate() {
        // Which classes occur one more time than others is also random.
        let mut order: Vec<usize> = match ratio {
            [_, ..] if task == 0 => spread(ratio),
            _ => (0..count).collect(),
        };
        order.shuffle(&mut rng);
        let mut column: Vec<usize> = order.into_iter().cycle().take(actions).collect();
        column.shuffle(&mut rng);
        for (action, class) in dealt.iter_mut().zip(column) {
            action.push(class);
        }
    }
    dealt
}

/// Repeats each class by its part of the ratio in lowest terms.
fn spread(ratio: &[usize]) -> Vec<usize> {
    fn divisor(a: usize, b: usize) -> usize {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    let common = ratio.iter().fold(0, |common, &part| divisor(common, part)).max(1);
    let parts = ratio.iter().enumerate();
    parts.flat_map(|(class, part)| std::iter::repeat_n(class, part / common)).collect()
}

/// Returns the number of binary digits of the indices of `count` classes.
pub(super) fn digits(count: usize) -> usize {
    count.saturating_sub(1).checked_ilog2().map_or(0, |top| top as usize + 1)
}

/// Returns which of the `digits` digits a view shows.
pub(super) fn shown(digits: usize, view: usize, views: usize) -> Vec<usize> {
    // With fewer views than digits, each view takes every `views`-th digit.
    let groups = digits.min(views).max(1);
    (0..digits).filter(|digit| digit % groups == view % groups).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_cover_all_classes() {
        let needed = [1, 2, 3, 4, 5, 8, 9].map(digits);
        assert_eq!(needed, [0, 1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn every_digit_is_shown_by_some_view() {
        for digits in 0..5 {
            for views in 1..6 {
                let mut seen: Vec<usize> =
                    (0..views).flat_map(|view| shown(digits, view, views)).collect();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen, (0..digits).collect::<Vec<_>>());
            }
        }
        assert_eq!(shown(3, 0, 1), [0, 1, 2]);
        assert_eq!(shown(2, 3, 4), [1]);
    }

    #[test]
    fn classes_are_balanced_and_seeded() {
        let dealt = classes(&[4, 8], &[], 64, 7, 0);
        for (task, count) in [(0, 4), (1, 8)] {
            for class in 0..count {
                let times = dealt.iter().filter(|action| action[task] == class).count();
                assert_eq!(times, 64 / count);
            }
        }
        assert_eq!(dealt, classes(&[4, 8], &[], 64, 7, 0));
        assert_ne!(dealt, classes(&[4, 8], &[], 64, 8, 0));
        assert_ne!(dealt, classes(&[4, 8], &[], 64, 7, 1));
    }

    #[test]
    fn the_first_task_keeps_a_ratio() {
        let dealt = classes(&[4, 8], &[16, 8, 4, 2], 60, 7, 0);
        let times = |task: usize, class| dealt.iter().filter(|a| a[task] == class).count();
        assert_eq!([0, 1, 2, 3].map(|class| times(0, class)), [32, 16, 8, 4]);
        assert!((0..8).all(|class| [7, 8].contains(&times(1, class))));
    }
}
