//! Writing of sums to their positions in the output.

use super::axis::{Axis, Phase};
use super::kernel::LANES;
use super::stage::Piece;

/// The output rows of one piece and channel.
pub(super) struct Target<'a, 'v> {
    /// Axes of height and width.
    pub axes: [&'a Axis; 2],
    /// The piece that the rows belong to.
    pub piece: &'a Piece,
    /// Distance between the sums of two rows.
    pub row: usize,
    /// Distance between the sums of two positions: 1, or [`LANES`].
    pub position_stride: usize,
    /// The rows in the output.
    pub values: &'v mut [f32],
}

impl Target<'_, '_> {
    /// Writes the sums of a phase.
    pub(super) fn put(&mut self, [h_phase, w_phase]: [&Phase; 2], sums: &[f32]) {
        let ([h, w], row) = (self.axes, self.row);
        let count = w.count(w_phase.first, 0, w.positions());
        let rows = h.count(h_phase.first, self.piece.from, self.piece.to);
        let steps = h.output_step * w.output_step;
        if steps * self.position_stride == 1 && row == w.output {
            return self.values.copy_from_slice(&sums[..self.values.len()]);
        }
        for i in 0..rows {
            let line = (i * h.output_step + h_phase.first) * w.output;
            let line = &mut self.values[line..][..w.output];
            let sums = &sums[i * row..];
            if self.position_stride > 1 {
                let sums = sums[..count * LANES].chunks(LANES);
                if w.output_step == 1 {
                    line.iter_mut().zip(sums).for_each(|(target, sums)| *target = sums[0]);
                } else {
                    let targets = line.iter_mut().skip(w_phase.first).step_by(w.output_step);
                    targets.zip(sums).for_each(|(target, sums)| *target = sums[0]);
                }
                continue;
            }
            let sums = &sums[..count];
            match (w.output_step, sums.split_last()) {
                (1, _) => line.copy_from_slice(sums),
                (2, Some((last, sums))) => {
                    let line = &mut line[w_phase.first..];
                    for (targets, &sum) in line.as_chunks_mut::<2>().0.iter_mut().zip(sums) {
                        targets[0] = sum;
                    }
                    line[2 * sums.len()] = *last;
                }
                (step, _) => {
                    let targets = line.iter_mut().skip(w_phase.first).step_by(step);
                    targets.zip(sums).for_each(|(target, &sum)| *target = sum);
                }
            }
        }
    }
}
