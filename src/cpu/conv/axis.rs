//! One axis of a convolution, seen from the side that is written.
//!
//! Forward and input gradient are the same computation: every output gathers the sources under its
//! taps. Forward, output o under tap a reads source o·s − p + a. In the input gradient, `x[i]`
//! gathers `dy[(i + p − a) / s]` over the taps that divide evenly, so the outputs fall into s
//! phases with taps of their own, and within a phase the step is 1 again.
//!
//! The sources are staged in planes, so that every tap of a phase is one plane at one shift:
//! output i of a phase reads position i + shift of the tap's plane, and position q of a plane is
//! source start + q·step. With that, a stride costs nothing in the inner loops.

use std::ops::Range;

/// A tap within a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// Position in the kernel.
    pub index: usize,
    /// Which of [`Axis::planes`] it reads.
    pub plane: usize,
    /// Where in the plane output 0 reads.
    pub shift: usize,
}

/// The outputs `first`, `first + step`, … that have the same taps.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    /// First output of the phase.
    pub first: usize,
    /// Taps that reach it, in rising order of kernel index.
    pub taps: Vec<Tap>,
}

/// Positions that the padding takes the same taps from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classes {
    /// The class of each position.
    pub of: Vec<usize>,
    /// Per class and phase, which of the phase's taps fall into the source.
    pub taps: Vec<Vec<Range<usize>>>,
}

/// The plan for one axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Length of the source.
    pub source: usize,
    /// Length of the output.
    pub output: usize,
    /// Step between the outputs of one phase, which is the number of phases.
    pub output_step: usize,
    /// Step between neighbouring positions of a plane in the source.
    pub source_step: usize,
    /// Source index of each plane's position 0; may lie outside the source.
    pub planes: Vec<isize>,
    /// By how much a plane is longer than the outputs it serves: the largest shift.
    pub reach: usize,
    /// One per residue of the output index modulo `output_step`.
    pub phases: Vec<Phase>,
}

impl Axis {
    /// The forward direction: `output` positions, each reading `kernel` taps of a source of length
    /// `source`.
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

    /// The input gradient's direction: the source is dy of length `source`, the output is dx of
    /// length `output`.
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

    /// Number of positions within a phase, those of the longest phase.
    pub(super) fn positions(&self) -> usize {
        self.output.div_ceil(self.output_step)
    }

    /// Outputs of phase `phase` among positions `from..to`.
    pub(super) fn count(&self, phase: usize, from: usize, to: usize) -> usize {
        let all = self.output.saturating_sub(phase).div_ceil(self.output_step);
        to.min(all).saturating_sub(from)
    }

    /// The taps that reach a given output, each with the source index it reads; taps that fall into
    /// the padding are left out.
    pub(super) fn taps_of(&self, output: usize) -> Vec<(usize, usize)> {
        let position = output / self.output_step;
        let inside = |tap: &Tap| {
            let source = (position + tap.shift) * self.source_step;
            let source = self.planes[tap.plane] + source as isize;
            self.is_inside(position, tap).then_some((tap.index, source.unsigned_abs()))
        };
        self.phases[output % self.output_step].taps.iter().filter_map(inside).collect()
    }

    /// Whether a tap falls into the source at a position.
    fn is_inside(&self, position: usize, tap: &Tap) -> bool {
        let source = self.planes[tap.plane] + ((position + tap.shift) * self.source_step) as isize;
        usize::try_from(source).is_ok_and(|source| source < self.source)
    }

    /// The classes of all positions.
    pub(super) fn classes(&self) -> Classes {
        let mut classes = Classes { of: Vec::new(), taps: Vec::new() };
        for position in 0..self.positions() {
            // Those inside are neighbours, for taps are in order.
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

    /// One class with all taps.
    pub(super) fn one_class(&self) -> Classes {
        let taps = self.phases.iter().map(|phase| 0..phase.taps.len()).collect();
        Classes { of: vec![0; self.positions()], taps: vec![taps] }
    }

    /// The distinct (plane, shift) that taps read, in rising order.
    pub(super) fn views(&self) -> Vec<(usize, usize)> {
        let taps = self.phases.iter().flat_map(|phase| &phase.taps);
        let mut views: Vec<_> = taps.map(|tap| (tap.plane, tap.shift)).collect();
        views.sort_unstable();
        views.dedup();
        views
    }

    /// Whether the source can be read as it is: output i reads source i and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.planes == [0] && self.source_step * self.output_step == 1 && self.reach == 0
    }
}
