//! The positions of decoded frames in the output.

/// The requested frames by index; a frame may be requested at several positions.
pub(super) struct Requested {
    /// Frame indices in ascending order.
    frames: Vec<usize>,
    /// Position of each of these frames in the output.
    positions: Vec<usize>,
}

impl Requested {
    /// Creates the requests: frame `frames[i]` is requested at position `i`.
    pub(super) fn new(frames: &[usize]) -> Self {
        let mut positions: Vec<usize> = (0..frames.len()).collect();
        positions.sort_by_key(|&position| frames[position]);
        Self { frames: positions.iter().map(|&position| frames[position]).collect(), positions }
    }

    /// Returns the positions of a frame, ascending; empty if it is not requested.
    pub(super) fn positions(&self, frame: usize) -> &[usize] {
        let from = self.frames.partition_point(|&n| n < frame);
        let to = self.frames.partition_point(|&n| n <= frame);
        &self.positions[from..to]
    }

    /// Returns the first and the last requested frame.
    pub(super) fn ends(&self) -> Option<(usize, usize)> {
        Some((*self.frames.first()?, *self.frames.last()?))
    }
}
