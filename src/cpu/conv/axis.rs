//! One axis of a convolution, described from the side that is written.
//!
//! The forward pass and the input gradient are the same computation: every output gathers the
//! sources under its taps. In the forward pass, output o reads source o·s − p + a under tap a. In
//! the input gradient, `x[i]` gathers `dy[(i + p − a) / s]` over the taps for which the division is
//! exact, so the outputs fall into s phases with different taps, and within a phase the step is 1
//! again.
//!
//! The sources are staged in planes, so that every tap of a phase reads one plane at one shift:
//! output i of a phase reads position i + shift of the tap's plane, and position q of a plane is
//! source start + q·step. As a result, a stride costs nothing in the inner loops.

use std::ops::Range;

/// A tap within a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// Index of the tap in the kernel.
    pub index: usize,
    /// Index of the plane that it reads, in [`Axis::planes`].
    pub plane: usize,
    /// Position in the plane that output 0 reads.
    pub shift: usize,
}

/// The outputs `first`, `first + output_step`, …, which have the same taps.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    /// First output of the phase.
    pub first: usize,
    /// Taps that reach its outputs, in ascending order of kernel index.
    pub taps: Vec<Tap>,
}

/// Classes of positions for which the same taps fall into the padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classes {
    /// The class of each position.
    pub of: Vec<usize>,
    /// Per class and phase, the range of the phase's taps that fall inside the source.
    pub taps: Vec<Vec<Range<usize>>>,
}

/// The plan for one axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Length of the source.
    pub source: usize,
    /// Length of the output.
    pub output: usize,
    /// Step between the outputs of one phase, which equals the number of phases.
    pub output_step: usize,
    /// Step between neighbouring positions of a plane in the source.
    pub source_step: usize,
    /// Source index of each plane's position 0; may lie outside the source.
    pub planes: Vec<isize>,
    /// Number of positions by which a plane is longer than a phase: the largest shift.
    pub reach: usize,
    /// Phases, one per residue of the output index modulo `output_step`.
    pub phases: Vec<Phase>,
}

impl Axis {
    /// Plans the forward direction: `output` positions, each reading `kernel` taps of a source of
    /// length `source`.
    pub(super) fn forward(
        source: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        let tap = |index| Tap { index, plane: index % stride, shift: index / stride };
        let start = |plane| plane as isize - padding as isize;
        Self {
            source,
            output,
            output_step: 1,
            source_step: stride,
            planes: (0..stride.min(kernel)).map(start).collect(),
            reach: (kernel - 1) / stride,
            phases: vec![Phase { first: 0, taps: (0..kernel).map(tap).collect() }],
        }
    }

    /// Plans the direction of the input gradient: the source is dy of length `source`, the output
    /// is dx of length `output`.
    pub(super) fn transposed(
        source: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        // Source index that output `first` of a phase reads under a tap.
        let start = |first: usize, index: usize| -> Option<isize> {
            let distance = (first + padding) as isize - index as isize;
            (distance % stride as isize == 0).then_some(distance / stride as isize)
        };
        let starts =
            || (0..stride).flat_map(|first| (0..kernel).filter_map(move |i| start(first, i)));
        let bounds = starts().min().zip(starts().max());
        let (lowest, highest) = bounds.expect("every tap reaches the outputs of some phase");
        let phase = |first| {
            let tap = |index| {
                let shift = (start(first, index)? - lowest) as usize;
                Some(Tap { index, plane: 0, shift })
            };
            Phase { first, taps: (0..kernel).filter_map(tap).collect() }
        };
        Self {
            source,
            output,
            output_step: stride,
            source_step: 1,
            planes: vec![lowest],
            reach: (highest - lowest) as usize,
            phases: (0..stride).map(phase).collect(),
        }
    }

    /// Returns the number of positions of the longest phase.
    pub(super) fn positions(&self) -> usize {
        self.output.div_ceil(self.output_step)
    }

    /// Returns the number of outputs of phase `phase` among positions `from..to`.
    pub(super) fn count(&self, phase: usize, from: usize, to: usize) -> usize {
        let all = self.output.saturating_sub(phase).div_ceil(self.output_step);
        to.min(all).saturating_sub(from)
    }

    /// Returns the taps that reach a given output, each with the source index that it reads,
    /// without taps that fall into the padding.
    pub(super) fn taps_of(&self, output: usize) -> Vec<(usize, usize)> {
        let position = output / self.output_step;
        let inside = |tap: &Tap| {
            let source = (position + tap.shift) * self.source_step;
            let source = self.planes[tap.plane] + source as isize;
            self.is_inside(position, tap).then_some((tap.index, source.unsigned_abs()))
        };
        self.phases[output % self.output_step].taps.iter().filter_map(inside).collect()
    }

    /// Returns whether a tap falls inside the source at a position.
    fn is_inside(&self, position: usize, tap: &Tap) -> bool {
        let source = self.planes[tap.plane] + ((position + tap.shift) * self.source_step) as isize;
        usize::try_from(source).is_ok_and(|source| source < self.source)
    }

    /// Returns the classes of all positions.
    pub(super) fn classes(&self) -> Classes {
        let mut classes = Classes { of: Vec::new(), taps: Vec::new() };
        for position in 0..self.positions() {
            // Taps are ordered, so those inside the source are contiguous.
            let inside = |phase: &Phase| {
                let inside = |tap: &Tap| self.is_inside(position, tap);
                let first = phase.taps.iter().position(inside);
                let last = phase.taps.iter().rposition(inside);
                first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
            };
            let taps: Vec<_> = self.phases.iter().map(inside).collect();
            let class = classes.taps.iter().position(|other| *other == taps);
            classes.of.push(class.unwrap_or(classes.taps.len()));
            if class.is_none() {
                classes.taps.push(taps);
            }
        }
        classes
    }

    /// Returns a single class for all positions, with all taps.
    pub(super) fn one_class(&self) -> Classes {
        let taps = self.phases.iter().map(|phase| 0..phase.taps.len()).collect();
        Classes { of: vec![0; self.positions()], taps: vec![taps] }
    }

    /// Returns the distinct pairs (plane, shift) that taps read, in ascending order.
    pub(super) fn views(&self) -> Vec<(usize, usize)> {
        let taps = self.phases.iter().flat_map(|phase| &phase.taps);
        let mut views: Vec<_> = taps.map(|tap| (tap.plane, tap.shift)).collect();
        views.sort_unstable();
        views.dedup();
        views
    }

    /// Returns whether the source can be read unstaged, because output i reads source i only.
    pub(super) fn is_plain(&self) -> bool {
        self.planes == [0] && self.source_step * self.output_step == 1 && self.reach == 0
    }
}
