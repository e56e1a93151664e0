//! How the output channels of a group are shared among threads.

/// Tasks per thread at least. How many there are changes nothing in the order of any sum.
const TASKS: usize = 3;

/// The fewest blocks of channels that are worth reading a source for.
const FEWEST: usize = 2;

/// Tasks wanted at least.
pub(super) fn wanted(threads: usize) -> usize {
    TASKS * threads
}

/// Output channels of a task: whole blocks of `height`, in about as many tasks as are [`wanted`], such
/// that the thread with the most work has as little as possible.
pub(super) fn channels_of_a_task(channels: usize, height: usize, threads: usize) -> usize {
    let blocks = channels.div_ceil(height);
    let most = blocks.div_ceil(wanted(threads)).max(FEWEST);
    let least = blocks.div_ceil(2 * wanted(threads)).max(FEWEST);
    let longest = |&size: &usize| blocks.div_ceil(size).div_ceil(threads) * size;
    let size = (least..=most).rev().min_by_key(longest);
    size.expect("at least one size is tried") * height
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_equal_shares_where_channels_allow() {
        // Six tasks of 48 channels would leave one thread 144 of 256.
        assert_eq!(channels_of_a_task(256, 8, 2), 32);
        assert_eq!(channels_of_a_task(512, 8, 2), 64);
        assert_eq!(channels_of_a_task(128, 8, 2), 16);
        // Few channels: a task has no fewer than two blocks.
        assert_eq!(channels_of_a_task(20, 8, 16), 16);
        assert_eq!(channels_of_a_task(1, 6, 1), 12);
    }

    #[test]
    fn a_task_has_whole_blocks_and_there_are_about_as_many_tasks_as_wanted() {
        for channels in 1..700 {
            for threads in [1, 2, 3, 8, 12] {
                let size = channels_of_a_task(channels, 6, threads);
                assert!(size > 0 && size.is_multiple_of(6));
                assert!(channels.div_ceil(size) <= 2 * wanted(threads));
            }
        }
    }
}
