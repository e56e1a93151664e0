//! Lets tensors that are not in use at the same time share a buffer.

use std::cmp::Reverse;

/// A tensor's size and the first and last launch that use it.
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

/// An assignment of tensors to shared buffers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Size of each buffer in bytes.
    pub sizes: Vec<usize>,
    /// Index of each tensor's buffer.
    pub buffer: Vec<usize>,
}

impl Sharing {
    /// Assigns the largest tensors first ("greedy by size for shared objects" of Pisarchyk and Lee 2020,
    /// "Efficient Memory Management for Deep Neural Net Inference"). Tensors of equal size, of which a
    /// network has many, are taken in order or by lifetime, longest first: whichever takes less memory.
    pub(super) fn new(tensors: &[Lifetime]) -> Self {
        let by_size = |of_equals: fn(&Lifetime) -> usize| {
            let mut order: Vec<usize> = (0..tensors.len()).collect();
            order.sort_by_key(|&at| Reverse((tensors[at].bytes, of_equals(&tensors[at]))));
            Self::in_order(tensors, &order)
        };
        let (first, longest) = (by_size(|_| 0), by_size(|tensor| tensor.last - tensor.first));
        if longest.total() < first.total() { longest } else { first }
    }

    /// Assigns each tensor a buffer that no tensor with an overlapping lifetime uses. `order` must be by
    /// decreasing size.
    fn in_order(tensors: &[Lifetime], order: &[usize]) -> Self {
        let mut users: Vec<Vec<usize>> = Vec::new();
        let mut buffer = vec![0; tensors.len()];
        for &tensor in order {
            let is_free = |users: &Vec<usize>| {
                !users.iter().any(|&user| tensors[user].overlaps(&tensors[tensor]))
            };
            // The last free buffer is the smallest.
            let chosen = users.iter().rposition(is_free).unwrap_or_else(|| {
                users.push(Vec::new());
                users.len() - 1
            });
            users[chosen].push(tensor);
            buffer[tensor] = chosen;
        }
        // The first user is the largest.
        let sizes = users.iter().map(|users| tensors[users[0]].bytes).collect();
        Self { sizes, buffer }
    }

    /// Returns the total size of the buffers in bytes.
    pub(super) fn total(&self) -> usize {
        self.sizes.iter().sum()
    }
}

/// Returns the peak number of bytes in use at the same time, a lower bound for any sharing.
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
    fn only_tensors_with_disjoint_lifetimes_share_a_buffer() {
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
