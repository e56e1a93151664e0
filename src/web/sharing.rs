//! Which tensors lie in one buffer, one after the other.

use std::cmp::Reverse;

/// A tensor and the launches from the first to the last that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

impl Lifetime {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Buffers for tensors of which several are never needed at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Bytes of each buffer.
    pub sizes: Vec<usize>,
    /// The buffer of each tensor.
    pub buffer: Vec<usize>,
}

impl Sharing {
    /// The largest tensors choose first ("greedy by size for shared objects" of Pisarchyk and Lee 2020,
    /// "Efficient Memory Management for Deep Neural Net Inference"). Of equal ones, which a network has
    /// many of, the first or those that live longest: whichever takes less.
    pub(super) fn new(tensors: &[Lifetime]) -> Self {
        let by_size = |of_equals: fn(&Lifetime) -> usize| {
            let mut order: Vec<usize> = (0..tensors.len()).collect();
            order.sort_by_key(|&at| Reverse((tensors[at].bytes, of_equals(&tensors[at]))));
            Self::in_order(tensors, &order)
        };
        let (first, longest) = (by_size(|_| 0), by_size(|tensor| tensor.last - tensor.first));
        if longest.total() < first.total() { longest } else { first }
    }

    /// Each tensor takes a buffer that none of its contemporaries has; none is larger than those before
    /// it.
    fn in_order(tensors: &[Lifetime], order: &[usize]) -> Self {
        let mut users: Vec<Vec<usize>> = Vec::new();
        let mut buffer = vec![0; tensors.len()];
        for &tensor in order {
            let is_free = |users: &Vec<usize>| {
                !users.iter().any(|&user| tensors[user].overlaps(&tensors[tensor]))
            };
            // The smallest one is the last that was made.
            let found = users.iter().rposition(is_free).unwrap_or_else(|| {
                users.push(Vec::new());
                users.len() - 1
            });
            users[found].push(tensor);
            buffer[tensor] = found;
        }
        // The first user is the largest.
        let sizes = users.iter().map(|users| tensors[users[0]].bytes).collect();
        Self { sizes, buffer }
    }

    /// Bytes of all buffers.
    pub(super) fn total(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// The most bytes that are in use at once: no sharing takes less.
pub(super) fn least(tensors: &[Lifetime]) -> usize {
    let used = |at: usize| -> usize {
        let live = tensors.iter().filter(|tensor| (tensor.first..=tensor.last).contains(&at));
        live.map(|tensor| tensor.bytes).sum()
    };
    tensors.iter().map(|tensor| used(tensor.first)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_share_a_buffer_only_one_after_the_other() {
        let tensors: Vec<Lifetime> =
            [(100, 0, 1), (60, 1, 2), (80, 2, 3), (60, 0, 3), (10, 3, 3), (20, 4, 5)]
                .map(|(bytes, first, last)| Lifetime { bytes, first, last })
                .into();
        let sharing = Sharing::new(&tensors);
        for (i, a) in tensors.iter().enumerate() {
            assert!(sharing.sizes[sharing.buffer[i]] >= a.bytes);
            for (j, b) in tensors.iter().enumerate().skip(i + 1) {
                assert!(sharing.buffer[i] != sharing.buffer[j] || !a.overlaps(b), "{i} and {j}");
            }
        }
        // 100 + 60 + 60 at launch 1; the 80 takes the 100's place, the 10 the second 60's.
        assert_eq!((sharing.total(), least(&tensors)), (220, 220));
    }

    #[test]
    fn nothing_needs_no_memory() {
        assert_eq!((Sharing::new(&[]).total(), least(&[])), (0, 0));
    }
}
