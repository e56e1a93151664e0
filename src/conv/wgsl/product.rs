//! The product that the forward pass and the input gradient compute.

use super::ConvShape;
use super::params::{PhaseRecord, u32s};
use crate::kernels::layout::array_words;

/// Positions of the destination that use the same taps: position = `Product::step`·q + `start` for
/// q in `lattice`. Tap j of `taps` falls on `origin` + `Product::stride`·q + `Product::direction`·j
/// in the source, and is tap `window_first` + `window_step`·j of the window.
pub(super) struct Phase {
    pub(super) lattice: [usize; 3],
    pub(super) taps: [usize; 3],
    pub(super) origin: [i32; 3],
    pub(super) start: [usize; 3],
    window_first: usize,
    window_step: [isize; 3],
}

impl Phase {
    pub(super) fn tap_count(&self) -> usize {
        self.taps.iter().product()
    }

    /// Returns the index of each tap in the window, last axis fastest.
    fn window(&self) -> impl Iterator<Item = usize> {
        let [t, h, w] = self.taps;
        let taps =
            (0..t).flat_map(move |t| (0..h).flat_map(move |h| (0..w).map(move |w| [t, h, w])));
        let step = |tap: [usize; 3], axis: usize| tap[axis] as isize * self.window_step[axis];
        taps.map(move |tap| {
            let steps = (0..3).map(|axis| step(tap, axis)).sum();
            self.window_first.checked_add_signed(steps).expect("a tap is within the window")
        })
    }

    /// Returns the phase with its taps counted from the other end.
    fn reversed(self) -> Self {
        let last = |axis: usize| self.taps[axis].saturating_sub(1);
        let to_last = (0..3).map(|axis| last(axis) as isize * self.window_step[axis]).sum();
        Self {
            origin: std::array::from_fn(|axis| self.origin[axis] - last(axis) as i32),
            window_first: (self.window_first.checked_add_signed(to_last))
                .expect("the last tap is within the window"),
            window_step: self.window_step.map(|step| -step),
            ..self
        }
    }
}

/// A product dst[m, position] = Σ w[m, channel, tap] · src[channel, position + tap], for each
/// image.
pub(super) struct Product {
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) source: [usize; 3],
    pub(super) target: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) direction: i32,
    /// Distance between neighbouring lattice positions in the destination.
    pub(super) step: [usize; 3],
    pub(super) phases: Vec<Phase>,
    /// Elements of `w` between rows and between channels.
    pub(super) weight_strides: [usize; 2],
}

impl Product {
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let taps = shape.taps();
        Self {
            images: shape.batch,
            rows: shape.out_channels,
            channels: shape.in_channels,
            source: shape.input,
            target: shape.output(),
            stride: shape.stride,
            direction: 1,
            step: [1; 3],
            phases: vec![Phase {
                lattice: shape.output(),
                taps: shape.kernel,
                origin: shape.padding.map(|p| -(p as i32)),
                start: [0; 3],
                window_first: 0,
                window_step: row_major(shape.kernel).map(|step| step as isize),
            }],
            weight_strides: [shape.in_channels * taps, taps],
        }
    }

    /// Position v of `x` meets tap k of the window at output position (v + p − k) / s, if s divides
    /// v + p − k. All v with the same remainder r = (v + p) mod s meet the taps r, r + s, …
    pub(super) fn input_gradient(shape: &ConvShape) -> Self {
        let taps = shape.taps();
        let [st, sh, sw] = shape.stride;
        let mut phases = Vec::new();
        for index in 0..st * sh * sw {
            let start = [index / (sh * sw), index / sw % sh, index % sw];
            let axes = [0, 1, 2].map(|axis| {
                let (stride, padding) = (shape.stride[axis], shape.padding[axis]);
                let first = (start[axis] + padding) % stride;
                let lattice = shape.input[axis].saturating_sub(start[axis]).div_ceil(stride);
                let taps = shape.kernel[axis].saturating_sub(first).div_ceil(stride);
                (lattice, taps, ((start[axis] + padding) / stride) as i32, first)
            });
            if axes.iter().any(|axis| axis.0 == 0) {
                continue;
            }
            let tap_steps = row_major(shape.kernel);
            let first = axes.map(|axis| axis.3);
            phases.push(Phase {
                lattice: axes.map(|axis| axis.0),
                taps: axes.map(|axis| axis.1),
                origin: axes.map(|axis| axis.2),
                start,
                window_first: (0..3).map(|axis| first[axis] * tap_steps[axis]).sum(),
                window_step: std::array::from_fn(|axis| {
                    (shape.stride[axis] * tap_steps[axis]) as isize
                }),
            });
        }
        Self {
            images: shape.batch,
            rows: shape.in_channels,
            channels: shape.out_channels,
            source: shape.output(),
            target: shape.input,
            stride: [1; 3],
            direction: -1,
            step: shape.stride,
            phases,
            weight_strides: [taps, shape.in_channels * taps],
        }
    }

    /// Returns the same product with taps that ascend in the source.
    pub(super) fn ascending(mut self) -> Self {
        if self.direction < 0 {
            self.direction = 1;
            self.phases = self.phases.into_iter().map(Phase::reversed).collect();
        }
        self
    }

    /// Returns the number of elements of a plane of the destination.
    pub(super) fn target_plane(&self) -> usize {
        self.target.iter().product()
    }

    /// Returns the number of elements of the destination.
    pub(super) fn target_len(&self) -> usize {
        self.images * self.rows * self.target_plane()
    }

    /// Returns the index in the window of each tap of all phases.
    pub(super) fn window(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().flat_map(Phase::window)
    }

    /// Returns the number of columns of each phase.
    fn columns(&self) -> impl Iterator<Item = usize> {
        self.phases.iter().map(|phase| self.images * phase.lattice.iter().product::<usize>())
    }

    /// Returns the number of columns of the largest phase.
    pub(super) fn max_columns(&self) -> usize {
        self.columns().max().expect("a valid shape has at least one phase")
    }

    /// Checks whether one phase covers the whole destination.
    pub(super) fn is_one_phase(&self) -> bool {
        self.step == [1; 3]
    }

    /// Returns the phases as the shaders read them, for a source that starts at `low` and weights
    /// that are packed or read `in_place`.
    pub(super) fn phase_records(&self, low: [i32; 3], in_place: bool) -> Vec<u32> {
        let mut packed = 0;
        let plane = row_major(self.target);
        let records = self.phases.iter().zip(self.columns()).map(|(phase, columns)| {
            let tap_count = phase.tap_count();
            let (first_tap, tap_step) = match in_place {
                true => (phase.window_first, phase.window_step.map(isize::unsigned_abs)),
                false => (packed, row_major(phase.taps)),
            };
            packed += tap_count;
            PhaseRecord {
                lattice: u32s(phase.lattice),
                columns: columns as u32,
                taps: u32s(phase.taps),
                first_tap: first_tap as u32,
                origin: std::array::from_fn(|axis| phase.origin[axis] - low[axis]),
                dst_start: (0..3).map(|axis| phase.start[axis] * plane[axis]).sum::<usize>() as u32,
                tap_step: u32s(tap_step),
                tap_count: tap_count as u32,
            }
        });
        array_words(records)
    }
}

/// Returns the row-major strides of an array of this size.
pub(super) fn row_major([_, h, w]: [usize; 3]) -> [usize; 3] {
    [h * w, w, 1]
}
