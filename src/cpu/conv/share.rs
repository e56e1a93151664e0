//! The division of a group's output channels into tasks.

/// Minimum number of tasks per thread. The number of tasks does not affect the order of any sum.
const TASKS: usize = 3;

/// Minimum number of channel blocks that make reading the sources worthwhile.
const MIN_BLOCKS: usize = 2;

/// Returns the minimum number of tasks to aim for.
pub(super) fn min_tasks(threads: usize) -> usize {
    TASKS * threads
}

/// Returns the number of output channels per task, a multiple of `height`. It gives about
/// [`min_tasks`] tasks and minimises the work of the thread that has the most.
pub(super) fn channels_of_a_task(channels: usize, height: usize, threads: usize) -> usize {
    let blocks = channels.div_ceil(height);
    let most = blocks.div_ceil(min_tasks(threads)).max(MIN_BLOCKS);
    let least = blocks.div_ceil(2 * min_tasks(threads)).max(MIN_BLOCKS);
    let longest = |&size: &usize| blocks.div_ceil(size).div_ceil(threads) * size;
    let size = (least..=most).rev().min_by_key(longest);
    size.expect("at least one size is tried") * height
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_equal_shares_where_channels_allow() {
        // With six tasks of up to 48 channels, one thread would get 144 of the 256.
        assert_eq!(channels_of_a_task(256, 8, 2), 32);
        assert_eq!(channels_of_a_task(512, 8, 2), 64);
        assert_eq!(channels_of_a_task(128, 8, 2), 16);
        // With few channels, a task still has at least two blocks.
        assert_eq!(channels_of_a_task(20, 8, 16), 16);
        assert_eq!(channels_of_a_task(1, 6, 1), 12);
    }

    #[test]
    fn tasks_have_whole_blocks_and_their_number_is_close_to_the_target() {
        for channels in 1..700 {
            for threads in [1, 2, 3, 8, 12] {
                let size = channels_of_a_task(channels, 6, threads);
                assert!(size > 0 && size.is_multiple_of(6));
                assert!(channels.div_ceil(size) <= 2 * min_tasks(threads));
            }
        }
    }
}
